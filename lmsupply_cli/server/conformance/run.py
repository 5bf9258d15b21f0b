"""All checks against one server."""

from __future__ import annotations

from collections.abc import Iterator

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.server.conformance import chat, others
from lmsupply_cli.server.conformance.check import Check, Result, run_check
from lmsupply_cli.server.conformance.client import Client

TABLES = (chat.table, others.completions, others.responses, others.anthropic, others.ollama)


def all_checks() -> list[Check]:
    """In order."""
    return [check for table in TABLES for check in table.checks]


def run_checks(client: Client) -> Iterator[Result]:
    """Each result when it is there. An API without its first endpoint is absent as a whole. Raises ServerUnreachable."""
    absent = ""
    for check in all_checks():
        if check.api == absent:
            yield Result(check.api, check.name, check.request, check.expected, "absent", "no such endpoint")
            continue
        result = run_check(check, client)
        first = next(one for one in all_checks() if one.api == check.api)
        if result.outcome == "absent" and check is first and check.api != chat.table.api:
            absent = check.api
        yield result


def first_model(url: str, *, key: str = "") -> str:
    """A model that the server lists. Raises ServerUnreachable, LmsupplyError."""
    reply = Client(url, "", key).get("/v1/models")
    try:
        names = [str(row["id"]) for row in reply.json["data"]]
    except (ValueError, KeyError, TypeError):
        names = []
    if not names:
        raise LmsupplyError(f"{url} lists no models: {reply.short()}", hint="name a model")
    return names[0]

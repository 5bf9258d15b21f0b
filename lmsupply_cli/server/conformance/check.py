"""One row of the table: a request, what must happen, and what happened."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

from lmsupply_cli.server.conformance.client import Client, Reply

Outcome = Literal["pass", "fail", "absent"]


class Mismatch(Exception):
    """What happened is not what must happen."""


class Absent(Exception):
    """The server has no such endpoint."""


@dataclass(frozen=True, slots=True)
class Check:
    """`request` and `expected` are for people; `run` raises Mismatch with what happened."""

    api: str
    name: str
    request: str
    expected: str
    run: Callable[[Client], None]


@dataclass(frozen=True, slots=True)
class Result:
    """`happened`: "as expected", or what happened instead."""

    api: str
    name: str
    request: str
    expected: str
    outcome: Outcome
    happened: str

    def as_dict(self) -> dict[str, str]:
        """JSON values."""
        return asdict(self)


class Table:
    """Checks of one API, in the order in which they are written."""

    def __init__(self, api: str) -> None:
        self.api = api
        self.checks: list[Check] = []

    def check(self, request: str, expected: str) -> Callable[[Callable[[Client], None]], Callable[[Client], None]]:
        """Adds a function as a check, which its name names."""

        def add(run: Callable[[Client], None]) -> Callable[[Client], None]:
            self.checks.append(Check(self.api, run.__name__, request, expected, run))
            return run

        return add


def run_check(check: Check, client: Client) -> Result:
    """Raises ServerUnreachable."""
    outcome: Outcome = "pass"
    happened = "as expected"
    try:
        check.run(client)
    except Mismatch as error:
        outcome, happened = "fail", str(error)
    except Absent as error:
        outcome, happened = "absent", str(error)
    except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
        outcome, happened = "fail", f"an answer of another form: {type(error).__name__}: {error}"
    return Result(check.api, check.name, check.request, check.expected, outcome, happened)


def expect(condition: object, happened: str) -> None:
    """Raises Mismatch."""
    if not condition:
        raise Mismatch(happened)


def ok(reply: Reply) -> Any:
    """The JSON of an answer that must be 200. Raises Mismatch, Absent."""
    present(reply)
    expect(reply.status == 200, reply.short())
    return reply.json


def present(reply: Reply) -> Reply:
    """Raises Absent for an endpoint that is not there."""
    named = b"model" in reply.body.lower()
    if reply.status in (405, 501) or (reply.status == 404 and not named):
        raise Absent(reply.short())
    return reply


def refused(reply: Reply, *, names: str = "", code: str = "", status: Iterable[int] = (400, 422)) -> None:
    """An error with one of the statuses, whose text names `names`. Raises Mismatch, Absent."""
    present(reply)
    expect(reply.status in status, f"not refused: {reply.short()}")
    body = reply.json
    expect(isinstance(body, dict) and "error" in body, f"no error object: {reply.short()}")
    text = json.dumps(body)
    expect(names in text, f"the error does not name {names}: {reply.short()}")
    expect(code in text, f"the error has no code {code}: {reply.short()}")


def has(values: Any, *keys: str) -> None:
    """An object with the keys. Raises Mismatch."""
    expect(isinstance(values, dict), f"no object: {str(values)[:100]}")
    missing = [key for key in keys if key not in values]
    expect(not missing, f"{', '.join(missing)} missing")

"""`lmsupply serve --self-test`: does a server keep what its API promises?"""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from lmsupply_cli.cli.context import Context
from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.render.style import Style, paint
from lmsupply_cli.server.conformance.check import Outcome, Result
from lmsupply_cli.server.conformance.client import Client, ServerUnreachable
from lmsupply_cli.server.conformance.run import all_checks, first_model, run_checks

_START_S = 60.0
_MARKS: Mapping[Outcome, tuple[str, Style]] = {"pass": ("✓", "good"), "fail": ("✗", "bad"), "absent": ("–", "aside")}


def self_test(context: Context, *, url: str, models: Sequence[str], key: str, as_json: bool) -> bool:
    """Whether no check failed. `url`: of the server, "" for one that is started for the test with the only one of
    `models`, by default the guide. Raises LmsupplyError."""
    if len(models) > 1:
        raise UsageError("--self-test takes only one model", hint="name one model")
    if url:
        return _report(context, Client(url, models[0] if models else first_model(url, key=key), key), as_json=as_json)
    model = models[0] if models else "guide"
    with _own_server(model) as own:
        return _report(context, Client(own, model, key), as_json=as_json)


def _report(context: Context, client: Client, *, as_json: bool) -> bool:
    terminal, results = context.terminal, list[dict[str, str]]()
    outcomes: Counter[str] = Counter()
    status, total = terminal.status(), len(all_checks())
    api = ""
    for number, result in enumerate(run_checks(client), 1):
        outcomes[result.outcome] += 1
        results.append(result.as_dict())
        if as_json:
            status.show(f"{number} of {total} checks …")
            continue
        if result.api != api:
            api = result.api
            terminal.styled(paint(api, "heading", terminal.stdout))
        for line in _lines(context, result):
            terminal.styled(line)
    status.clear()
    if as_json:
        terminal.json({"url": client.url, "model": client.model, "checks": results})
    said = ", ".join(f"{outcomes[kind]} {word}" for kind, word in _WORDS.items() if outcomes[kind])
    terminal.say(f"{client.url}, model {client.model}: {said}")
    return not outcomes["fail"]


_WORDS = {"pass": "passed", "fail": "failed", "absent": "absent"}


def _lines(context: Context, result: Result) -> Iterator[str]:
    mark, style = _MARKS[result.outcome]
    stream = context.terminal.stdout
    yield f"  {paint(mark, style, stream)} {result.request}"
    if result.outcome != "absent":
        yield paint(f"      must: {result.expected}", "aside", stream)
    if result.outcome == "fail":
        yield f"      {paint('did:  ' + result.happened, 'bad', stream)}"


@contextmanager
def _own_server(model: str) -> Iterator[str]:
    """A server of this program on a free port, which says where it listens in its first line. Raises LmsupplyError."""
    command = [sys.executable, "-m", "lmsupply_cli", "serve", model, "--port", "0"]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        yield _url(process)
    finally:
        process.terminate()
        process.communicate()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stderr
    lines, until = [], time.monotonic() + _START_S
    for line in process.stderr:
        lines.append(line.strip())
        found = next((word.rstrip(";,") for word in line.split() if word.startswith("http://")), "")
        if found and _answers(found, until):
            return found
    raise LmsupplyError("the server did not start: " + " ".join(lines)[:300])


def _answers(url: str, until: float) -> bool:
    while time.monotonic() < until:
        try:
            return Client(url, "").get("/health").status == 200
        except ServerUnreachable:
            time.sleep(0.05)
    return False

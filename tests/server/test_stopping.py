"""Where a server listens, and how it stops: running answers finish, a second signal does not wait for them."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from lmsupply_cli.errors import UsageError
from lmsupply_cli.server.run import listen, url_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals")
TESTS = Path(__file__).parents[1]
STREAM = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "stream": True}


@contextmanager
def server(kind: str) -> Iterator[subprocess.Popen[str]]:
    variables = {**os.environ, "PYTHONPATH": str(TESTS)}
    command = [sys.executable, "-m", "support.stoppable_server", kind]
    with subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


@contextmanager
def streaming(url: str) -> Iterator[Iterator[str]]:
    """The lines of an answer, of which the first word has come."""
    with httpx2.stream("POST", f"{url}/v1/chat/completions", json=STREAM, timeout=60) as reply:
        lines = reply.iter_lines()
        while "first" not in next(lines):
            continue
        yield lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_running_answer_finishes(number: signal.Signals) -> None:
    with server("finishing") as process, streaming(line(process)) as lines:
        process.send_signal(number)
        rest = "".join(lines)
        assert "last" in rest
        assert rest.endswith("data: [DONE]")
        assert [line(process) for _ in range(4)] == ["stopping", "closing", "cancelled", "closing"]
        assert line(process) == str(int(number))


def test_a_second_signal_ends_it_at_once() -> None:
    with server("endless") as process, streaming(line(process)):
        process.send_signal(signal.SIGINT)
        assert [line(process), line(process)] == ["stopping", "closing"]
        process.send_signal(signal.SIGINT)
        assert line(process) == "killed"
        out, err = process.communicate(timeout=60)
        assert out.split()[-1] == str(int(signal.SIGINT))
        assert err == "", "nobody is told of what the user wanted"


def test_a_signal_while_models_are_loaded() -> None:
    with server("loading") as process:
        assert line(process) == "loading"
        process.send_signal(signal.SIGTERM)
        assert [line(process), line(process)] == ["closing", str(int(signal.SIGTERM))]


def test_a_client_that_leaves_ends_its_answer() -> None:
    with server("endless") as process:
        with streaming(line(process)):
            pass
        assert line(process) == "cancelled"


# where a server listens


@pytest.mark.parametrize(
    ("host", "url"),
    [("127.0.0.1", "http://127.0.0.1:"), ("localhost", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:")],
)
def test_where_a_client_finds_it(host: str, url: str) -> None:
    with contextlib.closing(listen(host, 0)) as bound:
        assert url_of(bound).startswith(url)


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_all_addresses_of_both_kinds() -> None:
    with contextlib.closing(listen("::", 0)) as bound:
        bound.listen()
        port = bound.getsockname()[1]
        assert url_of(bound) == f"http://[::1]:{port}"
        socket.create_connection(("127.0.0.1", port)).close()


@pytest.mark.parametrize("host", ["192.0.2.1", "a b", "\udc80"])
def test_addresses_that_this_machine_does_not_have(host: str) -> None:
    with pytest.raises(UsageError, match="cannot listen on"):
        listen(host, 0)

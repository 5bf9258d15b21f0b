"""A check that cannot fail is none: each is tried on a server that does not care."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from lmsupply_cli.errors import UsageError
from lmsupply_cli.server.conformance.check import Absent, Check, Mismatch, run_check
from lmsupply_cli.server.conformance.client import Client, Reply, ServerUnreachable
from lmsupply_cli.server.conformance.run import all_checks, first_model, run_checks

CARELESS = {
    "id": "1", "object": "chat.completion", "created": 1, "created_at": 1, "model": "m", "output": [], "type": "message",
    "role": "assistant", "content": [{"type": "text", "text": "Sure, here you are, one two three"}], "stop_reason": "end_turn",
    "stop_sequence": None, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "status": "completed",
    "choices": [{"index": 0, "text": "Sure, here you are, one two three", "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "Sure, here you are, one two three"}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 9, "total_tokens": 14, "input_tokens": 5, "output_tokens": 9},
    "message": {"content": "Sure"}, "done": True, "done_reason": "stop", "eval_count": 9, "response": "Sure",
    "capabilities": [], "models": [], "data": [{"id": "m"}],
}  # fmt: skip
# what a server that answers everything with the same text does right
FINE = {
    "answer", "content_parts", "developer_role", "greedy", "tool_none", "tool_result", "hang_up", "completion", "message",
    "generate",
}  # fmt: skip


class _Careless(BaseHTTPRequestHandler):
    """200 and the same JSON, whatever was asked."""

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = json.dumps(CARELESS).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class _Empty(_Careless):
    """404 for everything."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()


@pytest.fixture(params=[_Careless])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), request.param)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: f"{check.api}-{check.name}")
def test_a_server_that_does_not_care_fails(check: Check, url: str) -> None:
    result = run_check(check, Client(url, "m"))
    assert result.outcome == ("pass" if check.name in FINE else "fail"), result.happened
    assert (result.happened == "as expected") == (result.outcome == "pass")


@pytest.mark.parametrize("url", [_Empty], indirect=True)
def test_an_api_that_is_not_there_is_absent(url: str) -> None:
    found = Counter(result.outcome for result in run_checks(Client(url, "m")))
    assert set(found) <= {"absent", "fail"}
    assert found["absent"] > found["fail"]


def test_names_are_unique_and_every_check_says_what_must_happen() -> None:
    checks = all_checks()
    assert len({(check.api, check.name) for check in checks}) == len(checks)
    assert all(check.request and check.expected for check in checks)


def test_the_model_of_a_server(url: str) -> None:
    assert first_model(url) == "m"


def test_no_server_and_no_url() -> None:
    with pytest.raises(ServerUnreachable, match="does not answer"):
        first_model("http://127.0.0.1:9")
    with pytest.raises(UsageError, match="is not the URL"):
        Client("localhost:8000", "m")


def test_events_are_parsed_as_clients_parse_them() -> None:
    body = b': ping\n\nevent: a\ndata: {"x":\ndata: 1}\n\ndata: [DONE]\r\n\r\n'
    assert Reply(200, {}, body).events == [("a", {"x": 1}), ("", "[DONE]")]


def test_what_a_check_may_raise() -> None:
    def raises(error: Exception) -> Check:
        def run(client: Client) -> None:
            raise error

        return Check("api", "name", "request", "expected", run)

    client = Client("http://127.0.0.1:9", "m")
    assert run_check(raises(Mismatch("x")), client).outcome == "fail"
    assert run_check(raises(Absent("x")), client).outcome == "absent"
    assert run_check(raises(KeyError("x")), client).happened == "an answer of another form: KeyError: 'x'"

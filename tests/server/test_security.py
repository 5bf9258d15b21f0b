"""Who may ask the server: keys, host names, origins of pages, sizes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.api import client_of
from support.fake_models import FakeModels

from lmsupply_cli.server.app import make_app
from lmsupply_cli.server.security import HostCheck
from lmsupply_cli.server.state import ServerOptions, ServerState

CHAT = "/v1/chat/completions"
HELLO = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
PAGE = "https://evil.example"

# keys


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer s3cret"},
        {"authorization": "bearer s3cret"},
        {"x-api-key": "s3cret"},
        {"x-api-key": "other"},
        {"x-api-key": "wrong", "Authorization": "Bearer other"},
    ],
)
def test_a_key_opens_the_server(headers: dict[str, str]) -> None:
    client = client_of(api_keys=("s3cret", "other"))
    assert client.post(CHAT, json=HELLO, headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer s3cre"},
        {"Authorization": "Bearer s3cret2"},
        {"Authorization": "s3cret"},
        {"Authorization": "Basic s3cret"},
        {"x-api-key": ""},
        {"x-api-key": "S3CRET"},
        {"x-api-key": "s3cr\xe9t"},
    ],
)
def test_without_the_key_no_model_is_asked(headers: dict[str, str]) -> None:
    models = FakeModels()
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    reply = client_of(models, api_keys=("s3cret",)).post(CHAT, json=HELLO, headers=sent)  # type: ignore[arg-type]
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["error"]["code"] == "invalid_api_key"
    assert "s3cret" not in reply.text
    assert models.asked == []


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/v1/models", lambda body: body["error"]["message"]),
        ("/metrics", lambda body: body["error"]["message"]),
        ("/v1/messages", lambda body: (body["type"], body["error"]["type"])),
        ("/api/tags", lambda body: body["error"]),
        ("/nowhere", lambda body: body["error"]["message"]),
    ],
)
def test_every_path_needs_the_key_and_says_so_in_its_own_words(path: str, message: Any) -> None:
    reply = client_of(api_keys=("k",)).get(path)
    assert reply.status_code == 401
    assert message(reply.json())


def test_health_needs_no_key_and_says_nothing_about_models() -> None:
    reply = client_of(api_keys=("k",)).get("/health")
    assert reply.status_code == 200
    assert set(reply.json()) == {"status", "version"}


# host names


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:11535",
        "LOCALHOST",
        "localhost.",
        "127.0.0.1:11535",
        "127.0.0.2",
        "[::1]:11535",
        "a.localhost",
    ],
)
def test_loopback_is_always_allowed(host: str) -> None:
    assert client_of().get("/v1/models", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:11535", "localhost.evil.example", "127.0.0.1.evil.example", "evillocalhost",
     "192.168.1.7", "[2001:db8::1]", "localhost@evil.example", "", "localhost:80@evil.example", "127.0.0.1:x"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/models", "/health", "/"])
def test_a_page_that_makes_its_own_name_lead_here_is_refused(host: str, path: str) -> None:
    reply = client_of().get(path, headers={"Host": host})
    assert reply.status_code == 403
    assert "--allow-host" in reply.text


def test_rebinding_is_refused_before_any_work() -> None:
    models = FakeModels()
    reply = client_of(models).post(CHAT, json=HELLO, headers={"Host": "evil.example", "Origin": "http://evil.example"})
    assert reply.status_code == 403
    assert reply.json()["error"]["code"] == "host_not_allowed"
    assert models.asked == []


def test_named_hosts_and_the_bound_address_are_allowed() -> None:
    client = client_of(hosts=("ai.example.com", "192.168.1.7"))
    assert client.get("/v1/models", headers={"Host": "AI.example.com:80"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "192.168.1.7:11535"}).status_code == 200
    assert client.get("/v1/models", headers={"Host": "192.168.1.8"}).status_code == 403
    assert client.get("/v1/models", headers={"Host": "b.ai.example.com"}).status_code == 403


def test_every_address_where_the_server_listens_on_all_but_no_name() -> None:
    check = HostCheck(lambda *_: None, hosts=("0.0.0.0",))  # type: ignore[arg-type,return-value]
    assert check.allows("192.168.1.7:11535")
    assert check.allows("[2001:db8::1]:11535")
    assert not check.allows("evil.example")
    assert HostCheck(lambda *_: None, hosts=("*",)).allows("evil.example")  # type: ignore[arg-type,return-value]


def test_two_host_headers_are_refused() -> None:
    sent = [("Host", "localhost"), ("Host", "evil.example")]
    assert client_of().get("/v1/models", headers=sent).status_code == 403


# pages


def preflight(client: Any, origin: str, headers: str = "authorization,content-type") -> Any:
    sent = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": headers}
    return client.options(CHAT, headers=sent)


def test_no_page_may_read_unless_its_origin_is_named() -> None:
    client = client_of()
    assert preflight(client, PAGE).status_code == 405
    for reply in (preflight(client, PAGE), client.get("/v1/models", headers={"Origin": PAGE})):
        assert not [name for name in reply.headers if name.startswith("access-control")]


def test_a_named_origin_may_and_no_other() -> None:
    client = client_of(cors=("http://localhost:3000",), api_keys=("k",))
    allowed = preflight(client, "http://localhost:3000")
    assert allowed.status_code == 200, "a preflight has no key"
    assert allowed.headers["access-control-allow-origin"] == "http://localhost:3000"
    assert "authorization" in allowed.headers["access-control-allow-headers"]
    for other in (PAGE, "http://localhost:3001", "https://localhost:3000", "null"):
        refused = preflight(client, other)
        assert refused.status_code == 400
        assert "access-control-allow-origin" not in refused.headers


def test_a_named_origin_reads_answers_and_errors() -> None:
    client = client_of(cors=("http://localhost:3000",), api_keys=("k",))
    sent = {"Origin": "http://localhost:3000"}
    assert client.post(CHAT, json=HELLO, headers=sent).headers["access-control-allow-origin"] == sent["Origin"]
    reply = client.post(CHAT, json=HELLO, headers=sent | {"x-api-key": "k"})
    assert reply.status_code == 200
    assert reply.headers["access-control-allow-origin"] == sent["Origin"]
    assert "x-request-id" in reply.headers["access-control-expose-headers"]
    assert "access-control-allow-credentials" not in reply.headers


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]
)
@pytest.mark.parametrize("page", [{"Origin": PAGE}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
def test_what_a_page_may_send_without_asking_starts_no_work(kind: str | None, page: dict[str, str]) -> None:
    models = FakeModels()
    sent = page | ({"Content-Type": kind} if kind else {})
    reply = client_of(models).post(CHAT, content=b'{"model": "tiny", "messages": []}', headers=sent)
    assert reply.status_code == 415
    assert models.asked == []


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", None])
def test_a_program_may_leave_out_the_type(kind: str | None) -> None:
    """curl -d sends a form."""
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}'
    assert client_of().post(CHAT, content=body, headers={"Content-Type": kind} if kind else {}).status_code == 200


def test_json_from_a_page_is_answered() -> None:
    sent = {"Origin": "app://desktop", "Content-Type": "application/json; charset=utf-8"}
    assert client_of().post(CHAT, json=HELLO, headers=sent).status_code == 200


# sizes


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/v1/responses", "/v1/completions"])
def test_a_body_beyond_the_limit_is_refused_by_its_length(path: str) -> None:
    reply = client_of(body_bytes=1000).post(path, content=b" " * 1001)
    assert reply.status_code == 413
    assert reply.headers["connection"] == "close"
    assert "larger than" in reply.text


def test_a_body_at_the_limit_is_read() -> None:
    body = b'{"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}'
    assert client_of(body_bytes=len(body)).post(CHAT, content=body).status_code == 200


def test_a_body_without_a_length_is_counted_while_it_arrives() -> None:
    sent = 0

    async def receive() -> dict[str, Any]:
        nonlocal sent
        sent += 1
        return {"type": "http.request", "body": b" " * 100, "more_body": True}

    replies: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        replies.append(message)

    scope = {
        "type": "http", "method": "POST", "path": CHAT, "raw_path": CHAT.encode(), "query_string": b"", "http_version": "1.1",
        "headers": [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")], "scheme": "http",
        "server": ("localhost", 80), "client": ("127.0.0.1", 1), "root_path": "",
    }  # fmt: skip
    app = make_app(ServerState(FakeModels(), ServerOptions(body_bytes=1000)))
    asyncio.run(app(scope, receive, send))  # type: ignore[arg-type]
    assert replies[0]["status"] == 413
    assert sent == 11, "no more is read than the limit, and one piece"


@pytest.mark.parametrize("length", ["9" * 30, "1e9", "-5", "²"])
def test_odd_lengths_are_no_way_around(length: str) -> None:
    sent = {"Content-Length": length.encode()}
    reply = client_of(body_bytes=1000).post(CHAT, content=b" " * 2000, headers=sent)  # type: ignore[arg-type]
    assert reply.status_code == 413


# what does not get out


def test_paths_are_no_models() -> None:
    client = client_of()
    for name in ("../../etc/passwd", "/etc/passwd", "~/x", "..%2f..%2fetc%2fpasswd"):
        assert client.get(f"/v1/models/{name}").status_code == 404
        assert client.post(CHAT, json=HELLO | {"model": name}).status_code == 404


def test_logs_hold_no_prompts_unless_wanted(caplog: pytest.LogCaptureFixture) -> None:
    secret = {"model": "tiny", "messages": [{"role": "user", "content": "my secret"}]}
    with caplog.at_level("INFO", logger="lmsupply.server"):
        client_of().post(CHAT, json=secret)
        assert caplog.text == ""
        client_of(log_requests=True).post(CHAT, json=secret)
        assert f"POST {CHAT} 200" in caplog.text
        assert "secret" not in caplog.text
        client_of(log_requests=True, log_prompts=True).post(CHAT, json=secret)
        assert "user: my secret" in caplog.text

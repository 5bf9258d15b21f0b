"""What the environment says of the way to the Hub: what is malformed ends in one line, at once, and nothing secret."""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.hub import Hub, Repo, local_hub

from lmsupply_cli.errors import HubError
from lmsupply_cli.hub.client import HubClient, Limits
from lmsupply_cli.hub.environment import CERTIFICATES
from lmsupply_cli.hub.retry import RetryPolicy

REPO = "someone/tiny"
CERTIFICATE = Path(__file__).parent.parent / "data" / "loopback.pem"  # a key for tests only, with its certificate


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    for name in (*CERTIFICATES, "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with local_hub() as hub:
        hub.repos[REPO] = Repo({"README.md": b"hello"})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def tree_of(waits: list[float] | None = None) -> str:
    policy = RetryPolicy(sleep=(waits if waits is not None else []).append)
    with HubClient(Limits(2, 0.5, 2), policy) as client:
        return client.fetch_tree(REPO).commit


def refusal() -> HubError:
    """The error of a first request, which comes without a wait and names nothing secret."""
    waits: list[float] = []
    with pytest.raises(HubError) as caught:
        tree_of(waits)
    assert waits == []
    error = caught.value
    assert "\n" not in error.message
    assert error.hint
    assert "SECRET" not in error.message + error.hint
    return error


ENDPOINTS = [
    "hf-mirror.example", "ftp://x.example", "file:///x", "http://[bad", "http://h:99999", "http://h:abc", "http://",
    "http://u:SECRET@h:port", "http://u:SECRET/x@h", "http://ho st", "http://h\x07", "http://" + "ä" * 70 + ".de",
]  # fmt: skip


@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_a_malformed_endpoint_is_named_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    assert refusal().message.startswith("HF_ENDPOINT is not the URL of a Hub: ")


def test_blanks_around_an_endpoint_do_no_harm(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", f" \ufeff{hub.url}/ \n")
    assert tree_of() == hub.repos[REPO].commit


def test_an_empty_endpoint_is_the_default(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", " ")
    with HubClient() as client:
        assert client.endpoint == "https://huggingface.co"


def test_a_user_in_the_endpoint_is_sent_and_never_shown(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url.replace("//", "//me:SEC%52ET@"))
    monkeypatch.setenv("HF_TOKEN", hub.token)
    with HubClient(policy=RetryPolicy(sleep=lambda _: None)) as client:
        assert client.endpoint == hub.url
        with pytest.raises(HubError):  # the Hub of the test knows its token only
            client.fetch_tree(REPO)
    assert hub.requests[0].authorization == "Basic bWU6U0VDUkVU"  # me:SECRET
    monkeypatch.setenv("HF_ENDPOINT", "http://me:SECRET@127.0.0.1:9")
    with pytest.raises(HubError) as caught:
        tree_of()
    assert caught.value.message.startswith("cannot reach 127.0.0.1:9: ")
    assert "SECRET" not in caught.value.message + caught.value.hint


PROXIES = [
    ("HTTPS_PROXY", "foo://u:SECRET@h"), ("HTTPS_PROXY", "http://u:SECRET@h:abc"), ("HTTP_PROXY", "http://h:99999"),
    ("ALL_PROXY", "http://"), ("https_proxy", "http://[::1"), ("HTTPS_PROXY", "http://u:S/SECRET@h:1"),
    ("HTTPS_PROXY", "h:SECRET"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), PROXIES)
def test_a_malformed_proxy_is_named_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    assert refusal().message.startswith(f"{name} is not the URL of a proxy: ")


def test_a_socks_proxy_without_its_package_is_said(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("ALL_PROXY", "socks5://h:1080")
    assert "socksio" in refusal().message


@pytest.mark.parametrize("token", ["hf_tökén", "hf_a b", "hf_a\x1bb"])
def test_a_malformed_token_is_named_at_once(hub: Hub, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    monkeypatch.setenv("HF_TOKEN", token)
    assert refusal().message.startswith("HF_TOKEN is not a token")


@pytest.mark.parametrize("around", ["{}\n", "\r\n{}\r\n", "\ufeff{} "])
def test_what_surrounds_a_token_is_left_out(hub: Hub, monkeypatch: pytest.MonkeyPatch, around: str) -> None:
    monkeypatch.setenv("HF_TOKEN", around.format(hub.token))
    tree_of()
    assert hub.requests[0].authorization == f"Bearer {hub.token}"


@pytest.fixture
def token_file(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    return tmp_path / "token"


def test_a_token_file(hub: Hub, token_file: Path) -> None:
    tree_of()
    assert hub.requests[0].authorization == ""
    token_file.write_bytes(b"\xef\xbb\xbf" + hub.token.encode() + b"\r\n")
    hub.requests.clear()
    tree_of()
    assert hub.requests[0].authorization == f"Bearer {hub.token}"


@pytest.mark.parametrize("data", [b"\xff\xfe", "hf_good".encode("utf-16"), "hf_tökén".encode()])
def test_a_token_file_that_holds_none_is_named(hub: Hub, token_file: Path, data: bytes) -> None:
    token_file.write_bytes(data)
    assert str(token_file) in refusal().message


def test_a_token_file_that_cannot_be_read_counts_where_it_was_asked_for(
    hub: Hub, token_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    token_file.mkdir()
    tree_of()
    assert hub.requests[0].authorization == ""
    monkeypatch.setenv("HF_TOKEN_PATH", str(token_file))
    assert refusal().message.startswith("HF_TOKEN_PATH names no file that can be read: ")


@pytest.mark.parametrize("name", ["HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_ETAG_TIMEOUT"])
def test_a_variable_that_the_hub_library_refuses_is_named(hub: Hub, tmp_path: Path, name: str) -> None:
    environment = {**os.environ, name: "abc", "LMSUPPLY_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "lmsupply_cli", "pull", REPO], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert f"{name} cannot be used" in done.stderr


@pytest.mark.parametrize("name", CERTIFICATES)
def test_certificates_that_are_none_are_named_at_once(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "nothing"))
    assert refusal().message.startswith(f"{name} names nothing that can be read: ")
    if name == "SSL_CERT_DIR":
        return
    (tmp_path / "text").write_text("no certificate")
    monkeypatch.setenv(name, str(tmp_path / "text"))
    assert refusal().message.startswith(f"{name} names a file without certificates: ")


@pytest.fixture
def https_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The same Hub behind TLS, with a certificate that nobody signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    for server in hub.servers:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    hub.url, hub.cdn = hub.url.replace("http:", "https:"), hub.cdn.replace("http:", "https:")
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    return hub


def test_a_certificate_that_is_not_trusted_is_said_at_once(https_hub: Hub) -> None:
    error = refusal()
    assert error.message.startswith("the certificate of 127.0.0.1:")
    assert "is not trusted: " in error.message
    assert all(name in error.hint for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"))


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_each_variable_for_certificates_is_read(https_hub: Hub, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, str(CERTIFICATE))
    assert tree_of() == https_hub.repos[REPO].commit

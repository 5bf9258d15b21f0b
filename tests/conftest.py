"""Every test has an environment of its own: no settings, no network, a home in a temporary folder."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

MODELS = Path(__file__).parent / "models"
SCRUBBED = (
    "LMSUPPLY_",
    "HF_",
    "HUGGINGFACE",
    "NO_COLOR",
    "XDG_",
    "COLUMNS",
    "LINES",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "SSL_CERT_",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "ORT_",
)
# a shell that starts the tests in the background ignores Ctrl-C, and so would every command that is run here
signal.signal(signal.SIGINT, signal.default_int_handler)
for name in list(os.environ):  # here, since servers that live for a whole module start before any test's own fixture
    if name.upper().startswith(SCRUBBED):
        del os.environ[name]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LMSUPPLY_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TERM", "xterm-256color")
    connect = socket.socket.connect

    def loopback_only(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "local"
        assert host in ("127.0.0.1", "::1", "localhost", "local"), f"a test tried to reach {host}"
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", loopback_only)


@pytest.fixture(scope="session")
def toy() -> Path:
    return MODELS / "toy"


@pytest.fixture(scope="session")
def guide() -> Path:
    import lmsupply_cli

    return Path(lmsupply_cli.__file__).parent / "builtin" / "guide"

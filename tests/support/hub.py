"""A small Hub on this machine: real HTTP, the protocol that the client speaks."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Repo:
    """`files`: path → content; `fault`: an HTTP status that every request for the repo gets."""

    files: dict[str, bytes]
    licence: str = "mit"
    fault: int = 0
    error_code: str = ""
    sizes: dict[str, int] = field(default_factory=dict)  # what the listing says instead of the truth

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


@dataclass
class Hub:
    url: str
    repos: dict[str, Repo] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)


@contextmanager
def local_hub() -> Iterator[Hub]:
    """Serve until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            self.answer(body=True)

        def do_HEAD(self) -> None:
            self.answer(body=False)

        def answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path).strip("/")
            hub.requests.append(f"{self.command} {path}")
            parts = path.split("/")
            name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
            repo = hub.repos.get(name)
            if repo is None:
                self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
            elif repo.fault:
                self.send(repo.fault, b"{}", {"X-Error-Code": repo.error_code}, body=body)
            elif parts[0] == "api" and "tree" in parts:
                self.json([self.row(path, data) for path, data in repo.files.items()], body=body)
            elif parts[0] == "api":
                if "revision" in parts and parts[-1] not in ("main", repo.commit):
                    self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, body=body)
                    return
                siblings = [
                    {"rfilename": path, "size": repo.sizes.get(path, len(data)), "blobId": blob(data)}
                    for path, data in repo.files.items()
                ]
                card = {"license": repo.licence} if repo.licence else {}
                self.json(
                    {"id": name, "sha": repo.commit, "siblings": siblings, "cardData": card, "gated": False}, body=body
                )
            else:
                data = repo.files.get("/".join(parts[4:]))
                if data is None:
                    self.send(404, b"", {"X-Error-Code": "EntryNotFound"}, body=body)
                else:
                    self.send(200, data, {"X-Repo-Commit": repo.commit, "ETag": f'"{blob(data)}"'}, body=body)

        def row(self, path: str, data: bytes) -> dict[str, object]:
            return {"type": "file", "path": path, "size": len(data), "oid": blob(data)}

        def json(self, value: object, *, body: bool) -> None:
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"}, body=body)

        def send(self, status: int, data: bytes, headers: dict[str, str], *, body: bool) -> None:
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(data))}).items():
                if value:
                    self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub = Hub(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def blob(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

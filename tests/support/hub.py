"""A Hub on this machine, with a CDN beside it and faults to order: real HTTP, the protocol that clients speak.

Large files (LFS) are answered with a redirect to the CDN and a signed address; listings come in
pages; every request is recorded.
"""

from __future__ import annotations

import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PAGE = 5  # rows of a tree listing
LFS_BYTES = 2000  # files from this size on are kept in LFS


@dataclass
class Fault:
    """What goes wrong, `times` times: at `where` (search, info, tree, resolve, cdn), for paths that hold `path`.

    kind: drop (close after `after` bytes) · reset (RST after `after` bytes) · stall (silence after
    `after` bytes) · corrupt (one byte changed) · status (answer `status`) · html (a login page) ·
    no_range (the whole file, whatever was asked) · short (announce and send less) · trickle ·
    circle (a redirect to itself) · hops (one redirect after the other) · endless (a body without an end) ·
    same_page, new_pages (a listing without an end) · body (answer `body`)
    """

    where: str
    kind: str
    path: str = ""
    times: int = 1
    after: int = 0
    status: int = 500
    silent_s: float = 2
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass
class Repo:
    """`files`: path → content. `sizes`: what the listing says instead of the truth.

    `info` and `rows` (path → values) are put over what the Hub says, `headers` (where → values) over its headers;
    a value None takes the key away.
    """

    files: dict[str, bytes]
    license: str = "mit"
    downloads: int = 0
    gated: bool = False
    private: bool = False
    sizes: dict[str, int] = field(default_factory=dict)
    odd_paths: list[str] = field(default_factory=list)
    info: dict[str, object] = field(default_factory=dict)
    rows: dict[str, dict[str, object]] = field(default_factory=dict)
    headers: dict[str, dict[str, str | None]] = field(default_factory=dict)

    @property
    def commit(self) -> str:
        return hashlib.sha1(repr(sorted(self.files.items())).encode()).hexdigest()


@dataclass(frozen=True)
class Request:
    where: str
    path: str
    range: str
    authorization: str


@dataclass
class Hub:
    url: str = ""
    cdn: str = ""
    token: str = "hf_good"
    repos: dict[str, Repo] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    served: int = 0  # bytes of bodies of files
    servers: list[ThreadingHTTPServer] = field(default_factory=list)
    pause: threading.Event | None = None  # ends the silence of a stalled answer sooner

    def of(self, where: str, path: str = "") -> list[Request]:
        return [r for r in self.requests if r.where == where and path in r.path]


@contextmanager
def local_hub() -> Iterator[Hub]:
    """Serve until the block ends."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            answer(self, hub)

        do_HEAD = do_GET  # noqa: N815

    for name in ("url", "cdn"):
        server = Server(("127.0.0.1", 0), Handler)
        setattr(hub, name, f"http://127.0.0.1:{server.server_address[1]}")
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        hub.servers.append(server)
    try:
        yield hub
    finally:
        for server in hub.servers:
            server.shutdown()
            server.server_close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news."""


def answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    port = request.server.server_address[1]
    url = urlsplit(request.path)
    parts = unquote(url.path).strip("/").split("/")
    where = (
        "cdn"
        if hub.cdn.endswith(f":{port}")
        else "resolve"
        if parts[0] != "api"
        else "tree"
        if "tree" in parts
        else "search"
        if parts == ["api", "models"]
        else "info"
    )
    headers = request.headers
    hub.requests.append(Request(where, "/".join(parts), headers.get("Range", ""), headers.get("Authorization", "")))
    fault = take_fault(hub, where, "/".join(parts))
    if fault and fault.kind == "status":
        send(request, fault.status, b"{}", fault.headers)
        return
    if fault and fault.kind in ("circle", "hops"):
        step = f"{url.path}?hop={len(hub.requests)}" if fault.kind == "hops" else request.path
        send(request, 307, b"", {"Location": step})
        return
    if fault and fault.kind == "endless":
        send_endlessly(request)
        return
    if fault and fault.kind == "body":
        send(request, 200, fault.body, fault.headers)
        return
    if fault and fault.kind == "html":
        send(request, 200, b"<html>please log in</html>", {"Content-Type": "text/html"})
        return
    if where == "cdn":
        repo, path = hub.repos["/".join(parts[:2])], "/".join(parts[2:])
        send_file(request, hub, repo.files[path], fault, over({}, repo.headers.get("cdn", {})))
        return
    if where == "search":
        send_search(request, hub, parse_qs(url.query), url.path, fault)
        return
    if len(parts) < 4 and parts[0] == "api":
        send(request, 404, b"{}", {})
        return
    name = "/".join(parts[2:4] if parts[0] == "api" else parts[:2])
    spelled = next((known for known in hub.repos if known.lower() == name.lower()), name)
    if spelled != name:
        send(request, 307, b"", {"Location": request.path.replace(name, spelled, 1)})
        return
    refused = refusal(hub, name, headers.get("Authorization", ""), where)
    if refused:
        send(request, refused[0], b"{}", {"X-Error-Code": refused[1]})
        return
    repo = hub.repos[name]
    if where == "info":
        revision = parts[parts.index("revision") + 1]
        if revision not in ("main", repo.commit):
            send(request, 404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        card = {"license": repo.license} if repo.license else {}
        info = {"id": name, "sha": repo.commit, "cardData": card, "gated": "auto" if repo.gated else False}
        body = json.dumps(over(info, repo.info)).encode()
        send_file(
            request,
            hub,
            body,
            fault,
            over({"Content-Type": "application/json"}, repo.headers.get("info", {})),
            count=False,
        )
    elif where == "tree":
        rows = [over(row(repo, path, data), repo.rows.get(path, {})) for path, data in sorted(repo.files.items())]
        rows += [{"type": "file", "path": path, "size": 1, "oid": "0" * 40} for path in repo.odd_paths]
        at = int(parse_qs(url.query).get("cursor", ["0"])[0])
        more = {}
        if at + PAGE < len(rows):
            more["Link"] = (
                f'<http://{headers.get("Host")}{url.path}?recursive=true&expand=false&cursor={at + PAGE}>; rel="next"'
            )
        if fault and fault.kind in ("same_page", "new_pages"):
            at = 0
            rows[0] = rows[0] | ({"path": f"page-{len(hub.requests)}"} if fault.kind == "new_pages" else {})
            more["Link"] = f'<{url.path}?cursor=0&n={len(hub.requests)}>; rel="next"'
        more = over(more, repo.headers.get("tree", {}))
        send_file(request, hub, json.dumps(rows[at : at + PAGE]).encode(), fault, more, count=False)
    else:
        path = "/".join(parts[4:])
        data = repo.files.get(path)
        if data is None:
            send(request, 404, b"", {"X-Error-Code": "EntryNotFound"})
        elif len(data) >= LFS_BYTES:
            signed = f"{hub.cdn}/{name}/{path}?signature={len(hub.requests)}"
            linked = {"X-Linked-Size": str(len(data)), "X-Linked-ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
            moved = {"Location": signed, "X-Repo-Commit": repo.commit, **linked}
            send(request, 302, b"", over(moved, repo.headers.get("resolve", {})))
        else:
            own = {"X-Repo-Commit": repo.commit, "ETag": f'"{blob(data)}"'}
            send_file(request, hub, data, fault, over(own, repo.headers.get("resolve", {})))


def send_search(
    request: BaseHTTPRequestHandler, hub: Hub, query: dict[str, list[str]], path: str, fault: Fault | None
) -> None:
    """Repos whose name contains the text, with a tag for their format, the most downloaded first, in pages."""
    words, tag = query.get("search", [""])[0].lower(), query.get("filter", [""])[0]
    named = [(name, repo) for name, repo in hub.repos.items() if words in name.lower() and not repo.private]
    tagged = [(name, repo) for name, repo in named if not tag or any(p.endswith(f".{tag}") for p in repo.files)]
    tagged.sort(key=lambda pair: -pair[1].downloads)
    at = int(query.get("cursor", ["0"])[0])
    rows = [
        {"id": name, "downloads": repo.downloads, "siblings": [{"rfilename": path} for path in repo.files]}
        for name, repo in tagged[at : at + PAGE]
    ]
    more = {}
    if at + PAGE < len(tagged):
        address = f"http://{request.headers.get('Host')}{path}?search={words}&filter={tag}&cursor={at + PAGE}"
        more["Link"] = f'<{address}>; rel="next"'
    send_file(request, hub, json.dumps(rows).encode(), fault, more, count=False)


def refusal(hub: Hub, name: str, authorization: str, where: str) -> tuple[int, str] | None:
    known = authorization == f"Bearer {hub.token}"
    if authorization and not known:
        return 401, ""
    repo = hub.repos.get(name)
    if repo is None or (repo.private and not known):
        return (404 if known else 401), "RepoNotFound"
    if repo.gated and where == "resolve":
        return (403 if known else 401), "GatedRepo"
    return None


def take_fault(hub: Hub, where: str, path: str) -> Fault | None:
    for fault in hub.faults:
        if fault.where == where and fault.path in path and fault.times > 0:
            fault.times -= 1
            return fault
    return None


def row(repo: Repo, path: str, data: bytes) -> dict[str, object]:
    size = repo.sizes.get(path, len(data))
    found: dict[str, object] = {"type": "file", "path": path, "size": size, "oid": blob(data)}
    if len(data) >= LFS_BYTES:
        found["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": size, "pointerSize": 130}
    return found


def send_file(
    request: BaseHTTPRequestHandler,
    hub: Hub,
    data: bytes,
    fault: Fault | None,
    headers: dict[str, str],
    *,
    count: bool = True,
) -> None:
    """The body, from the asked byte on, with what the fault does to it."""
    kind = fault.kind if fault else ""
    wanted = request.headers.get("Range", "")
    start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and kind != "no_range" else 0
    if kind == "corrupt":
        data = data[:-1] + bytes([data[-1] ^ 1])
    if kind == "short":
        data = data[: fault.after if fault else 0]
    body = data[start:]
    request.send_response(206 if start else 200)
    more = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
    for key, value in (more | {"Content-Length": str(len(body))} | headers).items():
        request.send_header(key, raw(value))
    request.end_headers()
    if request.command == "HEAD":
        return
    if fault and kind in ("drop", "reset", "stall"):
        body = body[: fault.after]
    if fault and kind == "trickle":
        for byte in body:
            request.wfile.write(bytes([byte]))
            request.wfile.flush()
            time.sleep(0.05)
        return
    for at in range(0, len(body), 1 << 16):
        request.wfile.write(body[at : at + (1 << 16)])
        hub.served += len(body[at : at + (1 << 16)]) if count else 0
    request.wfile.flush()
    if kind == "stall":
        (hub.pause or threading.Event()).wait(fault.silent_s if fault else 0)
    if kind == "reset":
        request.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if kind in ("drop", "reset", "stall"):
        request.close_connection = True
        request.connection.close()


def send(request: BaseHTTPRequestHandler, status: int, data: bytes, headers: dict[str, str]) -> None:
    request.send_response(status)
    for key, value in (headers | {"Content-Length": str(len(data))}).items():
        if value:
            request.send_header(key, raw(value))
    request.end_headers()
    request.wfile.write(data)


def send_endlessly(request: BaseHTTPRequestHandler) -> None:
    request.send_response(200)
    request.end_headers()
    request.close_connection = True
    while True:  # until the client goes away
        request.wfile.write(b" " * (1 << 16))


def over(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in (values | dict(changes)).items() if value is not None or key not in changes}


def raw(value: str) -> str:
    """Any text as the bytes of a header, in the letters that http.server writes."""
    return value.encode("utf-8", "surrogatepass").decode("latin-1")


def blob(data: bytes) -> str:
    """Git's name of a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

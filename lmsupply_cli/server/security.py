"""Who may ask the server: hosts, keys, origins, and the size of a request. ASGI middleware that looks at headers, and
counts the bytes of bodies."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from typing import Any

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmsupply_cli.server.errors import ApiError
from lmsupply_cli.server.rendering import error_response
from lmsupply_cli.server.state import ServerOptions

OPEN_PATHS = ("/health",)
OWN_PATHS = "/lmsupply/"  # they have a token of their own
ANY_ADDRESS = ("0.0.0.0", "::")
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def secured(options: ServerOptions) -> list[tuple[Any, dict[str, Any]]]:
    """Middleware with its arguments, outermost first."""
    layers: list[tuple[Any, dict[str, Any]]] = [(HostCheck, {"hosts": options.hosts})]
    if options.cors:
        layers.append(
            (
                CORSMiddleware,
                {
                    "allow_origins": options.cors,
                    "allow_methods": ["GET", "HEAD", "POST", "DELETE"],
                    "allow_headers": ["*"],
                    "expose_headers": ["x-request-id", "request-id", "retry-after"],
                    "max_age": 600,
                },
            )
        )
    if options.api_keys:
        layers.append((KeyCheck, {"keys": options.api_keys}))
    return [*layers, (PageCheck, {}), (BodyLimit, {"limit_bytes": options.body_bytes})]


class HostCheck:
    """Refuses requests to a name that is not the server's. A page can make its own name lead to this machine (DNS
    rebinding), and is then allowed to read what the server answers; the Host header still holds the page's name."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str]) -> None:
        """`hosts`: names and addresses beside those of loopback; 0.0.0.0 or :: stand for every address, "*" for all."""
        self._app = app
        self._hosts = {_bare(host) for host in (*_LOOPBACK, *hosts)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            hosts = Headers(scope=scope).getlist("host")
            if len(hosts) > 1 or any(not self.allows(host) for host in hosts):
                shown = ", ".join(hosts)[:100]
                error = ApiError(
                    403, f"the host {shown!r} is not allowed (--allow-host NAME allows one)", "host_not_allowed"
                )
                await error_response(error, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def allows(self, host: str) -> bool:
        """Whether a Host header, with or without a port, names this server."""
        name = _bare(host)
        if name in self._hosts or "*" in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name.endswith(".localhost")  # browsers never ask DNS for it
        return address.is_loopback or not self._hosts.isdisjoint(ANY_ADDRESS)


def _bare(host: str) -> str:
    """The name or address without port, brackets, case and the final dot."""
    host = host.strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    name, colon, port = host.rpartition(":")
    if colon and ":" not in name and (port.isdigit() or not port):
        host = name
    return host.removesuffix(".")


class KeyCheck:
    """Wants a key in `Authorization: Bearer KEY` or `x-api-key: KEY`."""

    def __init__(self, app: ASGIApp, *, keys: Iterable[str]) -> None:
        self._app = app
        self._keys = [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        is_open = scope["type"] != "http" or path in OPEN_PATHS or path.startswith(OWN_PATHS)
        if is_open or self._is_known(Headers(scope=scope)):
            await self._app(scope, receive, send)
            return
        error = ApiError(401, "a key is needed: Authorization: Bearer KEY, or x-api-key: KEY", "invalid_api_key")
        response = error_response(error, path)
        response.headers["WWW-Authenticate"] = "Bearer"
        await response(scope, receive, send)

    def _is_known(self, headers: Headers) -> bool:
        """Every key is compared in a time that does not depend on where it differs."""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        given = [headers.get("x-api-key", ""), bearer.strip() if scheme.lower() == "bearer" else ""]
        same = [hmac.compare_digest(key, text.encode("utf-8", "replace")) for key in self._keys for text in given]
        return any(same)


class PageCheck:
    """A page may send text and forms anywhere without asking. So what starts work and comes from a page must be JSON, for
    which browsers ask first."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] not in ("GET", "HEAD", "OPTIONS"):
            headers = Headers(scope=scope)
            kind = headers.get("content-type", "").partition(";")[0].strip().lower()
            from_page = "origin" in headers or headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
            if from_page and kind != "application/json":
                error = ApiError(415, "a request from a page needs Content-Type: application/json", "not_json")
                await error_response(error, scope["path"])(scope, receive, send)
                return
        await self._app(scope, receive, send)


class BodyLimit:
    """Refuses bodies beyond the limit: by Content-Length before they are read, and while they arrive."""

    def __init__(self, app: ASGIApp, *, limit_bytes: int) -> None:
        self._app, self._limit_bytes = app, limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._limit_bytes:
            response = error_response(self._too_large(), scope["path"])
            response.headers["Connection"] = "close"  # the body is not read
            await response(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            if message["type"] == "http.request":
                read += len(message.get("body", b""))
                if read > self._limit_bytes:
                    raise self._too_large()
            return message

        await self._app(scope, counted, send)

    def _too_large(self) -> ApiError:
        limit = f"{self._limit_bytes / 1_000_000:g} MB"
        return ApiError(413, f"the request is larger than {limit}", "request_too_large")

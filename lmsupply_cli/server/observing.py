"""What happens to every request: an id, a count, and a line in the log."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lmsupply_cli.server.metrics import Metrics
from lmsupply_cli.server.rendering import is_anthropic

LOG = logging.getLogger("lmsupply.server")


class Observer:
    """ASGI middleware. `log`: a line for each request; its method, path, status and time, never its body."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, routes: Sequence[Route], log: bool) -> None:
        self._app, self._metrics, self._routes, self._log = app, metrics, routes, log

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, began, status = f"req_{secrets.token_hex(12)}", time.monotonic(), 500
        header = "request-id" if is_anthropic(scope["path"]) else "x-request-id"

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[header] = request_id
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            self._metrics.requests.labels(self._route(scope), str(status)).inc()
            if self._log:
                taken = time.monotonic() - began
                LOG.info("%s %s %d %.2fs %s", scope["method"], scope["path"], status, taken, request_id)

    def _route(self, scope: Scope) -> str:
        """The route, not the path: clients must not be able to make labels."""
        return next((route.path for route in self._routes if route.matches(scope)[0] is not Match.NONE), "other")

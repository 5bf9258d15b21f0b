"""MCP servers through the official client library: its only importer. The library is asynchronous; it runs on a thread of
its own, behind methods that block and that a KeyboardInterrupt cancels."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import logging
import os
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

import httpx2
import mcp_types as types
from mcp import Client, MCPError, StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from lmsupply_cli._version import __version__
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.foreign import plain
from lmsupply_cli.toolbox.config import ServerConfig
from lmsupply_cli.toolbox.toolbox import MOST_TOOLS, Offered
from lmsupply_cli.units import format_bytes

CONNECT_S = 60.0  # npx and uvx may have to download a server first
CALL_S = 300.0
_GRACE_S = 5.0  # for the library's own limit, before ours ends the call
_CLOSE_S = 10.0  # it ends a server that hangs within six seconds
_POLL_S = 0.2
_MOST_PAGES = 100
_RESPONSE_BYTES = 20_000_000
_LAST_BYTES = 4096
_NO_REASON = "Server returned an error response"  # the library's text for an error over HTTP
T = TypeVar("T")


class McpThread:
    """An event loop on a thread of its own."""

    def __init__(self) -> None:
        logger = logging.getLogger("mcp")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False  # what goes wrong is said by us
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda *_: None)
        self._thread = threading.Thread(target=self.loop.run_forever, name="mcp", daemon=True)
        self._thread.start()

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def close(self) -> None:
        """End the loop, and what still runs in it."""
        with suppress(concurrent.futures.TimeoutError, concurrent.futures.CancelledError):
            self.submit(_end_tasks()).result(_CLOSE_S)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(_GRACE_S)
        if not self._thread.is_alive():
            self.loop.close()


class McpServer:
    """A server of tools. It is started by `start`, and again by a call after it ended."""

    def __init__(
        self, config: ServerConfig, thread: McpThread, *, connect_s: float = CONNECT_S, call_s: float = CALL_S
    ) -> None:
        self.name = config.name
        self._config, self._thread = config, thread
        self._connect_s, self._call_s = connect_s, call_s
        self._connection: _Connection | None = None
        self._starting: concurrent.futures.Future[_Connection] | None = None

    def start(self) -> None:
        """Begin to start it; `tools` waits for it."""
        self._starting = self._thread.submit(self._opened())

    @property
    def changed(self) -> bool:
        """Whether its tools are others since `tools` was called."""
        return self._connection is not None and self._connection.changed

    def tools(self) -> Sequence[Offered]:
        """Raises LmsupplyError if it cannot be started, or does not answer."""
        limit_s = self._connect_s + _GRACE_S
        return _result(self._thread.submit(self._tools()), limit_s)

    def call(self, name: str, values: Mapping[str, Any]) -> str:
        """The result as text. What goes wrong is a result too."""
        limit_s = self._connect_s + self._call_s + _GRACE_S
        try:
            return _result(self._thread.submit(self._called(name, values)), limit_s)
        except LmsupplyError as error:
            return f"error: the MCP server {self.name} {error.message}"

    def close(self) -> concurrent.futures.Future[None]:
        """Begin to end it."""
        return self._thread.submit(self._closed())

    async def _opened(self) -> _Connection:
        """The connection, made anew where the last one ended."""
        if self._connection is None or self._connection.ended:
            again = self._connection is not None
            if self._connection:
                await self._connection.close()
            self._connection = _Connection(self._config, self._connect_s)
            await self._connection.open()
            self._connection.changed = again
        return self._connection

    async def _ready(self) -> _Connection:
        starting, self._starting = self._starting, None
        return await (asyncio.wrap_future(starting) if starting else self._opened())

    async def _tools(self) -> Sequence[Offered]:
        connection = await self._ready()
        return await connection.guarded(connection.tools(), self._connect_s)

    async def _called(self, name: str, values: Mapping[str, Any]) -> str:
        connection = await self._ready()
        return await connection.guarded(connection.call(name, values), self._call_s)

    async def _closed(self) -> None:
        if self._connection:
            await self._connection.close()


class _Connection:
    """One run of a server. The library wants its contexts entered and left in the same task."""

    def __init__(self, config: ServerConfig, limit_s: float) -> None:
        self._config, self._limit_s = config, limit_s
        self._client: Client | None = None
        self._task: asyncio.Task[None] | None = None
        self._leave = asyncio.Event()
        self._words = _LastWords() if config.command else None
        self._garbage = ""
        self._status = 0  # of the last answer over HTTP that is an error
        self.changed = False
        self.ended = False

    async def open(self) -> None:
        """Raises LmsupplyError."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(self._run(ready))
        try:
            await asyncio.wait_for(asyncio.shield(ready), self._limit_s)
        except TimeoutError:
            self._task.cancel()
            self.ended = True
            raise self._failure(f"did not answer within {self._limit_s:g} s") from None
        except asyncio.CancelledError:
            self._task.cancel()
            self.ended = True
            raise
        except Exception as error:
            self.ended = True
            raise self._failure(_reason(error)) from error

    async def guarded(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        """Raises LmsupplyError for everything that can go wrong."""
        try:
            return await asyncio.wait_for(work, limit_s)
        except TimeoutError:
            raise self._failure(f"did not answer within {limit_s:g} s") from None
        except MCPError as error:
            self.ended = self.ended or error.error.code == types.CONNECTION_CLOSED
            raise self._failure(_reason(error)) from error
        except Exception as error:
            raise self._failure(_reason(error)) from error

    async def tools(self) -> Sequence[Offered]:
        client = self._open_client()
        self.changed = False
        if client.server_capabilities.tools is None:
            return []
        found: list[types.Tool] = []
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            page = await client.list_tools(cursor=cursor, cache_mode="bypass")
            found += page.tools
            cursor = page.next_cursor
            if not cursor or len(found) > MOST_TOOLS:
                break
        return [Offered(tool.name, tool.description or tool.title or "", tool.input_schema) for tool in found]

    async def call(self, name: str, values: Mapping[str, Any]) -> str:
        result = await self._open_client().call_tool(name, dict(values))
        text = result_text(result)
        return f"error: {text}" if result.is_error else text

    async def close(self) -> None:
        self._leave.set()
        if self._task:
            with suppress(asyncio.CancelledError, TimeoutError, Exception):
                await asyncio.wait_for(self._task, _CLOSE_S)

    def _open_client(self) -> Client:
        if self._client is None:
            raise LmsupplyError("has ended")
        return self._client

    async def _run(self, ready: asyncio.Future[None]) -> None:
        try:
            async with AsyncExitStack() as stack:
                client = await stack.enter_async_context(await self._made(stack))
                self._client = client
                listening = asyncio.create_task(self._listen(client))
                stack.callback(listening.cancel)
                if not ready.done():
                    ready.set_result(None)
                await self._leave.wait()
        except Exception as error:
            if not ready.done():
                ready.set_exception(error)
        finally:
            self._client, self.ended = None, True
            if not ready.done():
                ready.cancel()
            if self._words:
                self._words.close()

    async def _made(self, stack: AsyncExitStack) -> Client:
        config = self._config
        if config.url:
            http = httpx2.AsyncClient(
                headers=dict(config.headers),
                timeout=httpx2.Timeout(30.0, read=CALL_S),
                event_hooks={"response": [self._answered]},
            )
            await stack.enter_async_context(http)
            transport = streamable_http_client(config.url, http_client=http)
        else:
            assert self._words
            parameters = StdioServerParameters(
                command=config.command,
                args=list(config.args),
                env=dict(config.env),
                cwd=config.cwd or None,
                encoding_error_handler="replace",
            )
            transport = stdio_client(parameters, errlog=self._words.file)
        return Client(
            transport,
            message_handler=self._heard,
            client_info=types.Implementation(name="lmsupply", version=__version__),
        )

    async def _answered(self, response: httpx2.Response) -> None:
        """A stream of events may go on; the library bounds each of them."""
        if response.status_code >= 400:
            self._status = response.status_code
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            response.stream = _Bounded(response.stream)

    async def _heard(self, message: Any) -> None:
        if isinstance(message, types.ToolListChangedNotification):
            self.changed = True
        elif isinstance(message, Exception):
            self._garbage = self._garbage or "it writes something that is not an MCP message"

    async def _listen(self, client: Client) -> None:
        """Newer servers tell of changes only to those who ask."""
        tools = client.server_capabilities.tools
        if tools and tools.list_changed:
            with suppress(Exception):
                async with client.listen(tools_list_changed=True) as changes:
                    async for _ in changes:
                        self.changed = True

    def _failure(self, reason: str) -> LmsupplyError:
        """With what the server said last."""
        if self._status and reason.endswith(_NO_REASON):
            token = " (set its token in `headers`)" if self._status in (401, 403) else ""
            reason = f"answers with HTTP {self._status}{token}"
        words = self._words.last if self._words else ""
        said = f"; it wrote: {words}" if words else ""
        return LmsupplyError("; ".join(filter(None, (reason, self._garbage))) + said)


class _LastWords:
    """A server's standard error: read, so that it never waits, and forgotten but for its end."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self.file = os.fdopen(write, "w")
        self._end = b""
        threading.Thread(target=self._read, args=(read,), name="mcp stderr", daemon=True).start()

    @property
    def last(self) -> str:
        """The last line that is not blank."""
        lines = self._end.decode(errors="replace").splitlines()
        return next((plain(line.strip()) for line in reversed(lines) if line.strip()), "")

    def close(self) -> None:
        with suppress(OSError):
            self.file.close()

    def _read(self, descriptor: int) -> None:
        with suppress(OSError):
            while data := os.read(descriptor, 65536):
                self._end = (self._end + data)[-_LAST_BYTES:]
        with suppress(OSError):
            os.close(descriptor)


class _Bounded(httpx2.AsyncByteStream):
    """A body that is not longer than what fits in memory."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for data in self._inner:
            seen += len(data)
            if seen > _RESPONSE_BYTES:
                raise httpx2.ReadError(f"the response is longer than {format_bytes(_RESPONSE_BYTES)}")
            yield data

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _end_tasks() -> None:
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def close_servers(servers: Sequence[McpServer], thread: McpThread) -> None:
    """End all of them at once, then the thread."""
    concurrent.futures.wait([server.close() for server in servers], timeout=_CLOSE_S)
    thread.close()


def _result(future: concurrent.futures.Future[T], limit_s: float) -> T:
    """Waits in short steps: not every system interrupts a longer wait. Raises LmsupplyError."""
    end = time.monotonic() + limit_s
    try:
        while not concurrent.futures.wait([future], timeout=_POLL_S).done:
            if time.monotonic() > end:
                future.cancel()
                raise LmsupplyError(f"did not answer within {limit_s:g} s")
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise
    except concurrent.futures.CancelledError:
        raise LmsupplyError("has ended") from None


def result_text(result: types.CallToolResult) -> str:
    """The texts of a result; what is no text is described."""
    parts = [_block_text(block) for block in result.content]
    if (
        not any(isinstance(block, types.TextContent) for block in result.content)
        and result.structured_content is not None
    ):
        parts.append(json.dumps(result.structured_content, ensure_ascii=False))
    return "\n".join(parts)


def _block_text(block: Any) -> str:
    if isinstance(block, types.TextContent):
        return block.text
    if isinstance(block, (types.ImageContent, types.AudioContent)):
        return f"[{block.type}: {block.mime_type}, {_decoded_bytes(block.data)}, not shown]"
    if isinstance(block, types.ResourceLink):
        return f"[link: {block.name}, {block.uri}]"
    resource = getattr(block, "resource", None)
    if isinstance(resource, types.TextResourceContents):
        return f"{resource.uri}:\n{resource.text}"
    if isinstance(resource, types.BlobResourceContents):
        kind = resource.mime_type or "unknown type"
        return f"[resource: {resource.uri}, {kind}, {_decoded_bytes(resource.blob)}, not shown]"
    return f"[{getattr(block, 'type', 'content')}: not shown]"


def _decoded_bytes(base64: str) -> str:
    return format_bytes(len(base64) * 3 // 4)


def _reason(error: BaseException) -> str:
    """In plain words, of what is innermost."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, LmsupplyError):
        return error.message
    if isinstance(error, MCPError):
        if error.error.code == types.CONNECTION_CLOSED:
            return "has ended"
        return f"answers with an error: {plain(error.error.message)}"
    if isinstance(error, OSError):
        place = f"{plain(str(error.filename))}: " if error.filename else ""
        return f"cannot be started: {place}{error.strerror or error}"
    if isinstance(error, httpx2.HTTPError):
        return f"cannot be reached: {plain(str(error)) or type(error).__name__}"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        return f"sends what the protocol does not allow: {plain(place)}: {plain(first['msg'])}"
    return f"fails: {type(error).__name__}: {plain(str(error))}"

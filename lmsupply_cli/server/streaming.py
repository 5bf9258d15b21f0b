"""Answers over HTTP: whole or streamed, and ended when the client is gone."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.events import Finished, GenerationEvent
from lmsupply_cli.generation.completion import AnswerBuffer, Completion
from lmsupply_cli.server.errors import ApiError, as_api_error
from lmsupply_cli.serving.requests import Answer

LOG = logging.getLogger("lmsupply.server")


class ClientGone(Exception):
    """The client closed the connection: nobody reads the answer."""


async def whole(
    request: Request, answer: Answer, *, listen: Callable[[GenerationEvent], None] = lambda event: None
) -> Completion:
    """The answer as one value; `listen` is called with each event. Raises ClientGone, ApiError."""
    gone = asyncio.ensure_future(disconnected(request))
    collected = asyncio.ensure_future(_collect(answer, listen))
    try:
        await asyncio.wait({gone, collected}, return_when=asyncio.FIRST_COMPLETED)
        if not collected.done():
            raise ClientGone
        return collected.result()
    finally:
        answer.cancel()
        for task in (gone, collected):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _collect(answer: Answer, listen: Callable[[GenerationEvent], None]) -> Completion:
    buffer = AnswerBuffer()
    try:
        async for event in answer:
            buffer.add(event)
            listen(event)
            if isinstance(event, Finished):
                return buffer.completion(event)
    except LmsupplyError as error:
        raise as_api_error(error) from error
    raise ApiError(502, "the answer ended before it was complete", "worker_died")


async def disconnected(request: Request) -> None:
    """Returns when the client closed the connection; the body must have been read."""
    while (await request.receive())["type"] != "http.disconnect":
        continue


def streamed(
    frames: AsyncIterator[bytes],
    *,
    cancel: Callable[[], None],
    failed: Callable[[ApiError], bytes],
    media_type: str,
    ping: bytes = b"",
    ping_s: float = 15.0,
    ping_first: bool = True,
) -> StreamingResponse:
    """A response of `frames`. `cancel` is called at the end, whatever ends it; `failed` makes the last frame of an error
    after the start; `ping` is sent at once (unless `ping_first` is off, for frames that begin at once themselves) and
    whenever `ping_s` seconds passed without a frame, "" for never."""

    async def body() -> AsyncIterator[bytes]:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=64)
        reader = asyncio.ensure_future(_read(frames, queue, failed))
        try:
            if ping and ping_first:
                yield ping
            while True:
                try:
                    frame = await asyncio.wait_for(queue.get(), ping_s if ping else None)
                except TimeoutError:
                    yield ping
                    continue
                if frame is None:
                    return
                yield frame
        finally:
            reader.cancel()

    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return _Stream(body(), cancel, media_type=media_type, headers=headers)


class _Stream(StreamingResponse):
    """A client may be gone before the first frame is asked for, so not the frames but the response cancels."""

    def __init__(self, body: AsyncIterator[bytes], cancel: Callable[[], None], **options: Any) -> None:
        super().__init__(body, **options)
        self._cancel = cancel

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._cancel()


async def _read(
    frames: AsyncIterator[bytes], queue: asyncio.Queue[bytes | None], failed: Callable[[ApiError], bytes]
) -> None:
    try:
        async for frame in frames:
            await queue.put(frame)
    except Exception as error:
        await queue.put(_last_frame(error, failed))
    await queue.put(None)


def _last_frame(error: Exception, failed: Callable[[ApiError], bytes]) -> bytes:
    """Of a stream that an error ended, whatever it was."""
    if isinstance(error, LmsupplyError):
        error = as_api_error(error)
    if not isinstance(error, ApiError):
        LOG.error("a stream failed", exc_info=error)
        error = ApiError(500, f"a bug in lmsupply: {type(error).__name__}", "bug")
    try:
        return failed(error)
    except Exception as worse:
        LOG.error("a stream failed, and its error could not be told", exc_info=worse)
        return b""

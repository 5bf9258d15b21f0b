"""From a request of any API to an answer that is accepted."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any, TypeVar

from starlette.requests import Request

from lmsupply_cli.errors import ContextOverflow, LmsupplyError
from lmsupply_cli.events import Finished, GenerationEvent, Notice
from lmsupply_cli.server.body import Body
from lmsupply_cli.server.errors import as_api_error
from lmsupply_cli.server.metrics import Metrics
from lmsupply_cli.server.reading import is_small
from lmsupply_cli.server.state import ServerState
from lmsupply_cli.server.streaming import ClientGone, disconnected
from lmsupply_cli.serving.requests import Answer, AnswerRequest

LOG = logging.getLogger("lmsupply.server")
B = TypeVar("B", bound=Body)
T = TypeVar("T")
_IS_SMALL = "lmsupply.small_body"  # in the scope of a request


async def body_of(request: Request, form: type[B]) -> B:
    """The request's body. Raises ApiError that names the field."""
    data = await request.body()
    if request.scope.setdefault(_IS_SMALL, is_small(data)):
        return form.read(data)
    return await ServerState.of(request).reader.read(form, data)


async def worked_out(request: Request, work: Callable[[], T]) -> T:
    """What `work` makes of the body; of a large one beside the event loop. Raises what it raises."""
    return work() if request.scope.get(_IS_SMALL, True) else await asyncio.to_thread(work)


async def ask(
    request: Request,
    model: str,
    asked: AnswerRequest,
    *,
    keep_alive_s: float | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """An answer that is accepted: the model is loaded, and the prompt fits. `names`: the API's field by the parameter of the
    library, where they differ; "guidance", "tools" and "messages" are what is blamed for errors that know no field.
    Raises ApiError, ClientGone."""
    work = ask_in_background(request, model, asked, keep_alive_s=keep_alive_s, names=names)
    return await while_connected(request, work)


async def ask_in_background(
    request: Request,
    model: str,
    asked: AnswerRequest,
    *,
    keep_alive_s: float | None = None,
    names: Mapping[str, str] = MappingProxyType({}),
) -> Answer:
    """As `ask`, for a caller that is cancelled when the client is gone."""
    try:
        return await measured_answer(request, model, asked, keep_alive_s=keep_alive_s)
    except LmsupplyError as error:
        raise as_api_error(error, param=blamed(error, asked, names), names=names) from error


async def measured_answer(
    request: Request, model: str, asked: AnswerRequest, *, keep_alive_s: float | None = None
) -> Answer:
    """As `ask_in_background`. Raises LmsupplyError."""
    state = ServerState.of(request)
    if state.options.log_prompts:
        LOG.info("prompt of %s for %s: %s", request.url.path, model, _shown(asked))
    answer = await state.models.answer(model, asked, keep_alive_s=keep_alive_s)
    return _Measured(answer, state.metrics)


async def count(request: Request, model: str, asked: AnswerRequest, *, names: Mapping[str, str]) -> int:
    """Tokens of the prompt. Raises ApiError, ClientGone."""
    try:
        return await while_connected(request, ServerState.of(request).models.count_tokens(model, asked))
    except LmsupplyError as error:
        raise as_api_error(error, param=blamed(error, asked, names), names=names) from error


async def while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """What `work` returns; it is cancelled when the client is gone. Raises ClientGone."""
    gone, working = asyncio.ensure_future(disconnected(request)), asyncio.ensure_future(work)
    try:
        await asyncio.wait({gone, working}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientGone
        return working.result()
    finally:
        for task in (gone, working):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


def blamed(error: LmsupplyError, asked: AnswerRequest, names: Mapping[str, str]) -> str:
    """The field that an error is about when it names none: the guidance, else the tools, else the prompt, which alone is
    too long."""
    part = "guidance" if asked.guidance else "tools" if asked.tools else "messages"
    part = "messages" if isinstance(error, ContextOverflow) else part
    return names.get(part, "response_format" if part == "guidance" else part)


def _shown(asked: AnswerRequest) -> str:
    if asked.messages:
        return "\n".join(f"{message.role}: {message.content}" for message in asked.messages)
    return asked.text if asked.text is not None else f"{len(asked.ids or ())} tokens"


class _Measured:
    """An answer whose tokens and times are counted."""

    def __init__(self, answer: Answer, metrics: Metrics) -> None:
        self._answer, self._metrics, self._began = answer, metrics, time.monotonic()
        self.prompt_tokens: int = answer.prompt_tokens
        self.notices: tuple[Notice, ...] = answer.notices

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        first = True
        async for event in self._answer:
            if first and self._metrics.is_token(event):
                first = False
                self._metrics.first_token_s.observe(time.monotonic() - self._began)
            if isinstance(event, Finished):
                self._metrics.count_answer(event)
            yield event

    def cancel(self) -> None:
        self._answer.cancel()

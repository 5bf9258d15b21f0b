"""load_async: a model for programs that run an event loop, in a process of its own."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import AsyncGenerator, Iterable, Mapping
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.chat.tools.spec import ToolRequest
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationKeywords
from lmsupply_cli.errors import EngineError, UsageError
from lmsupply_cli.events import GenerationEvent, Notice, TextDelta
from lmsupply_cli.generation.answers import Messages, check_type
from lmsupply_cli.generation.completion import Completion, ModelInfo, complete_async
from lmsupply_cli.loading.options import LoadKeywords, LoadOptions
from lmsupply_cli.serving.model_process import ModelProcess, ProcessAnswer, WorkerLimits
from lmsupply_cli.serving.requests import AnswerRequest


async def load_async(
    ref: str | Path,
    how: LoadOptions | None = None,
    /,
    *,
    concurrency: int = 4,
    queue_limit: int = 64,
    timeout_s: float | None = None,
    **keywords: Unpack[LoadKeywords],
) -> AsyncTextGenerator:
    """Like `load`, for asyncio: the model runs in a process of its own, and the event loop never waits for it.
    `concurrency`: answers at once; `queue_limit`: how many requests may wait before QueueFull; `timeout_s`: how long one waits
    before QueueTimeout. A chat format that was registered with `register_chat_format` is not known in that process.

    >>> import asyncio
    >>> from lmsupply import load_async
    >>> async def main() -> None:
    ...     async with await load_async("guide") as model:
    ...         questions = ["How do I list my models?", "thanks"]
    ...         for answer in await asyncio.gather(*(model.agenerate(question) for question in questions)):
    ...             print(answer)
    >>> asyncio.run(main())

    Raises what `load` raises, and WorkerDied.
    """
    if how is not None and keywords:
        raise UsageError(f"LoadOptions and keyword arguments can't be combined: {', '.join(keywords)}")
    if how is not None:
        check_type(how, LoadOptions, "the second argument", "a LoadOptions")
    if concurrency < 1 or queue_limit < 0:
        raise UsageError("`concurrency` must be at least 1 and `queue_limit` at least 0")
    limits = WorkerLimits(queue=queue_limit, slots=concurrency, queue_timeout_s=timeout_s)
    return AsyncTextGenerator(await ModelProcess.start(ref, how or LoadOptions.of(keywords), limits=limits))


class AsyncTextGenerator:
    """A loaded model for asyncio; `load_async` returns it. Use it in `async with`, or close it with `aclose`.

    Any number of calls may run at once. Cancelling the task that waits for an answer ends the answer. Options passed to a
    call override those of the model.
    """

    def __init__(self, process: ModelProcess) -> None:
        self._process, self._loop = process, asyncio.get_running_loop()
        self._closed = False

    @property
    def info(self) -> ModelInfo:
        """The model, and how it runs."""
        return self._process.info

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._process.context_tokens

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What the user should know about how it was loaded."""
        return self._process.notices

    async def agenerate(
        self, prompt: str, *, raw: bool = False, guidance: Guidance | None = None, **options: Unpack[GenerationKeywords]
    ) -> Completion:
        """See `TextGenerator.generate`. Raises QueueFull, QueueTimeout and WorkerDied too, as all calls do."""
        check_type(prompt, str, "prompt", "a string")
        return await self._completed(_request(prompt, options, raw=raw, guidance=guidance))

    async def achat(
        self,
        messages: Messages,
        *,
        tools: Iterable[Any] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        guidance: Guidance | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Completion:
        """The assistant's next message, see `TextGenerator.generate_chat`."""
        wanted = ToolRequest.of(() if tools is None else tools, tool_choice, parallel=parallel_tool_calls)
        return await self._completed(_request(as_messages(messages), options, guidance=guidance, tools=wanted))

    async def astream(
        self,
        prompt: str | Messages,
        *,
        raw: bool = False,
        tools: Iterable[Any] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        guidance: Guidance | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> AsyncGenerator[GenerationEvent, None]:
        """The answer to a prompt or a chat as events, see `TextGenerator.stream` and `stream_chat`. Closing the iterator ends
        the answer; `contextlib.aclosing` closes it however the loop over it is left."""
        wanted = None if tools is None else ToolRequest.of(tools, tool_choice, parallel=parallel_tool_calls)
        answer = await self._answer(_request(prompt, options, raw=raw, guidance=guidance, tools=wanted))
        try:
            for notice in answer.notices:
                yield notice
            async for event in answer:
                yield event
        finally:
            answer.cancel()

    async def astream_text(
        self,
        prompt: str | Messages,
        *,
        raw: bool = False,
        guidance: Guidance | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> AsyncGenerator[str, None]:
        """The answer to a prompt or a chat as pieces of text; it ends like `astream`."""
        async with aclosing(self.astream(prompt, raw=raw, guidance=guidance, **options)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    yield event.text

    async def count_tokens(
        self, prompt: str | Messages, *, raw: bool = False, tools: Iterable[Any] | None = None
    ) -> int:
        """Tokens of the whole prompt, with the chat format and tools that an answer to it would have."""
        self._check()
        wanted = None if tools is None else ToolRequest.of(tools)
        return await self._process.count_tokens(_request(prompt, {}, raw=raw, tools=wanted))

    async def aclose(self, *, grace_s: float = 5.0) -> None:
        """Refuse waiting requests, give running ones `grace_s` to finish, then free the model; a second call does nothing. If
        it is cancelled, the process is killed."""
        self._closed = True
        try:
            await self._process.close(grace_s=grace_s)
        except BaseException:
            self._process.kill()
            raise

    async def __aenter__(self) -> AsyncTextGenerator:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await self.aclose(grace_s=0 if kind else 5.0)

    async def _completed(self, request: AnswerRequest) -> Completion:
        answer = await self._answer(request)
        try:
            return await complete_async(answer)
        finally:
            answer.cancel()

    async def _answer(self, request: AnswerRequest) -> ProcessAnswer:
        self._check()
        return await self._process.answer(request)

    def _check(self) -> None:
        """Raises UsageError, EngineError."""
        if self._closed:
            raise EngineError("the model is closed", hint="load it again")
        if asyncio.get_running_loop() is not self._loop:
            raise UsageError("the model was loaded in another event loop", hint="load it in the one that uses it")

    def __del__(self) -> None:
        if not self._closed:
            warnings.warn(f"the model {self.info.ref} was not closed", ResourceWarning, stacklevel=2, source=self)
            self._process.kill()


def _request(
    prompt: str | Messages,
    options: GenerationKeywords,
    *,
    raw: bool = False,
    guidance: Guidance | None = None,
    tools: ToolRequest | None = None,
) -> AnswerRequest:
    """Raises UsageError."""
    check_type(guidance, Guidance | None, "guidance", "a Guidance, such as Guidance.json_schema(…)")
    chat = as_messages([ChatMessage.user(prompt)] if isinstance(prompt, str) else prompt)
    if raw and (tools or not isinstance(prompt, str)):
        raise UsageError("raw takes a text, not messages or tools", hint="leave raw out")
    request = AnswerRequest(options=dict(options), guidance=guidance)
    if raw:
        return replace(request, text=str(prompt))
    if tools is None:
        return replace(request, messages=tuple(chat))
    choice = {"name": tools.choice} if tools.named else tools.choice
    return replace(
        request,
        messages=tuple(chat),
        tools=tools.tools,
        tool_choice=choice,
        parallel_tool_calls=tools.parallel,
    )

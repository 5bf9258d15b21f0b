"""Several answers to one request at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from types import MappingProxyType

from starlette.requests import Request

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.events import Finished, GenerationEvent
from lmsupply_cli.generation.completion import AnswerBuffer, Completion
from lmsupply_cli.server.asking import ask, ask_in_background, while_connected
from lmsupply_cli.server.errors import ApiError, as_api_error
from lmsupply_cli.serving.requests import Answer, AnswerRequest

AT_ONCE = 4  # of one request: others must get a turn


class Answers:
    """Accepted once the first answer is. Iterate once; whoever stops before the end calls `cancel`."""

    def __init__(self, request: Request, model: str, asked: Sequence[AnswerRequest], names: Mapping[str, str]) -> None:
        self._request, self._model, self._asked, self._names = request, model, asked, names
        self._running: dict[int, Answer] = {}
        self._tasks: list[asyncio.Task[None]] = []

    @classmethod
    async def begin(
        cls,
        request: Request,
        model: str,
        asked: Sequence[AnswerRequest],
        *,
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> Answers:
        """As `ask`."""
        made = cls(request, model, asked, names)
        made._running[0] = await ask(request, model, asked[0], names=names)
        return made

    async def events(self) -> AsyncIterator[tuple[int, GenerationEvent]]:
        """(number of the answer, event), as they come. Raises LmsupplyError, ApiError."""
        if len(self._asked) == 1:
            async for event in self._running[0]:
                yield 0, event
            return
        queue: asyncio.Queue[tuple[int, GenerationEvent] | BaseException | None] = asyncio.Queue(maxsize=64)
        turns = asyncio.Semaphore(AT_ONCE)
        self._tasks = [asyncio.create_task(self._pass(n, turns, queue)) for n in range(len(self._asked))]
        try:
            left = len(self._asked)
            while left:
                found = await queue.get()
                if isinstance(found, BaseException):
                    raise found
                if found is None:
                    left -= 1
                else:
                    yield found
        finally:
            self.cancel()

    async def whole(self) -> list[Completion]:
        """Every answer as one value. Raises ApiError, ClientGone."""
        try:
            return await while_connected(self._request, self._collect())
        finally:
            self.cancel()

    async def _collect(self) -> list[Completion]:
        buffers = [AnswerBuffer() for _ in self._asked]
        done: dict[int, Completion] = {}
        try:
            async for number, event in self.events():
                buffers[number].add(event)
                if isinstance(event, Finished):
                    done[number] = buffers[number].completion(event)
        except LmsupplyError as error:
            raise as_api_error(error) from error
        if len(done) < len(buffers):
            raise ApiError(502, "the answer ended before it was complete", "worker_died")
        return [done[number] for number in range(len(buffers))]

    async def _pass(
        self,
        number: int,
        turns: asyncio.Semaphore,
        queue: asyncio.Queue[tuple[int, GenerationEvent] | BaseException | None],
    ) -> None:
        try:
            async with turns:
                if number not in self._running:
                    asked = self._asked[number]
                    self._running[number] = await ask_in_background(
                        self._request, self._model, asked, names=self._names
                    )
                async for event in self._running[number]:
                    await queue.put((number, event))
            await queue.put(None)
        except Exception as error:  # raised where the events are read
            await queue.put(error)

    def cancel(self) -> None:
        """End all that have not finished; a second call does nothing."""
        for task in self._tasks:
            task.cancel()
        for answer in self._running.values():
            with suppress(Exception):
                answer.cancel()

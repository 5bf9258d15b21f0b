"""One model of a WorkerPool: its process, who uses it, and answers that tell when they end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Protocol

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.events import Finished, GenerationEvent, Notice
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.serving.requests import Answer, AnswerRequest, LoadedWorker
from lmsupply_cli.serving.room import Occupant
from lmsupply_cli.serving.served_models import FoundModel


class Process(Protocol):
    """What the pool needs of a ModelProcess."""

    @property
    def info(self) -> ModelInfo:
        """The model, and how it runs."""

    @property
    def context_tokens(self) -> int:
        """Of one conversation."""

    @property
    def notices(self) -> tuple[Notice, ...]:
        """Of the load."""

    @property
    def pid(self) -> int:
        """Of the operating system."""

    @property
    def running(self) -> int:
        """Answers that are generated now."""

    @property
    def waiting(self) -> int:
        """Requests that wait for their turn."""

    @property
    def answered(self) -> int:
        """Answers that were finished."""

    async def answer(self, request: AnswerRequest) -> Answer:
        """See `Models.answer`."""

    async def count_tokens(self, request: AnswerRequest) -> int:
        """Tokens of the prompt."""

    def memory_bytes(self) -> int:
        """That the process holds."""

    async def close(self, *, grace_s: float = 30.0) -> None:
        """Running answers finish, waiting ones are refused, and the process ends."""

    def kill(self) -> None:
        """End the process at once."""

    async def wait_ended(self) -> int:
        """Its exit code, when it has ended, by itself too."""


class PoolWorker:
    """From the decision to load a model until its process has ended. `users`: who waits for the load, or for an answer;
    `let_go`: it takes no more of them."""

    def __init__(self, found: FoundModel, need_bytes: int, *, pinned: bool, keep_alive_s: float) -> None:
        self.found, self.pinned, self.keep_alive_s = found, pinned, keep_alive_s
        self.process: Process | None = None
        self.users = 0
        self.answers: set[Answer] = set()
        self.last_used = 0.0
        self.expires: asyncio.TimerHandle | None = None
        self.let_go, self.idle, self.ended = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.idle.set()
        self._need_bytes = need_bytes
        self._loaded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loaded.add_done_callback(lambda future: future.cancelled() or future.exception())  # nobody may wait

    @property
    def key(self) -> str:
        return self.found.key

    @property
    def ref(self) -> str:
        return self.found.row.ref

    @property
    def bytes(self) -> int:
        """Measured, or estimated as long as it loads."""
        return (self.process.memory_bytes() if self.process else 0) or self._need_bytes

    @property
    def leaving(self) -> bool:
        return self.let_go.is_set()

    @property
    def is_gone(self) -> bool:
        """Its process has ended, or is about to."""
        return self.leaving or (self.process is not None and not self.process.memory_bytes())

    @property
    def is_loading(self) -> bool:
        return self.process is None

    def loaded(self, process: Process) -> None:
        """Users who wait for it go on."""
        self.process = process
        self._loaded.set_result(None)

    def failed(self, error: Exception) -> None:
        """Users who wait for it get the error."""
        self.ended.set()
        self._loaded.set_exception(error)

    async def until_loaded(self) -> Process:
        """Raises what loading raised."""
        await asyncio.shield(self._loaded)
        assert self.process
        return self.process

    def take(self) -> None:
        """One user more."""
        self.users += 1
        self.idle.clear()
        if self.expires:
            self.expires.cancel()
            self.expires = None

    def give_back(self, now: float) -> None:
        """One user less."""
        self.users -= 1
        self.last_used = now
        if not self.users:
            self.idle.set()

    def occupant(self) -> Occupant:
        """As the decisions about room see it."""
        size = self.bytes
        return Occupant(
            self.key,
            size,
            in_use=self.users > 0 or self.leaving or self.is_loading,
            pinned=self.pinned and not self.leaving,
            last_used=self.last_used,
            pending_bytes=size if self.is_loading else 0,
        )

    def row(self, now: float) -> LoadedWorker | None:
        """As `Models.loaded` shows it; None while it is loaded."""
        process = self.process
        if process is None:
            return None
        left = max(0.0, self.expires.when() - now) if self.expires else self.keep_alive_s
        return LoadedWorker(
            ref=self.ref,
            bytes=self.bytes,
            context_tokens=process.context_tokens,
            provider=process.info.provider,
            pid=process.pid,
            pinned=self.pinned,
            expires_s=None if self.pinned or math.isinf(left) else left,
            running=process.running,
            waiting=process.waiting,
            answered=process.answered,
        )


_Ended = Callable[[Finished | LmsupplyError | None], None]


class PooledAnswer:
    """An answer that says once how it ended: with its last event, with an error, or None if it was given up."""

    def __init__(self, answer: Answer, ended: _Ended) -> None:
        self.prompt_tokens: int = answer.prompt_tokens
        self.notices: tuple[Notice, ...] = answer.notices
        self._answer = answer
        self._ended: _Ended | None = ended
        self._loop = asyncio.get_running_loop()

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        try:
            async for event in self._answer:
                if isinstance(event, Finished):
                    self._end(event)
                yield event
        except LmsupplyError as error:
            self._end(error)
            raise
        finally:
            self.cancel()

    def cancel(self) -> None:
        """See `Answer`."""
        self._answer.cancel()
        self._end(None)

    def _end(self, how: Finished | LmsupplyError | None) -> None:
        if self._ended:
            ended, self._ended = self._ended, None
            ended(how)

    def __del__(self) -> None:
        """Whoever forgets it gives it up; the thread may be any."""
        if self._ended:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(_give_up, self._answer, self._ended)


def _give_up(answer: Answer, ended: _Ended) -> None:
    answer.cancel()
    ended(None)


class Bell:
    """Wakes all who wait, in the order in which they came."""

    def __init__(self) -> None:
        self._waiting: dict[asyncio.Future[None], None] = {}

    def ring(self) -> None:
        """Wake them."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            if not future.done():
                future.set_result(None)

    async def heard(self, timeout_s: float) -> None:
        """Until it rings, or the time is over."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[future] = None
        try:
            await asyncio.wait({future}, timeout=None if math.isinf(timeout_s) else timeout_s)
        finally:
            self._waiting.pop(future, None)

"""A loaded model in a process of its own, as an event loop sees it.

The engine holds Python's lock while it computes, and may crash: neither reaches the program that asks. Frames are read in
the event loop, without a thread. Events wait at their answer until they are fetched, and pieces of text that wait are
joined: a slow reader keeps at most its own answer in memory, and holds up nobody.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from lmsupply_cli.errors import EngineError, LmsupplyError, QueueFull, QueueTimeout, WorkerDied
from lmsupply_cli.events import Finished, GenerationEvent, Notice, TextDelta
from lmsupply_cli.foreign import plain
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.hardware.host import process_bytes
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving.frames import (
    Accepted,
    Ask,
    Cancel,
    Close,
    Count,
    Counted,
    Failed,
    Happened,
    Load,
    Ready,
    Reply,
    Request,
    WorkerLimits,
    encode,
    read_reply,
)
from lmsupply_cli.serving.requests import AnswerRequest

__all__ = ["ModelProcess", "ProcessAnswer", "WorkerLimits"]

_START = "import sys; sys.path.append(sys.argv[1]); from lmsupply_cli.serving.model_worker import main; main()"


class ProcessAnswer:
    """An Answer, see `requests.Answer`."""

    def __init__(self, process: ModelProcess, id: int, accepted: Accepted) -> None:
        self.prompt_tokens, self.notices = accepted.prompt_tokens, accepted.notices
        self._process, self._id = process, id
        self._events: deque[GenerationEvent] = deque()
        self._error: LmsupplyError | None = None
        self._news = asyncio.Event()
        self._over = False

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        try:
            while True:
                while self._events:
                    event = self._events.popleft()
                    yield event
                    if isinstance(event, Finished):
                        return
                if self._error is not None:
                    raise self._error
                self._news.clear()
                await self._news.wait()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """End the answer within one step, if it has not finished; a second call does nothing."""
        if not self._over:
            self._over = True
            self._process.cancel(self._id)

    def take(self, events: Iterable[GenerationEvent]) -> None:
        """Events that came."""
        for event in events:
            last = self._events[-1] if self._events else None
            if isinstance(event, TextDelta) and isinstance(last, TextDelta):
                self._events[-1] = TextDelta(last.text + event.text)
            else:
                self._events.append(event)
            self._over = self._over or isinstance(event, Finished)
        self._news.set()

    def fail(self, error: LmsupplyError) -> None:
        """It ended with an error, which comes after the events before it."""
        self._error, self._over = error, True
        self._news.set()


class ModelProcess:
    """Made by `start`; close it."""

    def __init__(self, process: asyncio.subprocess.Process, errors: IO[bytes], ref: str, limits: WorkerLimits) -> None:
        self._process, self._errors, self._ref, self.limits = process, errors, ref, limits
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[ProcessAnswer]] = {}
        self._counting: dict[int, asyncio.Future[int]] = {}
        self._running: dict[int, ProcessAnswer] = {}
        self._reading: asyncio.Task[None] | None = None
        self._closing = self._ended = False
        self._why: LmsupplyError | None = None  # it ended
        self.answered = 0
        self.info: ModelInfo
        self.context_tokens: int
        self.notices: tuple[Notice, ...]

    @classmethod
    async def start(cls, ref: str | Path, options: LoadOptions, *, limits: WorkerLimits | None = None) -> ModelProcess:
        """Load a model in a new process. Raises what `load` raises, and WorkerDied."""
        limits = limits or WorkerLimits()
        load = encode(Load(str(ref), options, limits))
        errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the process
        try:
            process = await asyncio.create_subprocess_exec(
                *_command(str(ref)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=os.environ | {"ORT_DISABLE_TELEMETRY": "1"},
                **_apart(),
            )
        except BaseException:
            errors.close()
            raise
        made = cls(process, errors, str(ref), limits)
        try:
            await made._loaded(load)
        except BaseException:
            made.kill()
            await made.wait_ended()
            raise
        return made

    async def _loaded(self, load: bytes) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(load)
        try:
            reply = await read_reply(self._process.stdout)
        except (EOFError, OSError):
            raise await self._died() from None
        if isinstance(reply, Failed):
            raise reply.error
        assert isinstance(reply, Ready)
        self.info, self.context_tokens, self.notices = reply.info, reply.context_tokens, reply.notices
        self._reading = asyncio.create_task(self._read(self._process.stdout))

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    @property
    def running(self) -> int:
        """Answers that have begun and not ended."""
        return len(self._running)

    @property
    def waiting(self) -> int:
        """Requests whose answer has not begun."""
        return len(self._waiting)

    async def answer(self, request: AnswerRequest) -> ProcessAnswer:
        """Wait for a turn. Raises QueueFull, QueueTimeout, UsageError, ContextOverflow, DoesNotFit, WorkerDied."""
        self._check_open()
        free = max(0, self.limits.slots - self.running)
        if self.waiting - free >= self.limits.queue:
            raise QueueFull(
                f"{self.waiting} requests are already waiting for {self._ref}",
                hint="try again later, or raise the queue limit",
            )
        id = next(self._ids)
        frame = encode(Ask(id, _portable(request)))
        reply: asyncio.Future[ProcessAnswer] = asyncio.get_running_loop().create_future()
        self._waiting[id] = reply
        self._write(frame)
        try:
            async with asyncio.timeout(self.limits.queue_timeout_s):
                return await asyncio.shield(reply)
        except TimeoutError:
            self._forget(id)
            raise QueueTimeout(
                f"the request was not started within {self.limits.queue_timeout_s:g} s",
                hint="try again later, or wait longer",
            ) from None
        except asyncio.CancelledError:
            self._forget(id)
            raise

    async def count_tokens(self, request: AnswerRequest) -> int:
        """Tokens of its prompt. Raises UsageError, WorkerDied."""
        self._check_open()
        id = next(self._ids)
        frame = encode(Count(id, _portable(request)))
        reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._counting[id] = reply
        self._write(frame)
        try:
            return await reply
        finally:
            self._counting.pop(id, None)

    def memory_bytes(self) -> int:
        """What the process holds now; 0 once it has ended."""
        return 0 if self._ended else process_bytes(self.pid)

    async def close(self, *, grace_s: float = 30.0) -> None:
        """Refuse what waits, let running answers finish for so long, and give the memory back; a second call does
        nothing."""
        if not self._closing:
            self._closing = True
            self._send(Close())
        try:
            async with asyncio.timeout(grace_s):
                await self.wait_ended()
        except TimeoutError:
            self.kill()
            await self.wait_ended()

    def kill(self) -> None:
        """End the process now."""
        if self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            if sys.platform == "win32":
                self._process.kill()
            else:  # Popen.kill would take the exit code away from the event loop's watcher
                os.kill(self._process.pid, signal.SIGKILL)

    async def wait_ended(self) -> int:
        """The exit code, once the process has ended and every answer knows."""
        code: int = await self._process.wait()
        if self._reading is not None:
            await asyncio.shield(self._reading)
        self._end(EngineError("the model was unloaded"))
        return code

    def cancel(self, id: int) -> None:
        """End an answer, or give up waiting for it."""
        self._send(Cancel(id))

    def _forget(self, id: int) -> None:
        """Nobody waits any more, whether or not it has just begun."""
        if reply := self._waiting.pop(id, None):
            reply.cancel()
        self._send(Cancel(id))

    def _send(self, frame: Request) -> None:
        self._write(encode(frame))

    def _write(self, frame: bytes) -> None:
        assert self._process.stdin
        if not self._ended and not self._process.stdin.is_closing():
            self._process.stdin.write(frame)

    async def _read(self, stream: asyncio.StreamReader) -> None:
        """Until the process ends."""
        try:
            while True:
                self._take(await read_reply(stream))
        except (EOFError, OSError):
            pass
        finally:
            self.kill()  # it has ended, or closed the pipe, or sent what is no frame
        self._end(await self._died())

    def _take(self, reply: Reply) -> None:
        if isinstance(reply, Happened):
            self._happened(reply)
        elif isinstance(reply, Accepted):
            if waiting := self._waiting.pop(reply.id, None):
                answer = self._running[reply.id] = ProcessAnswer(self, reply.id, reply)
                waiting.set_result(answer)
        elif isinstance(reply, Counted):
            if (counting := self._counting.pop(reply.id, None)) and not counting.done():
                counting.set_result(reply.tokens)
        elif isinstance(reply, Failed) and reply.id is not None:
            self._failed(reply.id, reply.error)

    def _happened(self, reply: Happened) -> None:
        answer = self._running.get(reply.id)
        if answer is None:
            return
        answer.take(reply.events)
        if isinstance(reply.events[-1], Finished):
            del self._running[reply.id]
            self.answered += 1

    def _failed(self, id: int, error: LmsupplyError) -> None:
        if answer := self._running.pop(id, None):
            answer.fail(error)
            return
        reply = self._waiting.pop(id, None) or self._counting.pop(id, None)
        if reply is not None and not reply.done():
            reply.set_exception(error)

    async def _died(self) -> LmsupplyError:
        code = await self._process.wait()
        if self._closing and code == 0:
            return EngineError("the model was unloaded", hint="ask again")
        said = _last_line(self._errors)
        return WorkerDied(
            f"the process of {self._ref} ended with exit code {code}{f': {said}' if said else ''}",
            hint="ask again: it is started anew",
        )

    def _end(self, error: LmsupplyError) -> None:
        if self._ended:
            return
        self._ended = True
        self._why = error
        for id in [*self._running, *self._waiting, *self._counting]:
            self._failed(id, copy(error))  # each is raised in a task of its own
        if self._process.stdin:
            self._process.stdin.close()
        self._errors.close()

    def _check_open(self) -> None:
        if self._why is not None:
            raise copy(self._why)
        if self._closing:
            raise EngineError("the model is being unloaded", hint="send the request again")


def _command(ref: str) -> list[str]:
    """The process. `-P`: the folder in which it starts is no place for modules."""
    root = Path(__file__).parents[2]
    return [sys.executable, "-P", "-c", _START, str(root), "lmsupply-model", ref]


def _apart() -> dict[str, Any]:
    """Ctrl-C in the terminal is for this process alone."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _portable(request: AnswerRequest) -> AnswerRequest:
    """Without the functions of tools, which stay here."""
    tools = tuple(replace(tool, function=None) if tool.function else tool for tool in request.tools)
    return replace(request, tools=tools, options=dict(request.options))


def _last_line(stream: IO[bytes]) -> str:
    """What the process said last, "" for nothing."""
    with suppress(OSError, ValueError):
        end = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, end - 4096))
        text = re.sub(r"\x1b\[[0-9;]*m", "", stream.read().decode(errors="replace"))
        return plain(next((line.strip() for line in reversed(text.splitlines()) if line.strip()), ""))
    return ""

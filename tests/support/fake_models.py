"""Models whose answers are scripted: the server without an engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from lmsupply_cli.errors import LmsupplyError, ModelNotFound
from lmsupply_cli.events import Finished, GenerationEvent, Notice, TextDelta, Timings, Usage
from lmsupply_cli.serving.requests import AnswerRequest, LoadedWorker, ServedModel, WarmModel

Script = Callable[[AnswerRequest], Sequence[GenerationEvent | LmsupplyError | float]]

TINY = ServedModel(
    "tiny", ("tiny", "fast"), 4096, 1_000_000, 1_700_000_000.0, "ab" * 32, "llama", 0.1, "int4", "mit", True
)


def says(*texts: str, finish: str = "stop") -> Script:
    """Answers with these pieces of text."""
    pieces = tuple(map(TextDelta, texts))
    usage = Usage(prompt_tokens=7, cached_tokens=3, completion_tokens=len(texts))
    return lambda request: (*pieces, Finished(finish, usage, Timings(0.0, 0.1, 0.1, 0.2)))  # type: ignore[arg-type]


@dataclass
class FakeAnswer:
    """Events in order; an error is raised, a number is waited for (in seconds)."""

    events: Sequence[GenerationEvent | LmsupplyError | float]
    prompt_tokens: int = 7
    notices: tuple[Notice, ...] = ()
    cancelled: bool = False
    finished: bool = False

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        for event in self.events:
            if isinstance(event, LmsupplyError):
                raise event
            if isinstance(event, (int, float)):
                await asyncio.sleep(event)
                continue
            await asyncio.sleep(0)
            self.finished = isinstance(event, Finished)
            yield event

    def cancel(self) -> None:
        self.cancelled = not self.finished


@dataclass
class FakeModels:
    """`script`: what a request is answered with; `refuses`: raised by `answer` instead. `asked` and `answers`: all so far."""

    script: Script = field(default_factory=lambda: says("Hel", "lo"))
    refuses: LmsupplyError | None = None
    models: tuple[ServedModel, ...] = (TINY,)
    asked: list[tuple[str, AnswerRequest, float | None]] = field(default_factory=list)
    answers: list[FakeAnswer] = field(default_factory=list)
    in_memory: set[str] = field(default_factory=set)

    def installed(self) -> Sequence[ServedModel]:
        return [replace(model, loaded=model.ref in self.in_memory) for model in self.models]

    def loaded(self) -> Sequence[LoadedWorker]:
        return [
            LoadedWorker(ref, 5_000_000, 4096, "cpu", 1234, False, 600.0, 0, 0, len(self.asked))
            for ref in sorted(self.in_memory)
        ]

    def find(self, model: str) -> ServedModel:
        for found in self.installed():
            if model in (found.ref, *found.aliases):
                return found
        raise ModelNotFound(f"no model {model!r}", hint="models: tiny")

    def warm(self, model: str) -> WarmModel | None:
        self.find(model)
        return None

    async def answer(self, model: str, request: AnswerRequest, *, keep_alive_s: float | None = None) -> FakeAnswer:
        found = self.find(model)
        self.asked.append((model, request, keep_alive_s))
        if self.refuses:
            raise self.refuses
        self.in_memory.add(found.ref)
        self.answers.append(FakeAnswer(self.script(request)))
        return self.answers[-1]

    async def count_tokens(self, model: str, request: AnswerRequest) -> int:
        self.find(model)
        if self.refuses:
            raise self.refuses
        return 7

    async def load(self, model: str, *, keep_alive_s: float | None = None) -> None:
        self.in_memory.add(self.find(model).ref)

    async def unload(self, model: str) -> bool:
        ref = self.find(model).ref
        was = ref in self.in_memory
        self.in_memory.discard(ref)
        return was

    async def start(self) -> None:
        """As a pool."""

    async def close(self, *, grace_s: float = 30.0) -> None:
        self.in_memory.clear()

    def kill(self) -> None:
        for answer in self.answers:
            answer.cancel()

"""Many callers, one model: at most so many requests at once, the others wait in the order in which they came.

The engine holds Python's lock while it computes, so two requests at once share one speed: this is fairness, not
speed. For many prompts that are there together, `TextGenerator.generate_batch` is faster.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Unpack

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationKeywords, GenerationOptions
from lmsupply_cli.errors import EngineError, QueueFull, QueueTimeout, UsageError
from lmsupply_cli.events import Finished, GenerationEvent
from lmsupply_cli.generation.answers import Answers, Messages
from lmsupply_cli.generation.classification import Classification
from lmsupply_cli.generation.completion import Completion, ModelInfo
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.prompter import Prompter

_LOOK_S = 0.02  # between two looks at a cancel token while waiting


@dataclass(frozen=True, slots=True)
class QueueStats:
    """Counts of running, waiting, answered, rejected and timed-out requests."""

    running: int
    waiting: int
    answered: int
    refused: int
    gave_up: int


class GeneratorPool(Answers):
    """A TextGenerator for any number of threads. Use it in `with`, or close it.

    Each of the `concurrency` requests that run at once has its own prompt cache.
    """

    def __init__(
        self,
        generator: TextGenerator,
        *,
        concurrency: int = 1,
        queue_limit: int = 64,
        timeout_s: float | None = None,
        grace_s: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`queue_limit`: how many requests may wait before QueueFull; `timeout_s`: how long one waits before
        QueueTimeout; `grace_s`: how long `close` waits for running answers. The pool closes `generator`. Raises
        UsageError."""
        if concurrency < 1 or queue_limit < 0:
            raise UsageError("`concurrency` must be at least 1 and `queue_limit` at least 0")
        self._slots = [generator, *(generator.sibling() for _ in range(concurrency - 1))]
        self._free = list(self._slots)
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()
        self._limit, self._timeout_s, self._clock = queue_limit, timeout_s, clock
        self._closed, self._grace_s = False, grace_s
        self._answered = self._refused = self._gave_up = 0

    @property
    def info(self) -> ModelInfo:
        """The model, and how it runs."""
        return self._slots[0].info

    @property
    def options(self) -> GenerationOptions:
        """Default options for calls that pass none."""
        return self._slots[0].options

    @property
    def prompter(self) -> Prompter:
        """Builds prompts without a cache: which one will be used is not known."""
        return replace(self._slots[0].prompter, cached=None)

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self._slots[0].context_tokens

    def cached_prefix_tokens(self, ids: Sequence[int]) -> int:
        """Length of the longest prefix of `ids` that is in one of the caches."""
        with self._changed:
            return max((slot.cached_prefix_tokens(ids) for slot in self._free), default=0)

    @property
    def stats(self) -> QueueStats:
        """Current statistics."""
        with self._changed:
            return QueueStats(
                len(self._slots) - len(self._free), len(self._queue), self._answered, self._refused, self._gave_up
            )

    def stream(
        self,
        prompt: str,
        *,
        raw: bool = False,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Iterator[GenerationEvent]:
        """Like `TextGenerator.stream`. The first event waits for a free slot, which is held until the last event."""
        yield from self._run(
            lambda slot: slot.stream(prompt, raw=raw, guidance=guidance, cancel=cancel, **options), cancel
        )

    def stream_chat(
        self,
        messages: Messages,
        *,
        tools: Iterable[Any] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Iterator[GenerationEvent]:
        """Like `TextGenerator.stream_chat`. The first event waits for a free slot, which is held until the last
        event."""
        yield from self._run(
            lambda slot: slot.stream_chat(
                messages,
                tools=tools,
                tool_choice=tool_choice,
                parallel_tool_calls=parallel_tool_calls,
                guidance=guidance,
                cancel=cancel,
                **options,
            ),
            cancel,
        )

    def generate_batch(
        self,
        prompts: Sequence[str | Sequence[ChatMessage | Mapping[str, Any]]],
        *,
        batch_size: int | None = None,
        guidance: Guidance | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> list[Completion]:
        """Like `TextGenerator.generate_batch`, when a slot is free. Raises QueueFull, QueueTimeout."""
        with self._turn(None) as slot:
            assert slot is not None
            return slot.generate_batch(prompts, batch_size=batch_size, guidance=guidance, **options)

    def classify(self, prompt: str | Messages, choices: Sequence[str], *, raw: bool = False) -> Classification:
        """Like `TextGenerator.classify`, when a slot is free. Raises QueueFull, QueueTimeout."""
        with self._turn(None) as slot:
            assert slot is not None
            return slot.classify(prompt, choices, raw=raw)

    def stream_prompt(
        self,
        prompt: Prompt,
        options: GenerationOptions | None = None,
        *,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[GenerationEvent]:
        """Like `TextGenerator.stream_prompt`. The first event waits for a free slot, which is held until the last
        event."""
        yield from self._run(lambda slot: slot.stream_prompt(prompt, options, guidance=guidance, cancel=cancel), cancel)

    def count_tokens(self, text: str) -> int:
        """See `TextGenerator.count_tokens`."""
        return self._slots[0].count_tokens(text)

    def warm_up(self) -> None:
        """See `TextGenerator.warm_up`; every slot is warmed."""
        for slot in self._slots:
            slot.warm_up()

    def close(self) -> None:
        """Reject waiting requests, give running ones a few seconds to finish, then free the model; a second call does
        nothing."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            # a stream that was given up half-way, and is still held, never ends
            self._changed.wait_for(lambda: len(self._free) == len(self._slots), timeout=self._grace_s)
        for slot in reversed(self._slots):
            slot.close()

    def __enter__(self) -> GeneratorPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(
        self, start: Callable[[TextGenerator], Iterator[GenerationEvent]], cancel: CancelToken | None
    ) -> Iterator[GenerationEvent]:
        with self._turn(cancel) as slot:
            if slot is None:
                yield Finished("cancelled")
            else:
                yield from start(slot)

    @contextmanager
    def _turn(self, cancel: CancelToken | None) -> Iterator[TextGenerator | None]:
        """A slot, when it is free and nobody came before; None if it was cancelled meanwhile."""
        slot = self._wait(cancel)
        try:
            yield slot
        finally:
            if slot is not None:
                with self._changed:
                    self._free.append(slot)
                    self._answered += 1
                    self._changed.notify_all()

    def _wait(self, cancel: CancelToken | None) -> TextGenerator | None:
        ticket = object()
        with self._changed:
            if self._closed:
                raise EngineError("the pool is closed", hint="make a new one")
            if (not self._free or self._queue) and len(self._queue) >= self._limit:
                self._refused += 1
                raise QueueFull(
                    f"{len(self._queue)} requests are already waiting", hint="try again later, or raise the queue limit"
                )
            self._queue.append(ticket)
            ends = None if self._timeout_s is None else self._clock() + self._timeout_s
            try:
                while not (self._free and self._queue[0] is ticket):
                    if cancel and cancel.cancelled:
                        self._gave_up += 1
                        return None
                    if self._closed:
                        raise EngineError("the pool was closed while this request waited", hint="make a new one")
                    if ends is not None and self._clock() >= ends:
                        self._gave_up += 1
                        raise QueueTimeout(
                            f"the request was not started within {self._timeout_s:g} s",
                            hint="try again later, or wait longer",
                        )
                    self._changed.wait(_LOOK_S if cancel or ends is not None else None)
                return self._free.pop()
            finally:
                self._queue.remove(ticket)
                self._changed.notify_all()

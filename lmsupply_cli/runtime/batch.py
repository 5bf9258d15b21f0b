"""Many prompts with one loaded model: how many at once, and their answers in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.chat.reasoning import make_splitter
from lmsupply_cli.engine.batch import Row, stream_batch
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import DoesNotFit, UsageError
from lmsupply_cli.events import GenerationEvent, Notice, ReasoningDelta, TextDelta, TextWasReasoning, Timings, Usage
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.fit import MARGIN
from lmsupply_cli.memory.shape import MemoryShape
from lmsupply_cli.runtime.budget import memory_notice, planning_bytes, resident_bytes
from lmsupply_cli.runtime.generator import Completion, TextGenerator, complete
from lmsupply_cli.runtime.pace import CPU, GPU, Choice, Pace
from lmsupply_cli.runtime.said import Said
from lmsupply_cli.units import format_bytes

BATCH_SIZE, LARGEST = 8, 32


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt that is made, and how it is to be answered."""

    prompt: Prompt
    options: GenerationOptions


def batch_bytes(shape: MemoryShape, rows: int, prompt_tokens: int, context_tokens: int) -> int:
    """What a batch holds at its peak beyond the weights: a cache for each row, and the scores of all prompts, which the
    engine computes in one piece."""
    whole = estimate_memory(shape, 1, chunk_tokens=rows * prompt_tokens)
    return rows * shape.cache_bytes(context_tokens) + whole.work_bytes + whole.logits_bytes


def largest_batch(shape: MemoryShape | None, free_bytes: int | None, asked: Sequence[Asked], *, at_most: int) -> int:
    """How many of `asked`, from the first, fit the memory at once; at least 1."""
    count = min(at_most, len(asked))
    if shape is None or free_bytes is None:
        return max(1, count)
    while count > 1:
        longest = max(len(one.prompt.ids) for one in asked[:count])
        most = max(one.options.max_tokens for one in asked[:count])
        if batch_bytes(shape, count, longest, longest + most) <= free_bytes * MARGIN:
            break
        count -= 1
    return max(1, count)


def check_batch(generator: TextGenerator, free_bytes: int | None, rows: int) -> None:
    """An explicit size never shrinks. Raises UsageError for one that the engine does not take, DoesNotFit where
    `rows` of a thousand tokens each do not fit."""
    if not 1 <= rows <= LARGEST:
        raise UsageError(f"a batch size of {rows} is not between 1 and {LARGEST}, the most that the engine takes")
    shape = generator.memory_shape
    if shape is None or free_bytes is None:
        return
    tokens = min(1024, generator.context_tokens)
    needed = batch_bytes(shape, rows, tokens // 2, tokens)
    if needed > free_bytes * MARGIN:
        raise DoesNotFit(
            f"--batch-size {rows} needs {format_bytes(needed)} for {tokens:,} tokens each, "
            f"{format_bytes(free_bytes * MARGIN)} can be used",
            hint="use a smaller one, or leave it out: then it follows the memory",
        )


def answer_batch(
    generator: TextGenerator,
    asked: Sequence[Asked],
    *,
    guidance: Guidance | None = None,
    cancel: CancelToken | None = None,
    progress: Callable[[int], None] | None = None,
    notice: Callable[[Notice], None] = lambda _: None,
) -> list[Completion]:
    """The answers, in order. `progress` hears the number of tokens written so far, `notice` when memory runs short;
    `guidance`: what each answer must follow. Raises DoesNotFit for a prompt that is longer than the context, or a batch
    that passes the memory limit."""
    for one in asked:
        generator.check_prompt(one.prompt)
        generator.check_options(one.options, guidance)
    pad = generator.model.shape.pad_id
    together = [one for one in asked if one.prompt.ids[-1] != pad]  # else its end would be taken for padding
    if len(together) < 2 or not generator.model.takes_batches(guidance):
        together = []
    answers = iter(_answer_rows(generator, together, guidance, cancel, progress, notice) if together else ())
    return [
        next(answers) if one in together else answer_alone(generator, one, guidance, cancel=cancel, notice=notice)
        for one in asked
    ]


def answer_alone(
    generator: TextGenerator,
    asked: Asked,
    guidance: Guidance | None = None,
    *,
    cancel: CancelToken | None = None,
    notice: Callable[[Notice], None] = lambda _: None,
) -> Completion:
    """As `answer_batch`, for one, with the prompt cache."""

    def heard() -> Iterator[GenerationEvent]:
        for event in generator.stream_prompt(asked.prompt, asked.options, guidance=guidance, cancel=cancel):
            if isinstance(event, Notice):
                notice(event)
            yield event

    return complete(heard())


def _answer_rows(
    generator: TextGenerator,
    asked: Sequence[Asked],
    guidance: Guidance | None,
    cancel: CancelToken | None,
    progress: Callable[[int], None] | None,
    notice: Callable[[Notice], None],
) -> list[Completion]:
    longest = max(len(one.prompt.ids) for one in asked)
    capacity = min(longest + max(one.options.max_tokens for one in asked), generator.context_tokens)
    _check_budget(generator, len(asked), longest, capacity)
    watch, ending, critical = generator.budget.watch() if generator.budget else None, CancelToken(cancel), False
    rows = [Row(one.prompt.ids, one.options, one.prompt.stop, one.prompt.stop_ids) for one in asked]
    began = time.monotonic()
    first = 0.0
    for written in stream_batch(generator.model, rows, capacity_tokens=capacity, guidance=guidance, cancel=ending):
        first = first or time.monotonic() - began
        if progress:
            progress(written)
        if watch and (state := watch.look()):
            notice(memory_notice(watch, state))
            critical = critical or state == "critical"
            if critical:
                ending.cancel()
    for row in rows:
        if critical and row.finish_reason == "cancelled":
            row.finish_reason = "memory"
    seconds = time.monotonic() - began
    return [
        _completion(generator, one, row, Timings(0.0, first, first, seconds - first), marked=not guidance)
        for one, row in zip(asked, rows, strict=True)
    ]


def _check_budget(generator: TextGenerator, rows: int, prompt_tokens: int, context_tokens: int) -> None:
    """Before a batch is read, as before each cache. Raises DoesNotFit."""
    budget, shape = generator.budget, generator.memory_shape
    if budget is None or shape is None:
        return
    needed = budget.used() + batch_bytes(shape, rows, prompt_tokens, context_tokens)
    usable = int(budget.limit_bytes * budget.before)
    if needed > usable:
        raise DoesNotFit(
            f"{rows} prompts at once would bring the process to {format_bytes(needed)}, "
            f"{format_bytes(usable)} of the limit may be used",
            hint="use a smaller batch size or fewer max_tokens, or raise the memory limit",
        )


def _completion(generator: TextGenerator, asked: Asked, row: Row, timings: Timings, *, marked: bool) -> Completion:
    said = Said()
    if marked and asked.prompt.marked:
        splitter = make_splitter(generator.markers, asked.prompt.text)
        for piece in [*splitter.push(row.text), *splitter.flush()]:
            if piece.kind == "retract":
                said.take(TextWasReasoning())
            else:
                said.take(TextDelta(piece.text) if piece.kind == "text" else ReasoningDelta(piece.text))
    else:
        said.text = row.text
    usage = Usage(len(row.ids), 0, row.completion_tokens)
    return Completion(said.text, row.finish_reason or "stop", usage, timings, said.reasoning)


class BatchRunner:
    """Answers many prompts in parts: how many at once follows the memory, and whether at once what that saves."""

    def __init__(
        self,
        generator: TextGenerator,
        *,
        size: int | None = None,
        guidance: Guidance | None = None,
        progress: Callable[[int], None] | None = None,
        notice: Callable[[Notice], None] = lambda _: None,
    ) -> None:
        """`size`: always so many at once. Raises UsageError, DoesNotFit for one that cannot be."""
        self._generator, self._guidance = generator, guidance
        self._progress, self._notice = progress, notice
        self._free_bytes = _free_bytes(generator)
        if size is not None:
            check_batch(generator, self._free_bytes, size)
        if guidance:
            generator.model.check_guidance(guidance)
        self._fixed = size is not None
        self._takes = generator.model.takes_batches(guidance)
        self.size = (size or BATCH_SIZE) if self._takes else 1
        self._pace = Pace(CPU if generator.info.provider == "cpu" else GPU)
        self._said = False
        if not self._takes:
            why = "the grammar names control tokens, or the model has none to spare"
            if not generator.model.takes_batches():
                why = f"batches were not tried with {generator.info.provider}"
            self._say_alone(why)

    def choose(self, left: Sequence[Asked]) -> Choice:
        """How the next of `left` (at least one, `size` are looked at) are answered."""
        left = left[: self.size]
        if self._fixed or len(left) == 1:
            return Choice(len(left), together=len(left) > 1)
        fits = largest_batch(self._generator.memory_shape, self._free_bytes, left, at_most=self.size)
        cached = self._generator.common_tokens(left[0].prompt.ids)
        choice = self._pace.choose([one.prompt.ids for one in left[:fits]], cached_tokens=cached)
        if choice.reason:
            self._say_alone(choice.reason)
        return choice

    def together(self, asked: Sequence[Asked]) -> list[Completion]:
        """See `answer_batch`."""
        self._generator.forget()  # its cache is not counted beside the batch's
        found = answer_batch(
            self._generator, asked, guidance=self._guidance, progress=self._progress, notice=self._notice
        )
        for answer in found:
            self._pace.saw(answer.usage.completion_tokens)
        return found

    def alone(self, asked: Asked) -> Completion:
        """See `answer_alone`."""
        found = answer_alone(self._generator, asked, self._guidance, notice=self._notice)
        self._pace.saw(found.usage.completion_tokens)
        return found

    def _say_alone(self, why: str) -> None:
        if not self._said:
            self._said = True
            self._notice(Notice("one_by_one", f"prompts are answered one after the other: {why}"))


def _free_bytes(generator: TextGenerator) -> int | None:
    """What a batch may take, with the weights in memory already."""
    limit = generator.budget.limit_bytes if generator.budget else None
    whole = planning_bytes(limit, generator.info.provider)
    return whole if whole is None or generator.info.provider != "cpu" else whole - resident_bytes()


def answer_all(
    generator: TextGenerator,
    prompts: Sequence[str | Sequence[ChatMessage | Mapping[str, str]]],
    *,
    batch_size: int | None,
    guidance: Guidance | None,
    options: GenerationOptions,
) -> list[Completion]:
    """See `TextGenerator.generate_batch`."""
    if options.num_beams > 1:
        raise UsageError("a batch has no beams", hint="leave num_beams out")
    generator.check_options(options, guidance)
    runner = BatchRunner(generator, size=batch_size, guidance=guidance)
    chats = [[ChatMessage.user(p)] if isinstance(p, str) else as_messages(p) for p in prompts]
    left = [Asked(generator.chat_prompt(chat), options) for chat in chats]
    for one in left:
        generator.check_prompt(one.prompt)
    found: list[Completion] = []
    while len(found) < len(left):
        choice = runner.choose(left[len(found) : len(found) + runner.size])
        part = left[len(found) : len(found) + choice.count]
        found += runner.together(part) if choice.together else map(runner.alone, part)
    return found

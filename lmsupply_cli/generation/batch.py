"""Several prompts at once on one loaded model: what that takes, and their answers in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.engine.batch import Row, RowEvents, stream_batch
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.generate import Task
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import DoesNotFit, UsageError
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    Notice,
)
from lmsupply_cli.generation.batch_plan import BatchPlan, BatchPlanner
from lmsupply_cli.generation.completion import AnswerBuffer, Completion, complete
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.reading import AnswerReader, Watched
from lmsupply_cli.memory.budget import planning_bytes, resident_bytes
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.rough import MARGIN
from lmsupply_cli.memory.shape import MemoryShape
from lmsupply_cli.units import format_bytes

BATCH_SIZE, LARGEST = 8, 32


@dataclass(frozen=True, slots=True)
class BatchItem:
    """A prompt that is made, and how it is to be answered. `guidance`: its own, else that of the batch."""

    prompt: Prompt
    options: GenerationOptions
    guidance: Guidance | None = None


class BatchListener:
    """Override the methods that you need; the base does nothing."""

    def progress(self, written_tokens: int) -> None:
        """So many tokens of the batch's answers have been generated."""

    def notice(self, notice: Notice) -> None:
        """Memory runs short, or prompts are answered one after the other."""


def batch_bytes(shape: MemoryShape, rows: int, prompt_tokens: int, context_tokens: int) -> int:
    """What a batch holds at its peak beyond the weights: a cache for each row, and the scores of all prompts, which the
    engine computes in one piece."""
    whole = estimate_memory(shape, 1, chunk_tokens=rows * prompt_tokens)
    return rows * shape.cache_bytes(context_tokens) + whole.work_bytes + whole.logits_bytes


def answer_batch(
    generator: TextGenerator,
    asked: Sequence[BatchItem],
    *,
    guidance: Guidance | None = None,
    cancel: CancelToken | None = None,
    listener: BatchListener | None = None,
) -> list[Completion]:
    """The answers, in order; `guidance`: what each answer must follow. Raises DoesNotFit for a prompt that is longer
    than the context, or a batch that passes the memory limit."""
    listener = listener or BatchListener()
    for one in asked:
        generator.check_prompt(one.prompt)
        generator.check_options(one.options, one.guidance or guidance)
    pad = generator.model.shape.pad_id
    # the end of a prompt that is the padding would be taken for it; tools have a parser that reads one stream
    together = [one for one in asked if one.prompt.ids[-1] != pad and one.prompt.tools is None]
    if len(together) < 2 or generator.model.batching_blocker() or switches(generator, together):
        together = []
    answers = iter(_answer_rows(generator, together, guidance, cancel, listener) if together else ())
    return [
        next(answers) if one in together else answer_alone(generator, one, guidance, cancel=cancel, listener=listener)
        for one in asked
    ]


def switches(generator: TextGenerator, asked: Sequence[BatchItem]) -> bool:
    """Whether they would pass the tokens beyond which the model reads a sequence in another way: all rows do together."""
    longest, most = max(len(one.prompt.ids) for one in asked), max(one.options.max_tokens for one in asked)
    return 0 < generator.model.shape.longrope_threshold < longest + most


def answer_alone(
    generator: TextGenerator,
    asked: BatchItem,
    guidance: Guidance | None = None,
    *,
    cancel: CancelToken | None = None,
    listener: BatchListener | None = None,
) -> Completion:
    """As `answer_batch`, for one, with the prompt cache."""
    listener = listener or BatchListener()

    def heard() -> Iterator[GenerationEvent]:
        own = asked.guidance or guidance
        for event in generator.stream_prompt(asked.prompt, asked.options, guidance=own, cancel=cancel):
            if isinstance(event, Notice):
                listener.notice(event)
            yield event

    return complete(heard())


def _answer_rows(
    generator: TextGenerator,
    asked: Sequence[BatchItem],
    guidance: Guidance | None,
    cancel: CancelToken | None,
    listener: BatchListener,
) -> list[Completion]:
    buffers, found = [AnswerBuffer() for _ in asked], dict[int, Completion]()
    batch = RowBatch(generator, asked, guidance, cancel=cancel)
    for step in batch.stream():
        noted = False
        for row, event in step:
            buffers[row].add(event)
            if isinstance(event, Finished):
                found[row] = buffers[row].completion(event)
            elif isinstance(event, Notice) and not noted:  # every row has it
                listener.notice(event)
                noted = True
        listener.progress(batch.written_tokens)
    return [found[row] for row in range(len(asked))]


class RowBatch:
    """Several prompts that are answered at once. `cancels`: each ends the answer of its row, `cancel` all of them."""

    def __init__(
        self,
        generator: TextGenerator,
        asked: Sequence[BatchItem],
        guidance: Guidance | None = None,
        *,
        cancel: CancelToken | None = None,
        cancels: Sequence[CancelToken] = (),
    ) -> None:
        """Raises DoesNotFit where that would pass the memory limit, UsageError for a guidance."""
        longest = max(len(one.prompt.ids) for one in asked)
        most = max(one.options.max_tokens for one in asked)
        self._capacity = min(longest + most, generator.context_tokens)
        if generator.budget and generator.memory_shape:
            generator.budget.check(
                batch_bytes(generator.memory_shape, len(asked), longest, self._capacity),
                f"{len(asked)} prompts at once",
                hint="use a smaller `batch_size` or fewer `max_tokens`, or raise `memory_limit`",
            )
        self._generator, self._ending = generator, CancelToken(cancel)
        self._rows = [
            Row(_task(generator, one, guidance), one_cancel)
            for one, one_cancel in zip(asked, cancels or [CancelToken() for _ in asked], strict=True)
        ]
        self._readers = [
            AnswerReader(one.prompt, row.task, (), row.cancel) for one, row in zip(asked, self._rows, strict=True)
        ]

    @property
    def written_tokens(self) -> int:
        """Of all answers so far."""
        return sum(row.completion_tokens for row in self._rows)

    def stream(self) -> Iterator[RowEvents]:
        """The events of each step by the number of their row, as those of `stream_prompt`."""
        budget = self._generator.budget
        watch = Watched(budget.watch(), self._ending) if budget else None
        rows = stream_batch(self._generator.model, self._rows, capacity_tokens=self._capacity, cancel=self._ending)
        for step in rows:
            events = [
                (number, made)
                for number, event in step
                for made in self._read(number, event, memory=bool(watch and watch.critical))
            ]
            if watch and (notice := watch.look()):
                events += [(number, notice) for number, row in enumerate(self._rows) if not row.finished]
            yield events

    def _read(self, number: int, event: GenerationEvent, *, memory: bool) -> Iterator[GenerationEvent]:
        reader = self._readers[number]
        if isinstance(event, Finished):
            return reader.end(event, load_s=0.0, memory=memory and event.finish_reason == "cancelled")
        return reader.read(event, self._rows[number].completion_tokens)


def _task(generator: TextGenerator, asked: BatchItem, guidance: Guidance | None) -> Task:
    prompt, guidance = asked.prompt, asked.guidance or guidance
    matcher = generator.new_matcher(guidance, prompt.answer_prefix) if guidance else None
    return Task(prompt.ids, asked.options, prompt.stop, prompt.stop_ids, matcher, prompt.continues)


def largest_batch(
    shape: MemoryShape | None, free_bytes: int | None, asked: Sequence[BatchItem], *, at_most: int
) -> int:
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
            f"`batch_size={rows}` needs {format_bytes(needed)} for {tokens:,} tokens each, "
            f"but only {format_bytes(free_bytes * MARGIN)} is available",
            hint="use a smaller one, or leave it out: then it follows the memory",
        )


class BatchRunner:
    """Answers many prompts in parts: how many at once follows the memory, and whether at once what that saves."""

    def __init__(
        self,
        generator: TextGenerator,
        *,
        size: int | None = None,
        guidance: Guidance | None = None,
        listener: BatchListener | None = None,
    ) -> None:
        """`size`: always so many at once. Raises UsageError, DoesNotFit for one that cannot be."""
        self._generator, self._guidance = generator, guidance
        self._listener = listener or BatchListener()
        if size is not None:
            check_batch(generator, _free_bytes(generator), size)
        self._fixed = size is not None
        self._why_never = generator.model.batching_blocker()
        self.size = 1 if self._why_never else (size or BATCH_SIZE)
        self._planner = BatchPlanner()
        self._said = False

    def choose(self, left: Sequence[BatchItem]) -> BatchPlan:
        """How the next of `left` (at least one, `size` are looked at) are answered."""
        if self._why_never:
            return self._said_of(BatchPlan(1, together=False, reason=self._why_never))
        left = left[: self.size]
        if len(left) > 1 and switches(self._generator, left):
            beyond = self._generator.model.shape.longrope_threshold
            return self._said_of(
                BatchPlan(
                    1,
                    together=False,
                    reason=f"this model processes sequences of more than {beyond:,} tokens differently",
                )
            )
        if self._fixed or len(left) == 1:
            return BatchPlan(len(left), together=len(left) > 1)
        fits = largest_batch(self._generator.memory_shape, _free_bytes(self._generator), left, at_most=self.size)
        cached = self._generator.cached_prefix_tokens(left[0].prompt.ids)
        return self._said_of(self._planner.choose([one.prompt.ids for one in left[:fits]], cached_tokens=cached))

    def together(self, asked: Sequence[BatchItem]) -> list[Completion]:
        """See `answer_batch`."""
        self._generator.clear_cache()  # its cache is not counted beside the batch's
        found = answer_batch(self._generator, asked, guidance=self._guidance, listener=self._listener)
        self._planner.record_batch(found)
        return found

    def alone(self, asked: BatchItem) -> Completion:
        """See `answer_alone`."""
        found = answer_alone(self._generator, asked, self._guidance, listener=self._listener)
        self._planner.record(found)
        return found

    def record(self, end: Finished) -> None:
        """An answer that was given alone, by whoever asked `choose`."""
        self._planner.record(end)

    def record_batch(self, ends: Sequence[Finished]) -> None:
        """Answers that were given together."""
        self._planner.record_batch(ends)

    def _said_of(self, choice: BatchPlan) -> BatchPlan:
        if not self._said:
            for notice in one_by_one(choice):
                self._said = True
                self._listener.notice(notice)
        return choice


def one_by_one(choice: BatchPlan) -> list[Notice]:
    """What is to be said of it."""
    text = f"prompts are answered one at a time: {choice.reason}"
    return [Notice("one_by_one", text)] if choice.reason else []


def _free_bytes(generator: TextGenerator) -> int | None:
    """What a batch may take, with the weights in memory already."""
    limit = generator.budget.limit_bytes if generator.budget else None
    whole = planning_bytes(limit, generator.info.provider)
    return whole if whole is None or generator.info.provider != "cpu" else whole - resident_bytes()


def answer_all(
    generator: TextGenerator,
    prompts: Sequence[str | Sequence[ChatMessage | Mapping[str, Any]]],
    *,
    batch_size: int | None,
    guidance: Guidance | None,
    options: GenerationOptions,
) -> list[Completion]:
    """See `TextGenerator.generate_batch`."""
    if options.num_beams > 1:
        raise UsageError("beam search cannot be combined with batches", hint="leave out `num_beams`")
    guidance = guidance or generator.guidance
    generator.check_options(options, guidance)
    runner = BatchRunner(generator, size=batch_size, guidance=guidance)
    chats = [_as_chat(prompt, number) for number, prompt in enumerate(prompts)]
    left = [BatchItem(generator.prompter.chat(chat), options) for chat in chats]
    for one in left:
        generator.check_prompt(one.prompt)
    found: list[Completion] = []
    while len(found) < len(left):
        choice = runner.choose(left[len(found) : len(found) + runner.size])
        part = left[len(found) : len(found) + choice.count]
        found += runner.together(part) if choice.together else map(runner.alone, part)
    return found


def _as_chat(prompt: object, number: int) -> list[ChatMessage]:
    if isinstance(prompt, str):
        return [ChatMessage.user(prompt)]
    if not isinstance(prompt, Iterable):
        raise UsageError(f"prompts[{number}] must be a string or a list of messages, not {type(prompt).__name__}")
    return as_messages(prompt)

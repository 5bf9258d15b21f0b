"""Several prompts at once on one loaded model: what that takes, and their answers in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.reasoning import make_splitter
from lmsupply_cli.engine.batch import Row, stream_batch
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.events import GenerationEvent, Notice, ReasoningDelta, TextDelta, TextWasReasoning, Timings, Usage
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.shape import MemoryShape
from lmsupply_cli.runtime.budget import memory_notice
from lmsupply_cli.runtime.completion import Completion, complete
from lmsupply_cli.runtime.generator import TextGenerator
from lmsupply_cli.runtime.said import Said


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
    if len(together) < 2 or generator.model.why_no_batches(guidance) or switches(generator, together):
        together = []
    answers = iter(_answer_rows(generator, together, guidance, cancel, progress, notice) if together else ())
    return [
        next(answers) if one in together else answer_alone(generator, one, guidance, cancel=cancel, notice=notice)
        for one in asked
    ]


def switches(generator: TextGenerator, asked: Sequence[Asked]) -> bool:
    """Whether they would pass the tokens beyond which the model reads a sequence in another way: all rows do together."""
    longest, most = max(len(one.prompt.ids) for one in asked), max(one.options.max_tokens for one in asked)
    return 0 < generator.model.shape.switch_tokens < longest + most


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
    if generator.budget and generator.memory_shape:
        generator.budget.check(
            batch_bytes(generator.memory_shape, len(asked), longest, capacity),
            f"{len(asked)} prompts at once",
            hint="use a smaller batch size or fewer max_tokens, or raise the memory limit",
        )
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

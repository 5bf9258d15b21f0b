"""Many prompts in parts: how many at once, and whether at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import DoesNotFit, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.memory.fit import MARGIN
from lmsupply_cli.memory.shape import MemoryShape
from lmsupply_cli.runtime.batch import Asked, answer_alone, answer_batch, batch_bytes, switches
from lmsupply_cli.runtime.budget import planning_bytes, resident_bytes
from lmsupply_cli.runtime.completion import Completion
from lmsupply_cli.runtime.generator import TextGenerator
from lmsupply_cli.runtime.pace import CPU, GPU, Choice, Pace
from lmsupply_cli.units import format_bytes

BATCH_SIZE, LARGEST = 8, 32


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
        self._why_never = generator.model.why_no_batches(guidance)
        self.size = 1 if self._why_never else (size or BATCH_SIZE)
        self._pace = Pace(CPU if generator.info.provider == "cpu" else GPU)
        self._said = False

    def choose(self, left: Sequence[Asked]) -> Choice:
        """How the next of `left` (at least one, `size` are looked at) are answered."""
        if self._why_never:
            return self._said_of(Choice(1, together=False, reason=self._why_never))
        left = left[: self.size]
        if len(left) > 1 and switches(self._generator, left):
            beyond = self._generator.model.shape.switch_tokens
            return self._said_of(
                Choice(1, together=False, reason=f"this model reads more than {beyond:,} tokens in another way")
            )
        if self._fixed or len(left) == 1:
            return Choice(len(left), together=len(left) > 1)
        fits = largest_batch(self._generator.memory_shape, self._free_bytes, left, at_most=self.size)
        cached = self._generator.common_tokens(left[0].prompt.ids)
        return self._said_of(self._pace.choose([one.prompt.ids for one in left[:fits]], cached_tokens=cached))

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

    def _said_of(self, choice: Choice) -> Choice:
        if not self._said:
            for notice in one_by_one(choice):
                self._said = True
                self._notice(notice)
        return choice


def one_by_one(choice: Choice) -> list[Notice]:
    """What is to be said of it."""
    text = f"prompts are answered one after the other: {choice.reason}"
    return [Notice("one_by_one", text)] if choice.reason else []


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
    guidance = guidance or generator.guidance
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

"""The three floors of generation, each an iterator over the one below: ids → events → a string.

Every one may be abandoned half-way: the decoder's tokens are what the engine holds, so the next call finds the true
prefix.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from lmsupply_cli.engine.base import Decoder, TextModel
from lmsupply_cli.engine.beams import beam_search
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.detokenizer import Detokenizer
from lmsupply_cli.engine.ending import Ending, StopSequenceDetector
from lmsupply_cli.engine.matcher import Matcher
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.prefill import Run, prefill
from lmsupply_cli.engine.processors import make_processors
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.errors import ContextOverflow, DoesNotFit
from lmsupply_cli.events import (
    Finished,
    FinishReason,
    GenerationEvent,
    Limit,
    Notice,
    Pulse,
    SpeculativeStats,
    TextDelta,
    Timings,
    TokenLogprob,
    Usage,
)

if TYPE_CHECKING:
    from lmsupply_cli.engine.beams import Scores


@dataclass(frozen=True)
class Task:
    """A prompt, and how it is answered.

    `stop` and `stop_ids` end the answer besides the options' stops and the model's end tokens; `matcher`: what the
    answer must follow; `continues`: the answer goes on with the text of the prompt, so a space at its start counts, as it does
    with a matcher; `shown`: of an answer that may call tools, the texts of control tokens that are shown, whatever the
    detokenizer hides, and no space at the start counts; `pulses`: every step is an event.
    """

    ids: Sequence[int]
    options: GenerationOptions
    stop: tuple[str, ...] = ()
    stop_ids: frozenset[int] = frozenset()
    matcher: Matcher | None = None
    continues: bool = False
    shown: Mapping[int, str] | None = None
    pulses: bool = False


@dataclass
class Drafting:
    """A token stream with the parameters of `stream_tokens`, and its statistics."""

    token_stream: Callable[..., Iterator[int]]
    stats: SpeculativeStats


@dataclass(frozen=True)
class Growth:
    """How an answer may outgrow its decoder: `context_tokens` is the most that prompt and answer may have together, and
    `enlarge` replaces a decoder that is full with `tokens`. The new decoder may be empty. Raises DoesNotFit."""

    context_tokens: int
    enlarge: Callable[[int], tuple[Decoder, Drafting | None]]


def stream_tokens(decoder: Decoder, sampler: Sampler, *, ending: Ending, run: Run) -> Iterator[int]:
    """Ids of the answer, without its end token. The decoder must have been prefilled."""
    ends = frozenset(ending.eos_ids)
    while not ending.is_cancelled(run):
        token = sampler.choose(decoder.logits())
        if token in ends:
            return
        run.ids.append(token)
        sampler.accept(token)
        yield token
        if ending.is_full(run):
            return
        decoder.append((token,))


class AnswerText:
    """Makes the text of one answer from its ids: no half characters, nothing from a stop sequence on."""

    def __init__(self, model: TextModel, task: Task) -> None:
        self._task = task
        self._stops = StopSequenceDetector([*task.options.stop, *task.stop])
        self._shown = task.shown or {}
        guided = task.matcher is not None and task.shown is None
        self._detokenizer: Detokenizer = model.new_detokenizer(continues=task.continues or guided)
        self._text = ""

    def push(self, token: int) -> str:
        """What can be shown now."""
        mark = self._shown.get(token)
        text = self._detokenizer.push(token) if mark is None else self._detokenizer.flush() + mark
        return self._kept(self._stops.push(text))

    def flush(self) -> str:
        """What was held back, at the end."""
        rest = self._stops.push(self._detokenizer.flush())
        return self._kept(rest if self.stopped else rest + self._stops.flush())

    @property
    def stopped(self) -> bool:
        """Whether a stop sequence came."""
        return self._stops.matched is not None

    @property
    def stop_sequence(self) -> str | None:
        """Which of the options' stops came, None if it was none of them."""
        return self._stops.matched if self._stops.matched in self._task.options.stop else None

    @property
    def complete(self) -> bool | None:
        """Whether the guidance accepts the answer as it is, whatever ended it; None without a guidance."""
        matcher = self._task.matcher
        if matcher is None:
            return None
        return matcher.accepts(self._text) if self.stopped else matcher.complete

    def _kept(self, text: str) -> str:
        if self._task.matcher:
            self._text += text
        return text


def stream_events(
    model: TextModel,
    decoder: Decoder,
    task: Task,
    *,
    cancel: CancelToken | None = None,
    run: Run | None = None,
    drafting: Drafting | None = None,
    growth: Growth | None = None,
) -> Iterator[GenerationEvent]:
    """Prefill the prompt, then the answer as text, then `Finished`. Raises DoesNotFit before any work.

    `run` is filled; `drafting`: another token stream, such as that of speculative decoding; without `growth` the answer
    ends when the decoder is full.
    """
    cancel, run = cancel or CancelToken(), run if run is not None else Run()
    context_tokens = growth.context_tokens if growth else decoder.capacity_tokens
    room = context_tokens - len(task.ids)
    if room < 1:
        raise overflow(len(task.ids), context_tokens)
    ending = Ending(min(task.options.max_tokens, room), model.shape.eos_ids | task.stop_ids, cancel)
    if task.options.num_beams > 1:
        yield from _beams(model, decoder, task, ending, run, room)
        return
    began = time.monotonic()
    yield from prefill(decoder, task.ids, run=run, cancel=cancel)
    prefilled = time.monotonic()
    text = AnswerText(model, task)
    answer = _Answer(model, task, text, ending, run)
    yield from answer.decode(decoder, drafting, growth)
    first = answer.first
    if rest := text.flush():
        yield TextDelta(rest)
    if text.stopped:
        run.finish_reason = "stop"
    ended = time.monotonic()
    timings = Timings(ttft_s=(first or prefilled) - began, prefill_s=prefilled - began, decode_s=ended - prefilled)
    stats = drafting.stats if drafting else None
    if stats:
        stats.tokens_per_s = run.completion_tokens / timings.decode_s if timings.decode_s > 0 else 0.0
    usage = Usage(len(task.ids), run.cached_tokens, run.completion_tokens)
    cut_by = reached_limit(run.finish_reason, task.options.max_tokens, room)
    yield Finished(
        run.finish_reason,
        usage,
        timings,
        stats,
        complete=text.complete,
        cut_by=cut_by,
        stop_sequence=text.stop_sequence,
    )


def reached_limit(reason: FinishReason, max_tokens: int, room: int) -> Limit | None:
    """What cut an answer for which the context had `room`; None for one that was not cut."""
    if reason != "length":
        return None
    return "context" if room < max_tokens else "max_tokens"


@dataclass
class _Answer:
    """The answer after the prefill, except what `text` still buffers; `first`: when its first token came."""

    model: TextModel
    task: Task
    text: AnswerText
    ending: Ending
    run: Run
    first: float | None = None

    def decode(self, decoder: Decoder, drafting: Drafting | None, growth: Growth | None) -> Iterator[GenerationEvent]:
        """Until it ends, with larger decoders where it outgrows one."""
        task, run, ending = self.task, self.run, self.ending
        if ending.is_cancelled(run):
            return
        vocabulary = self.model.shape.vocabulary
        sampler = Sampler(task.options, vocabulary=vocabulary, eos_ids=ending.eos_ids, matcher=task.matcher)
        sampler.read(task.ids)
        while True:
            most = min(ending.max_tokens, decoder.capacity_tokens - len(task.ids))
            yield from self._decode(decoder, drafting, sampler, replace(ending, max_tokens=most))
            if growth is None or run.finish_reason != "length" or run.completion_tokens >= ending.max_tokens:
                return
            if self.text.stopped:
                return
            run.finish_reason = "stop"
            tokens = [*task.ids, *run.ids]
            try:
                decoder, drafting = growth.enlarge(len(tokens))
            except DoesNotFit as error:
                run.finish_reason = "memory"
                yield Notice("memory_critical", f"{error.message}: the answer ends here")
                return
            for _ in prefill(decoder, tokens, run=Run(), cancel=ending.cancel):
                if task.pulses:
                    yield Pulse()
            if ending.is_cancelled(run):
                return

    def _decode(
        self, decoder: Decoder, drafting: Drafting | None, sampler: Sampler, ending: Ending
    ) -> Iterator[GenerationEvent]:
        token_stream = drafting.token_stream if drafting else stream_tokens
        for token in token_stream(decoder, sampler, ending=ending, run=self.run):
            self.first = self.first or time.monotonic()
            if sampler.logprobs:
                yield token_logprob(self.model, sampler)
            if shown := self.text.push(token):
                yield TextDelta(shown)
            elif self.task.pulses:
                yield Pulse()
            if self.text.stopped:
                return


def token_logprob(model: TextModel, sampler: Sampler) -> TokenLogprob:
    """What the sampler noted of its last choice, with the texts of the tokens."""
    scores = sampler.logprobs
    assert scores is not None
    top = tuple(TokenLogprob(model.token_text(token), token, logprob) for token, logprob in scores.top)
    return TokenLogprob(model.token_text(scores.token), scores.token, scores.logprob, top)


def _beams(
    model: TextModel, decoder: Decoder, task: Task, ending: Ending, run: Run, room: int
) -> Iterator[GenerationEvent]:
    """Beam search has nothing to show until it is done. `room`: tokens that the context has for the answer."""
    began = time.monotonic()
    options = task.options

    def penalize(tokens: Sequence[int], scores: Scores) -> Scores:
        for processor in make_processors(options, vocabulary=model.shape.vocabulary, ends=sorted(ending.eos_ids)):
            processor.read(tokens[: len(task.ids)])
            for token in tokens[len(task.ids) :]:
                processor.accept(token)
            processor.apply(scores)
        return scores

    best, *_ = beam_search(decoder, task.ids, num_beams=options.num_beams, ending=ending, processors=[penalize])
    text = AnswerText(model, task)
    shown = ""
    for token in best.tokens:
        shown += text.push(token)
        if text.stopped:
            break
    shown += text.flush()
    if not ending.is_cancelled(run) and not text.stopped and len(best.tokens) >= ending.max_tokens:
        run.finish_reason = "length"
    if shown:
        yield TextDelta(shown)
    seconds, usage = time.monotonic() - began, Usage(len(task.ids), 0, len(best.tokens))
    cut_by = reached_limit(run.finish_reason, options.max_tokens, room)
    timings = Timings(ttft_s=seconds, decode_s=seconds)
    yield Finished(run.finish_reason, usage, timings, cut_by=cut_by, stop_sequence=text.stop_sequence)


def overflow(prompt_tokens: int, context_tokens: int) -> ContextOverflow:
    return ContextOverflow(
        f"the prompt has {prompt_tokens:,} tokens; the context has {context_tokens:,}, and the answer needs room too",
        hint="shorten the prompt, use a model with a longer context, or raise `context` if this model allows it",
    )

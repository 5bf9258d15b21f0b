"""The three floors of generation, each an iterator over the one below: ids → events → a string.

Every one may be abandoned half-way: the decoder's tokens are what the engine holds, so the
next call finds the true prefix.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from lmsupply_cli.engine.base import PREFILL_CHUNK, Decoder, GuidedDecoder, TextModel
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.detokenizer import Detokenizer
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.prompt_cache import plan_reuse
from lmsupply_cli.engine.sampler import Sampler
from lmsupply_cli.engine.stops import StopSequenceDetector
from lmsupply_cli.errors import DoesNotFit
from lmsupply_cli.events import (
    Finished,
    FinishReason,
    GenerationEvent,
    PrefillProgress,
    SpeculativeStats,
    TextDelta,
    Timings,
    Usage,
)


@dataclass
class Run:
    """What happened so far; filled while the iterators run. `ids` are those of the answer."""

    cached_tokens: int = 0
    finish_reason: FinishReason = "stop"
    ids: list[int] = field(default_factory=list)

    @property
    def completion_tokens(self) -> int:
        return len(self.ids)


@dataclass
class Drafting:
    """A token floor of the shape of `stream_tokens`, and what it counts."""

    floor: Callable[..., Iterator[int]]
    stats: SpeculativeStats


def prefill(
    decoder: Decoder, ids: Sequence[int], *, run: Run, cancel: CancelToken, chunk: int = PREFILL_CHUNK
) -> Iterator[PrefillProgress]:
    """Make `ids` (at least one) the decoder's tokens, reusing what it has; progress after each chunk.

    Ends early when cancelled; the decoder then holds a true prefix of `ids`.
    """
    done, switch = plan_reuse(decoder.tokens, ids).rewind_to, decoder.switch_tokens
    beyond = 0 < switch < len(ids)
    if switch and (len(decoder.tokens) > switch) != beyond:
        done = 0  # what is there was read in the other way
    run.cached_tokens = done
    if done < len(decoder.tokens):
        decoder.rewind(done)
    yield PrefillProgress(done, len(ids))
    while done < len(ids) and not cancel.cancelled:
        piece = ids[done : max(done + chunk, switch + 1 if beyond else 0)]
        decoder.append(piece)
        done += len(piece)
        yield PrefillProgress(done, len(ids))


def stream_tokens(
    decoder: Decoder, sampler: Sampler, *, max_tokens: int, eos_ids: Iterable[int], run: Run, cancel: CancelToken
) -> Iterator[int]:
    """Ids of the answer, without its end token. The decoder must have been prefilled."""

    def choose() -> int:
        return sampler.choose(decoder.logits(), completed=run.completion_tokens)

    for token in _stream(choose, sampler, max_tokens, eos_ids, run, cancel):
        yield token
        if run.completion_tokens < max_tokens:
            decoder.append((token,))


def stream_guided(
    decoder: GuidedDecoder, sampler: Sampler, *, max_tokens: int, eos_ids: Iterable[int], run: Run, cancel: CancelToken
) -> Iterator[int]:
    """As `stream_tokens`, where the decoder follows a guidance, and appends what it chooses."""

    def choose() -> int:
        scores = None if decoder.chooses else sampler.noisy(decoder.logits(), completed=run.completion_tokens)
        return decoder.step(scores)

    yield from _stream(choose, sampler, max_tokens, eos_ids, run, cancel)


def _stream(
    choose: Callable[[], int], sampler: Sampler, max_tokens: int, eos_ids: Iterable[int], run: Run, cancel: CancelToken
) -> Iterator[int]:
    ends = frozenset(eos_ids)
    while True:
        if cancel.cancelled:
            run.finish_reason = "cancelled"
            return
        token = choose()
        if token in ends:
            return
        run.ids.append(token)
        sampler.observe((token,))
        yield token
        if run.completion_tokens >= max_tokens:
            run.finish_reason = "length"
            return


def stream_events(
    model: TextModel,
    decoder: Decoder,
    ids: Sequence[int],
    options: GenerationOptions,
    *,
    stops: Iterable[str] = (),
    stop_ids: Iterable[int] = (),
    cancel: CancelToken | None = None,
    run: Run | None = None,
    guided: bool = False,
    drafting: Drafting | None = None,
) -> Iterator[GenerationEvent]:
    """Prefill `ids`, then the answer as text, then `Finished`. Raises DoesNotFit before any work.

    `stops` and `stop_ids` end the answer besides the options' stops and the model's end tokens; `run` is filled;
    `guided`: the decoder is a GuidedDecoder; `drafting`: another token floor, such as one that guesses ahead.
    """
    cancel, run = cancel or CancelToken(), run if run is not None else Run()
    eos = model.shape.eos_ids | frozenset(stop_ids)
    room = decoder.capacity_tokens - len(ids)
    if room < 1:
        raise overflow(len(ids), decoder.capacity_tokens)
    if options.num_beams > 1:
        yield from _beams(model, ids, options, stops, run)
        return
    began = time.monotonic()
    yield from prefill(decoder, ids, run=run, cancel=cancel)
    prefilled = time.monotonic()
    first = prefilled
    matcher, detokenizer = StopSequenceDetector([*options.stop, *stops]), Detokenizer(model.decode, model.hidden_ids)
    if cancel.cancelled:
        run.finish_reason = "cancelled"
    else:
        sampler = Sampler(options, vocabulary=model.shape.vocabulary, eos_ids=eos)
        sampler.observe(ids)
        limit = min(options.max_tokens, room)
        floor: Callable[..., Iterator[int]] = stream_guided if guided else stream_tokens
        if drafting:
            floor = drafting.floor
        for token in floor(decoder, sampler, max_tokens=limit, eos_ids=eos, run=run, cancel=cancel):
            if run.completion_tokens == 1:
                first = time.monotonic()
            if text := matcher.push(detokenizer.push(token)):
                yield TextDelta(text)
            if matcher.matched is not None:
                run.finish_reason = "stop"
                break
    rest = matcher.push(detokenizer.flush())
    if matcher.matched is None:
        rest += matcher.flush()
    else:
        run.finish_reason = "stop"
    if rest:
        yield TextDelta(rest)
    ended = time.monotonic()
    timings = Timings(ttft_s=first - began, prefill_s=prefilled - began, decode_s=ended - prefilled)
    stats = drafting.stats if drafting else None
    if stats:
        stats.tokens_per_s = run.completion_tokens / timings.decode_s if timings.decode_s > 0 else 0.0
    yield Finished(run.finish_reason, Usage(len(ids), run.cached_tokens, run.completion_tokens), timings, stats)


def _beams(
    model: TextModel, ids: Sequence[int], options: GenerationOptions, stops: Iterable[str], run: Run
) -> Iterator[GenerationEvent]:
    """Beam search has nothing to show until it is done, and leaves no cache behind."""
    began = time.monotonic()
    found = model.beam_search(ids, options)
    matcher = StopSequenceDetector([*options.stop, *stops])
    text = matcher.push(model.decode(found))
    if matcher.matched is None:
        text += matcher.flush()
        run.finish_reason = "length" if len(found) >= options.max_tokens else "stop"
    if text:
        yield TextDelta(text)
    seconds = time.monotonic() - began
    yield Finished(run.finish_reason, Usage(len(ids), 0, len(found)), Timings(ttft_s=seconds, decode_s=seconds))


def join_text(events: Iterable[GenerationEvent]) -> str:
    """The answer as one string."""
    return "".join(event.text for event in events if isinstance(event, TextDelta))


def overflow(prompt_tokens: int, context_tokens: int) -> DoesNotFit:
    return DoesNotFit(
        f"the prompt has {prompt_tokens:,} tokens, the context holds {context_tokens:,} and an answer needs room too",
        hint="use a shorter prompt, a larger --context or a model with a longer one; nothing is ever cut silently",
    )

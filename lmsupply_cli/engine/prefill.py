"""Read a prompt: which of a decoder's tokens it can reuse, and in which pieces the rest is read.

On a CPU one row and many rows go through different kernels, which round differently in int4 and int8. So a prompt is
read in pieces of several tokens always, whether it is fresh, cached or cached in part: then the scores are the same to
the last bit, and so is the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lmsupply_cli.engine.base import PREFILL_CHUNK, Decoder
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.events import FinishReason, PrefillProgress

LEAST = 4  # tokens of a piece, where the prompt has as many


@dataclass
class Run:
    """What happened so far; filled while the iterators run. `ids` are those of the answer."""

    cached_tokens: int = 0
    finish_reason: FinishReason = "stop"
    ids: list[int] = field(default_factory=list)

    @property
    def completion_tokens(self) -> int:
        return len(self.ids)


def prefill(
    decoder: Decoder, ids: Sequence[int], *, run: Run, cancel: CancelToken, chunk: int = PREFILL_CHUNK
) -> Iterator[PrefillProgress]:
    """Make `ids` (at least one) the decoder's tokens, reusing what it has; progress after each chunk.

    Ends early when cancelled; the decoder then holds a true prefix of `ids`.
    """
    done, switch = plan_reuse(decoder.tokens, ids).rewind_to, decoder.longrope_threshold
    beyond = 0 < switch < len(ids)
    if switch and (len(decoder.tokens) > switch) != beyond:
        done = 0  # the cached tokens were read in the other way
    run.cached_tokens = done
    if done < len(decoder.tokens):
        decoder.rewind(done)
    yield PrefillProgress(done, len(ids))
    first = switch + 1 - done if beyond else 0
    for size in plan_chunks(len(ids) - done, chunk=chunk, first=first):
        if cancel.cancelled:
            return
        decoder.append(ids[done : done + size])
        done += size
        yield PrefillProgress(done, len(ids))


@dataclass(frozen=True, slots=True)
class Reuse:
    """Rewind to `rewind_to` tokens, then append `append` (never empty)."""

    rewind_to: int
    append: tuple[int, ...]


def plan_reuse(cached: Sequence[int], wanted: Sequence[int]) -> Reuse:
    """The longest common prefix, shortened so that at least `LEAST` tokens are read again."""
    common = 0
    for have, want in zip(cached, wanted, strict=False):
        if have != want:
            break
        common += 1
    common = max(0, min(common, len(wanted) - LEAST))
    return Reuse(common, tuple(wanted[common:]))


def plan_chunks(count: int, *, chunk: int, first: int = 0) -> Iterator[int]:
    """Sizes of the pieces of `count` tokens: `chunk` each, the first of at least `first`, the last of at least `LEAST`
    where there are as many."""
    while count > 0:
        size = min(count, max(chunk, first))
        if 0 < count - size < LEAST:
            size = size - LEAST if size - LEAST >= max(first, 1) else count
        yield size
        count -= size
        first = 0

"""Read a prompt: make its tokens those of a decoder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from lmsupply_cli.engine.base import PREFILL_CHUNK, Decoder
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.prompt_cache import plan_chunks, plan_reuse
from lmsupply_cli.events import FinishReason, PrefillProgress


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

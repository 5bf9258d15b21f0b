"""The protocols that everything above the engine is written against.

`Decoder` is the narrow waist: a sequence of tokens whose keys and values are in the cache.
Its `tokens` are the truth, read back from the engine; the end token of an answer is never
among them, since it is chosen and not appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from lmsupply_cli.errors import DoesNotFit, UsageError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lmsupply_cli.engine.detokenizer import Detokenizer
    from lmsupply_cli.engine.guidance import Guidance
    from lmsupply_cli.engine.matcher import Matcher

    Logits = npt.NDArray[np.float32]

PREFILL_CHUNK = 64  # tokens; as fast as one piece, and each chunk is a place to stop (about 0.7 s on a 1B model)


@dataclass(frozen=True, slots=True)
class ModelShape:
    """What the engine needs to be told about a model; `context_length` and `vocabulary` in tokens.

    `longrope_threshold`: beyond this many tokens a long-RoPE model uses other rotary factors, and a KV cache built with
    the first set is invalid; 0: not long-RoPE. The graph chooses by the number of tokens in its input, so a longer prompt
    begins with one chunk beyond the threshold, and a sequence that grows beyond it is prefilled again."""

    folder: Path | None
    type: str
    context_length: int
    vocabulary: int
    eos_ids: frozenset[int]
    bos_id: int | None
    provider: str = "cpu"
    threads: int = 1
    pad_id: int | None = None
    longrope_threshold: int = 0


@runtime_checkable
class Decoder(Protocol):
    """One sequence. Not safe for use by two threads at once."""

    capacity_tokens: int
    longrope_threshold: int  # as in ModelShape

    @property
    def tokens(self) -> Sequence[int]:
        """The ids whose keys and values are in the cache."""

    def append(self, ids: Sequence[int]) -> None:
        """Feed ids (at least one) in one engine call. Raises DoesNotFit beyond the capacity."""

    def logits(self) -> Logits:
        """Scores of the next token, float32 of shape (vocabulary,). Only after an append."""

    def wide_logits(self, count: int) -> Logits:
        """Scores after each of the last `count` tokens of the last append, of shape (count, vocabulary).
        Raises EngineError if it is unsupported, see `drafting_blocker`."""

    def rewind(self, count: int) -> None:
        """Keep the first `count` tokens. An append must follow before `logits`."""

    def close(self) -> None:
        """Give the cache back; a second call does nothing."""


@runtime_checkable
class BatchDecoder(Protocol):
    """Several sequences that grow together."""

    def logits(self) -> Logits:
        """Scores of the next token of each row, float32 of shape (rows, vocabulary)."""

    def choose(self, tokens: Sequence[int | None]) -> None:
        """The next token of each row; None for one that has ended."""

    def close(self) -> None:
        """Give the cache back; a second call does nothing."""


@runtime_checkable
class TextModel(Protocol):
    """Weights and tokenizer, loaded once; makes decoders."""

    shape: ModelShape
    hidden_ids: frozenset[int]  # control tokens that `decode` leaves out

    tokenizer_note: str  # what a user should know about the tokenizer, "" for nothing

    def encode(self, text: str) -> list[int]:
        """Token ids; strings of added tokens in `text` become those tokens. Raises UsageError."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; an incomplete character becomes U+FFFD or is missing."""

    def new_detokenizer(self, *, continues: bool = False) -> Detokenizer:
        """For ids that arrive one by one; `continues`: the text goes on with another, so a space at its start counts."""

    def token_text(self, token: int) -> str:
        """One token as text, control tokens too; a part of a character becomes U+FFFD."""

    def new_matcher(self, guidance: Guidance) -> Matcher:
        """For one answer that follows `guidance`. Raises UsageError."""

    def new_decoder(self, *, capacity_tokens: int, share_buffer: bool | None = None) -> Decoder:
        """An empty sequence that holds up to `capacity_tokens`; the cache is allocated for all of them."""

    def new_batch(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        capacity_tokens: int,
        share_buffer: bool | None = None,
    ) -> BatchDecoder:
        """Read several prompts at once; the cache is allocated for `capacity_tokens` of each, padding included.
        See `batching_blocker`."""

    def batching_blocker(self) -> str | None:
        """Why `new_batch` cannot be used; None if it can."""

    def drafting_blocker(self) -> str | None:
        """Why draft tokens cannot be scored in one call; None if they can."""

    def close(self) -> None:
        """Free the weights; a second call does nothing."""


def check_append(ids: Sequence[int], *, held_tokens: int, capacity_tokens: int, vocabulary: int) -> None:
    """What every decoder refuses. Raises ValueError, DoesNotFit."""
    if not ids:
        raise ValueError("append needs at least one token")
    if any(not 0 <= token < vocabulary for token in ids):
        raise ValueError(f"a token is outside the vocabulary of {vocabulary}")
    if held_tokens + len(ids) > capacity_tokens:
        raise DoesNotFit(
            f"{held_tokens + len(ids):,} tokens do not fit a context of {capacity_tokens:,}",
            hint="use a larger `context`, or fewer tokens",
        )


def check_text(text: str, what: str = "the prompt") -> None:
    """A NUL is no text, and half a surrogate pair has no tokens: refuse both."""
    if "\0" in text:
        raise UsageError(f"{what} contains a NUL character", hint="is it a binary file? only text can be read")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise UsageError(f"{what} is not valid Unicode: it contains half a surrogate pair", hint="save it as UTF-8")

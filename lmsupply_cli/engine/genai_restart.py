"""Decoders for providers that cannot go on with a generator once it decodes (DirectML in the versions that have it).

The sequence is kept here. A single new token is forced through the engine's own step: its logits are
overwritten so that only that token can be chosen. Anything else (a new turn, a rewind) begins a new
generator and reads the sequence again: correct, and slower by that reading.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lmsupply_cli.engine.base import ModelShape, check_append
from lmsupply_cli.engine.genai_decoders import split_padding
from lmsupply_cli.engine.genai_errors import run_error
from lmsupply_cli.errors import EngineError

if TYPE_CHECKING:
    from lmsupply_cli.engine.base import Logits

_FORCED, _NEVER = 0.0, -1e30


class RestartingDecoder:
    """`new_generator` makes an empty one of the engine; end tokens end it and are never forced."""

    def __init__(
        self,
        new_generator: Callable[[], Any],
        *,
        capacity_tokens: int,
        shape: ModelShape,
    ) -> None:
        self.capacity_tokens = capacity_tokens
        self.switch_tokens = shape.switch_tokens
        self.restarts = 0
        self._new_generator = new_generator
        self._pad = None if shape.pad_id in shape.eos_ids else shape.pad_id  # an end token cannot be forced
        self._vocabulary, self._eos = shape.vocabulary, shape.eos_ids
        self._generator: Any = new_generator()
        self._tokens: list[int] | None = []
        self._read = 0  # of the tokens, how many the generator holds
        self._fresh = False

    @property
    def tokens(self) -> Sequence[int]:
        return list(self._open())

    def append(self, ids: Sequence[int]) -> None:
        tokens = self._open()
        check_append(ids, held_tokens=len(tokens), capacity_tokens=self.capacity_tokens, vocabulary=self._vocabulary)
        tokens.extend(ids)
        self._fresh = True

    def logits(self) -> Logits:
        """The engine is fed here, with all that was appended since: it takes a prompt only in one piece."""
        tokens = self._open()
        if not self._fresh:
            raise RuntimeError("logits are only there after an append")
        try:
            self._feed(tokens)
            scores: Logits = self._generator.get_logits().reshape(-1)[: self._vocabulary]
        except RuntimeError as error:
            raise run_error(error) from error
        return scores

    def wide_logits(self, count: int) -> Logits:
        if count == 1:
            return self.logits().reshape(1, -1)
        raise EngineError("this provider cannot read several draft tokens at once", hint="`speculative=off`")

    def _feed(self, tokens: list[int]) -> None:
        import numpy as np

        new = tokens[self._read :]
        if not new:
            return
        crosses = self._read <= self.switch_tokens < len(tokens)
        if self._read and len(new) == 1 and new[0] not in self._eos and not crosses:
            self._force(new[0])
        else:
            if self._read:
                self._restart()
            whole, *pads = split_padding(tokens, self._pad)
            self._generator.append_tokens(np.asarray(whole, dtype=np.int32))
            for pad in pads:
                self._force(pad[0])
        self._read = len(tokens)

    def _force(self, token: int) -> None:
        """Let the engine's own step choose `token`."""
        import numpy as np

        forced = np.full_like(self._generator.get_logits(), _NEVER)
        forced[..., token] = _FORCED
        self._generator.set_logits(forced)
        self._generator.generate_next_token()

    def rewind(self, count: int) -> None:
        tokens = self._open()
        if not 0 <= count <= len(tokens):
            raise ValueError(f"cannot rewind {len(tokens)} tokens to {count}")
        del tokens[count:]
        self._fresh = False
        if count < self._read:
            self._restart()

    def _restart(self) -> None:
        self._generator = None  # its cache goes before the next one comes
        self._generator = self._new_generator()
        self._read = 0
        self.restarts += 1

    def close(self) -> None:
        self._generator = self._tokens = None

    def _open(self) -> list[int]:
        if self._tokens is None:
            raise EngineError("the decoder is closed", hint="make a new one")
        return self._tokens

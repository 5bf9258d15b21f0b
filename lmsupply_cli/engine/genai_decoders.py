"""Decoders over generators of the engine: of one sequence, and of a batch. The engine is fed and read, it never samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from lmsupply_cli.engine.base import ModelShape, check_append
from lmsupply_cli.engine.genai_errors import run_error
from lmsupply_cli.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lmsupply_cli.engine.base import Logits
    from lmsupply_cli.engine.genai import GenaiModel

_NEVER = -1e30  # a score that no sampler takes


class GenaiDecoder:
    """A Decoder over one engine generator."""

    def __init__(self, model: GenaiModel, *, capacity_tokens: int, search: dict[str, Any]) -> None:
        self.capacity_tokens = capacity_tokens
        self.longrope_threshold = model.shape.longrope_threshold
        self._model = model
        self._search = search
        self._generator: Any = self._new_generator()
        self._fresh = False
        self._rows: list[Logits] = []  # scores of the parts of the last append, where it had several

    @property
    def tokens(self) -> Sequence[int]:
        generator = self._open()
        if generator.token_count() == 0:
            return []
        ids: list[int] = generator.get_sequence(0).tolist()
        return ids

    def append(self, ids: Sequence[int]) -> None:
        generator = self._open()
        held = generator.token_count()
        check_append(
            ids,
            held_tokens=held,
            capacity_tokens=self.capacity_tokens,
            vocabulary=self._model.shape.vocabulary,
        )
        if 0 < held <= self.longrope_threshold < held + len(ids):
            ids = [*self.tokens, *ids]
            generator = self._begin_anew()
        self._rows = []
        try:
            parts = split_padding(ids, self._model.shape.pad_id)
            for part in parts:
                generator.append_tokens(as_array(part))
                if len(parts) > 1:
                    self._rows.append(generator.get_output("logits")[0].copy())
        except RuntimeError as error:
            raise run_error(error) from error
        self._fresh = True

    def logits(self) -> Logits:
        if not self._fresh:
            raise RuntimeError("logits are only there after an append")
        try:
            scores: Logits = self._open().get_logits().reshape(-1)[: self._model.shape.vocabulary]
        except RuntimeError as error:
            raise run_error(error) from error
        return scores

    def wide_logits(self, count: int) -> Logits:
        if count == 1:
            return self.logits().reshape(1, -1)
        if not self._fresh:
            raise RuntimeError("logits are only there after an append")
        import numpy as np

        try:
            rows: Logits = np.concatenate(self._rows) if self._rows else self._open().get_output("logits")[0]
        except RuntimeError as error:
            raise run_error(error) from error
        if len(rows) < count:
            raise EngineError("this model returns scores only for the last token", hint="`speculative=off`")
        return rows[len(rows) - count :, : self._model.shape.vocabulary]

    def rewind(self, count: int) -> None:
        generator = self._open()
        if not 0 <= count <= generator.token_count():
            raise ValueError(f"cannot rewind {generator.token_count()} tokens to {count}")
        self._fresh = False
        if count == generator.token_count():
            return
        if not 0 < count <= self.longrope_threshold < generator.token_count():
            try:
                generator.rewind_to(count)
            except RuntimeError:  # a sliding window forgets what it would need
                pass
            else:
                return
        kept = self.tokens[:count]  # is read again
        self._begin_anew()
        if kept:
            self.append(kept)
            self._fresh = False

    def _begin_anew(self) -> Any:
        self.close()  # its cache goes before the next one comes
        self._generator = self._new_generator()
        return self._generator

    def close(self) -> None:
        self._generator = None

    def _new_generator(self) -> Any:
        return self._model.new_generator(capacity_tokens=self.capacity_tokens, **self._search)

    def _open(self) -> Any:
        if self._generator is None:
            raise EngineError("the decoder is closed", hint="make a new one")
        return self._generator


class RestartingDecoder:
    """For providers that cannot go on with a generator once it decodes (DirectML in the versions that have it).

    The sequence is kept here. A single new token is forced through the engine's own step: its logits are overwritten so
    that only that token can be chosen. Anything else (a new turn, a rewind) begins a new generator and reads the sequence
    again: correct, and slower by that reading. `new_generator` makes an empty one of the engine; end tokens end it and are never forced."""

    def __init__(
        self,
        new_generator: Callable[[], Any],
        *,
        capacity_tokens: int,
        shape: ModelShape,
    ) -> None:
        self.capacity_tokens = capacity_tokens
        self.longrope_threshold = shape.longrope_threshold
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
        crosses = self._read <= self.longrope_threshold < len(tokens)
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
        forced[..., token] = 0.0
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


class GenaiBatch:
    """A BatchDecoder over one engine generator, which takes a batch in one piece. Shorter prompts are padded on the
    right (on the left the scores come out wrong by a little, found with 0.18); a row that has ended goes on with
    padding that nobody reads."""

    def __init__(
        self, model: GenaiModel, prompts: Sequence[Sequence[int]], *, capacity_tokens: int, search: dict[str, Any]
    ) -> None:
        import numpy as np

        self._pad, self._vocabulary = model.shape.pad_id or 0, model.shape.vocabulary
        longest = max(map(len, prompts))
        padded = np.full((len(prompts), longest), self._pad, dtype=np.int32)
        for row, ids in enumerate(prompts):
            padded[row, : len(ids)] = ids
        self._generator: Any = model.new_generator(capacity_tokens=capacity_tokens, batch_size=len(prompts), **search)
        try:
            self._generator.append_tokens(padded)
        except (RuntimeError, MemoryError) as error:
            raise run_error(error) from error

    def logits(self) -> Logits:
        try:
            scores: Logits = self._open().get_logits()
        except RuntimeError as error:
            raise run_error(error) from error
        return scores.reshape(len(scores), -1)[:, : self._vocabulary]

    def choose(self, tokens: Sequence[int | None]) -> None:
        import numpy as np

        generator = self._open()
        try:
            forced = np.full_like(generator.get_logits(), _NEVER)
            rows = forced.reshape(len(tokens), -1)
            for row, token in enumerate(tokens):
                rows[row, self._pad if token is None else token] = 0.0
            generator.set_logits(forced)
            generator.generate_next_token()
        except RuntimeError as error:
            raise run_error(error) from error

    def close(self) -> None:
        self._generator = None

    def _open(self) -> Any:
        if self._generator is None:
            raise EngineError("the batch is closed", hint="make a new one")
        return self._generator


def split_padding(ids: Sequence[int], pad: int | None) -> list[Sequence[int]]:
    """The engine takes padding tokens at the end of an append of several for padding, and leaves them out of the
    attention (found with 0.18): they go in one by one."""
    end = len(ids)
    while end > 1 and ids[end - 1] == pad:
        end -= 1
    return [ids[:end], *(ids[at : at + 1] for at in range(end, len(ids)))]


def as_array(ids: Sequence[int]) -> npt.NDArray[np.int32]:
    import numpy as np

    return np.asarray(ids, dtype=np.int32)

"""Decoders over generators of the engine: a plain one, one that a guidance guides, and a batch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from lmsupply_cli.engine.base import check_append
from lmsupply_cli.engine.genai_errors import run_error
from lmsupply_cli.engine.genai_warnings import without_warnings
from lmsupply_cli.errors import EngineError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from lmsupply_cli.engine.base import Guessing, Logits
    from lmsupply_cli.engine.genai import GenaiModel
    from lmsupply_cli.engine.guidance import Guidance

_NEVER = -1e30  # a score that no sampler takes


class GenaiDecoder:
    """A Decoder over one engine generator. The engine is fed and read, it never samples."""

    def __init__(
        self,
        model: GenaiModel,
        *,
        capacity_tokens: int,
        search: dict[str, Any],
        guidance: Guidance | None = None,
        guessing: Guessing | None = None,
    ) -> None:
        self.capacity_tokens = capacity_tokens
        self.switch_tokens = model.shape.switch_tokens
        self._model = model
        self._search = search
        self._guidance = guidance
        self._draft_tokens = guessing.draft_tokens if guessing else 0
        self.chooses = guessing is not None
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
        if 0 < held <= self.switch_tokens < held + len(ids):
            ids = [*self.tokens, *ids]
            generator = self._begin_anew()
        self._rows = []
        try:
            parts = _parts(ids, self._model.shape.pad_id)
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
            raise EngineError("this model gives the scores of the last token only", hint="--speculative off")
        return rows[len(rows) - count :, : self._model.shape.vocabulary]

    def rewind(self, count: int) -> None:
        generator = self._open()
        if not 0 <= count <= generator.token_count():
            raise ValueError(f"cannot rewind {generator.token_count()} tokens to {count}")
        self._fresh = False
        if count == generator.token_count():
            return
        if not 0 < count <= self.switch_tokens < generator.token_count():
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
        return self._model.new_generator(
            capacity_tokens=self.capacity_tokens,
            guidance=self._guidance,
            draft_tokens=self._draft_tokens,
            **self._search,
        )

    def _open(self) -> Any:
        if self._generator is None:
            raise EngineError("the decoder is closed", hint="make a new one")
        return self._generator


class GuidedGenaiDecoder(GenaiDecoder):
    """The engine chooses, among what its guidance allows, by scores that are ours.

    Guessing ahead is the engine's own here, since only it knows what the guidance allows next; so is the sampling then.
    """

    _stepped = False  # since the last append

    def append(self, ids: Sequence[int]) -> None:
        """After an answer the guidance begins anew: the engine does that on a rewind, so the last token is read again."""
        if self._stepped and (tokens := self.tokens):
            self.rewind(len(tokens) - 1)
            ids = (tokens[-1], *ids)
        super().append(ids)
        self._stepped = False

    def logits(self) -> Logits:
        with without_warnings():  # what is allowed next is found out here
            return super().logits()

    def guessed(self) -> tuple[int, int, int]:
        stats = self._open().get_speculative_stats() if self.chooses else {}
        return stats.get("draft_tokens_proposed", 0), stats.get("draft_tokens_accepted", 0), stats.get("rounds", 0)

    def step(self, scores: Logits | None) -> int:
        import numpy as np

        generator = self._open()
        try:
            if scores is not None:
                whole = np.full_like(generator.get_logits(), np.float32(-np.inf))  # its vocabulary may be larger
                whole.reshape(-1)[: len(scores)] = scores
                generator.set_logits(whole)
            self._stepped = True
            with without_warnings():
                generator.generate_next_token()
            return int(generator.get_next_tokens()[0])
        except RuntimeError as error:
            raise run_error(error) from error


class GenaiBatch:
    """A BatchDecoder over one engine generator, which takes a batch in one piece. Shorter prompts are padded on the
    right (on the left the scores come out wrong by a little, found with 0.18); a row that has ended goes on with
    padding that nobody reads. With a guidance `end` is the token that ends a row and follows it."""

    def __init__(
        self,
        model: GenaiModel,
        prompts: Sequence[Sequence[int]],
        *,
        capacity_tokens: int,
        search: dict[str, Any],
        guidance: Guidance | None = None,
        end: int | None = None,
    ) -> None:
        import numpy as np

        self._pad, self._vocabulary = model.shape.pad_id or 0, model.shape.vocabulary
        self._end, self._eos = end, sorted(model.shape.eos_ids)
        longest = max(map(len, prompts))
        padded = np.full((len(prompts), longest), self._pad, dtype=np.int32)
        for row, ids in enumerate(prompts):
            padded[row, : len(ids)] = ids
        self._generator: Any = model.new_generator(
            capacity_tokens=capacity_tokens, guidance=guidance, batch_size=len(prompts), **search
        )
        try:
            self._generator.append_tokens(padded)
        except (RuntimeError, MemoryError) as error:
            raise run_error(error) from error

    def logits(self) -> Logits:
        try:
            with self._quietly():
                scores: Logits = self._open().get_logits()
        except RuntimeError as error:
            raise run_error(error) from error
        return scores.reshape(len(scores), -1)[:, : self._vocabulary]

    def choose(self, tokens: Sequence[int | None]) -> None:
        forced, rows = self._nothing(len(tokens))
        for row, token in enumerate(tokens):
            rows[row, self._pad if token is None else token] = 0.0
        self._take_best(forced)

    def step(self, scores: Sequence[Logits | None]) -> list[int | None]:
        if self._end is None:
            raise RuntimeError("this batch follows no guidance")
        whole, rows = self._nothing(len(scores))
        for row, wanted in enumerate(scores):
            if wanted is None:  # where the guidance is not at its end it chooses, and nobody reads it
                rows[row, self._end] = 0.0
            else:
                rows[row, : self._vocabulary] = wanted
                rows[row, self._end] = wanted[self._eos].max()
                rows[row, self._eos] = _NEVER
        chosen = self._take_best(whole)
        return [
            None if wanted is None or token == self._end else token
            for wanted, token in zip(scores, chosen, strict=True)
        ]

    def _quietly(self) -> AbstractContextManager[None]:
        return nullcontext() if self._end is None else without_warnings()

    def _nothing(self, count: int) -> tuple[Logits, Logits]:
        """Scores of nothing in the engine's shape, and a view of them with a row for each prompt."""
        import numpy as np

        whole = np.full_like(self._open().get_logits(), _NEVER)
        return whole, whole.reshape(count, -1)

    def _take_best(self, scores: Logits) -> list[int]:
        generator = self._open()
        try:
            generator.set_logits(scores)
            with self._quietly():
                generator.generate_next_token()
            return [int(token) for token in generator.get_next_tokens()]
        except RuntimeError as error:
            raise run_error(error) from error

    def close(self) -> None:
        self._generator = None

    def _open(self) -> Any:
        if self._generator is None:
            raise EngineError("the batch is closed", hint="make a new one")
        return self._generator


def _parts(ids: Sequence[int], pad: int | None) -> list[Sequence[int]]:
    """The engine takes padding tokens at the end of an append of several for padding, and leaves them out of the
    attention (found with 0.18): they go in one by one."""
    end = len(ids)
    while end > 1 and ids[end - 1] == pad:
        end -= 1
    return [ids[:end], *(ids[at : at + 1] for at in range(end, len(ids)))]


def as_array(ids: Sequence[int]) -> npt.NDArray[np.int32]:
    import numpy as np

    return np.asarray(ids, dtype=np.int32)

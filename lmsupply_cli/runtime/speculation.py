"""Which guesses a generator makes: from the text, or by a smaller model that is loaded beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lmsupply_cli.engine.base import Decoder, GuidedDecoder, TextModel
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.generate import Drafting, stream_guided
from lmsupply_cli.engine.speculative import Drafter, ModelDrafter, NgramDrafter, stream_speculative
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import SpeculativeStats

DRAFT = "draft:"


class Speculation:
    """`draft`: the smaller model; None guesses from the text. Close it with the generator."""

    def __init__(self, *, draft_tokens: int = 4, draft: TextModel | None = None) -> None:
        self.draft_tokens = draft_tokens
        self._draft = draft
        self._decoder: Decoder | None = None

    @property
    def by_model(self) -> bool:
        return self._draft is not None

    def drafting(self, *, capacity_tokens: int, vocabulary: int) -> Drafting:
        """For one answer of a model with that context and vocabulary."""
        stats = SpeculativeStats()
        drafter = self._drafter(capacity_tokens, vocabulary)
        floor: Callable[..., Any] = partial(
            stream_speculative, drafter=drafter, draft_tokens=self.draft_tokens, stats=stats
        )
        return Drafting(floor, stats)

    def guided(self, decoder: GuidedDecoder) -> Drafting:
        """For one answer that follows a guidance: the engine guesses, from the text."""
        stats, before = SpeculativeStats(), decoder.guessed()

        def floor(*arguments: Any, **more: Any) -> Iterator[int]:
            try:
                yield from stream_guided(*arguments, **more)
            finally:
                counts = [now - then for now, then in zip(decoder.guessed(), before, strict=True)]
                stats.proposed, stats.accepted, stats.rounds = counts

        return Drafting(floor, stats)

    def sibling(self) -> Speculation:
        """For another generator on the same models."""
        return Speculation(draft_tokens=self.draft_tokens, draft=self._draft)

    def close(self, *, owner: bool = True) -> None:
        """`owner`: the smaller model goes as well."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
        if self._draft is not None and owner:
            self._draft.close()

    def _drafter(self, capacity_tokens: int, vocabulary: int) -> Drafter:
        if self._draft is None:
            return NgramDrafter()
        wanted = min(capacity_tokens, self._draft.shape.context_length)
        if self._decoder is None or self._decoder.capacity_tokens < wanted:
            if self._decoder is not None:
                self._decoder.close()
            self._decoder = self._draft.new_decoder(capacity_tokens=wanted)
        return ModelDrafter(self._decoder, vocabulary=min(vocabulary, self._draft.shape.vocabulary))


def check_pair(target: ModelFolder, draft: ModelFolder) -> None:
    """Raises UsageError where the two do not share a vocabulary: a guess would be another word."""
    if _vocabulary(target) != _vocabulary(draft):
        raise UsageError(
            f"{draft.path.name} cannot guess for {target.path.name}: their vocabularies differ",
            hint="take a smaller model of the same family, or --speculative ngram",
        )


def parse_speculative(text: str) -> str | None:
    """off, ngram or draft:MODEL; the model's ref, "" for ngram, None for off. Raises UsageError."""
    if text == "off":
        return None
    if text == "ngram":
        return ""
    if text.startswith(DRAFT) and len(text) > len(DRAFT):
        return text.removeprefix(DRAFT)
    raise UsageError(f"--speculative {text} is not known", hint="off, ngram or draft:MODEL")


def _vocabulary(folder: ModelFolder) -> Any:
    model = folder.read_json("tokenizer.json").get("model")
    words = model.get("vocab") if isinstance(model, dict) else None
    return words, {(row["id"], row["content"]) for row in folder.added_tokens}

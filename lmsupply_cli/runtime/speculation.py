"""Which guesses a generator makes: from the text, or by a smaller model that is loaded beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lmsupply_cli.engine.base import Decoder, Guessing, GuidedDecoder, ModelShape, TextModel
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.generate import Drafting, stream_guided
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.speculative import Drafter, ModelDrafter, NgramDrafter, stream_speculative
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import SpeculativeStats

DRAFT = "draft:"


class Speculation:
    """`draft`: the smaller model; None guesses from the text. Close it with the generator. `by_model`: one was asked
    for, be it loaded or not."""

    def __init__(self, *, draft_tokens: int = 4, draft: TextModel | None = None, by_model: bool = False) -> None:
        self.draft_tokens = draft_tokens
        self._draft = draft
        self._by_model = by_model
        self._decoder: Decoder | None = None

    def by_engine(self, shape: ModelShape, options: GenerationOptions, guidance: Guidance | None) -> Guessing | None:
        """Where the engine itself guesses and chooses: in guided answers, since it knows what is allowed next. Its
        guidance then takes the first end token of the config only."""
        usable = guidance is not None and (guidance.ends_itself or len(shape.eos_ids) <= 1)
        return Guessing(self.draft_tokens, options) if usable else None

    def for_answer(
        self, decoder: Decoder, options: GenerationOptions, guidance: Guidance | None, *, vocabulary: int
    ) -> tuple[Drafting | None, str]:
        """How one answer of a model with that vocabulary is guessed, and what of the wish cannot be kept."""
        if options.num_beams > 1:
            return None, "beam search guesses nothing ahead"
        if guidance is None:
            return self._plain(decoder.capacity_tokens, vocabulary), ""
        if isinstance(decoder, GuidedDecoder) and decoder.chooses:
            note = "in a guided answer the text guesses, not the draft model" if self._by_model else ""
            return _guided(decoder), note
        return None, "nothing is guessed ahead: this format has no end of its own, and the model has several end tokens"

    def sibling(self) -> Speculation:
        """For another generator on the same models."""
        return Speculation(draft_tokens=self.draft_tokens, draft=self._draft, by_model=self._by_model)

    def close(self, *, owner: bool = True) -> None:
        """`owner`: the smaller model goes as well."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
        if self._draft is not None and owner:
            self._draft.close()

    def _plain(self, capacity_tokens: int, vocabulary: int) -> Drafting:
        stats = SpeculativeStats()
        drafter = self._drafter(capacity_tokens, vocabulary)
        floor: Callable[..., Any] = partial(
            stream_speculative, drafter=drafter, draft_tokens=self.draft_tokens, stats=stats
        )
        return Drafting(floor, stats)

    def _drafter(self, capacity_tokens: int, vocabulary: int) -> Drafter:
        if self._draft is None:
            return NgramDrafter()
        wanted = min(capacity_tokens, self._draft.shape.context_length)
        if self._decoder is None or self._decoder.capacity_tokens < wanted:
            if self._decoder is not None:
                self._decoder.close()
            self._decoder = self._draft.new_decoder(capacity_tokens=wanted)
        return ModelDrafter(self._decoder, vocabulary=min(vocabulary, self._draft.shape.vocabulary))


def _guided(decoder: GuidedDecoder) -> Drafting:
    """The engine guesses, from the text."""
    stats, before = SpeculativeStats(), decoder.guessed()

    def floor(*arguments: Any, **more: Any) -> Iterator[int]:
        try:
            yield from stream_guided(*arguments, **more)
        finally:
            counts = [now - then for now, then in zip(decoder.guessed(), before, strict=True)]
            stats.proposed, stats.accepted, stats.rounds = counts

    return Drafting(floor, stats)


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

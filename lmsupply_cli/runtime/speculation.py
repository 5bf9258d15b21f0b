"""Which guesses a generator makes: from the text, or by a smaller model that is loaded beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from lmsupply_cli.engine.base import Decoder, Guessing, GuidedDecoder, TextModel
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.generate import Drafting, stream_guided
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.pair import why_no_pair
from lmsupply_cli.engine.speculative import Drafter, ModelDrafter, NgramDrafter, stream_speculative
from lmsupply_cli.errors import EngineError, UsageError
from lmsupply_cli.events import SpeculativeStats
from lmsupply_cli.store.scratch import TemporaryFolder

DRAFT = "draft:"


@dataclass(frozen=True, slots=True)
class DraftUse:
    """How a smaller model is loaded: `beside` the other for our own guessing, as a `pair` for the engine's in guided
    answers, or not at all. `why_no_pair` is said where a guided answer is guessed without it."""

    how: Literal["beside", "pair", "none"]
    why_no_pair: str = ""


def plan_draft(
    target: ModelFolder,
    draft: ModelFolder,
    guidance: Guidance | None,
    *,
    provider: str,
    context_tokens: int,
    beams: bool = False,
) -> DraftUse:
    """`guidance`: what every answer will follow. Raises UsageError for two that do not go together."""
    from lmsupply_cli.engine.genai import RESTARTING

    check_pair(target, draft)
    if provider in RESTARTING:
        return DraftUse("none")
    if beams:
        return DraftUse("none", "that was not loaded, since the options ask for beams")
    if guidance is None:
        return DraftUse("beside", "that needs the guidance when it is loaded")
    if why := why_no_pair(target, draft):
        return DraftUse("none", why)
    if (most := draft.model["context_length"]) < context_tokens:
        return DraftUse("none", f"that reads {most:,} tokens at most; --context {most} lets it guess")
    return DraftUse("pair" if _engine_can(guidance, target.eos_ids) else "none")


class Speculation:
    """`draft`: the smaller model; None guesses from the text. `use`: how one was loaded, where one was asked for;
    `paired`: the folder of a pair; `by_folder`: the model's own folder names one, without which its guided answers
    cannot do; `wanted`: in other answers. Close it with the generator."""

    def __init__(
        self,
        *,
        draft_tokens: int = 4,
        draft: TextModel | None = None,
        use: DraftUse | None = None,
        paired: TemporaryFolder | None = None,
        wanted: bool = True,
        by_folder: bool = False,
    ) -> None:
        self.draft_tokens = draft_tokens
        self._draft = draft
        self._use = use
        self._paired = paired
        self._wanted = wanted
        self._by_folder = by_folder
        self._decoder: Decoder | None = None

    def by_engine(self, model: TextModel, options: GenerationOptions, guidance: Guidance | None) -> Guessing | None:
        """Where the engine itself guesses and chooses: in guided answers, since it knows what is allowed next. Its
        guidance then takes the first end token of the config only."""
        if model.why_no_guesses() or guidance is None:  # it looks once, and that before there is a cache
            return None
        usable = _engine_can(guidance, model.shape.eos_ids)
        if not usable and self._by_folder:
            raise UsageError(
                "this folder has a draft model of its own, with which this format has no end",
                hint="take a format that ends by itself, or the folder without model.draft in its genai_config.json",
            )
        return Guessing(self.draft_tokens, options) if usable else None

    def for_answer(
        self, decoder: Decoder, options: GenerationOptions, guidance: Guidance | None, model: TextModel
    ) -> tuple[Drafting | None, str]:
        """How one answer of the model is guessed, and what of the wish cannot be kept."""
        if options.num_beams > 1:
            return None, "beam search guesses nothing ahead"
        if why_not := model.why_no_guesses():
            return None, f"nothing is guessed ahead: {why_not}"
        why = self._use.why_no_pair if self._use else ""
        by_text = f"the text guesses, not the draft model: {why}" if why else ""
        if guidance is None:
            if not self._wanted:
                return None, ""
            return self._plain(decoder.capacity_tokens, model.shape.vocabulary), "" if self._draft else by_text
        if isinstance(decoder, GuidedDecoder) and decoder.chooses:
            return _guided(decoder), f"in a guided answer {by_text}" if by_text else ""
        return None, "nothing is guessed ahead: this format has no end of its own, and the model has several end tokens"

    def sibling(self) -> Speculation:
        """For another generator on the same models."""
        other = copy(self)
        other._decoder = None
        return other

    def close(self, *, owner: bool = True) -> None:
        """`owner`: the smaller model goes as well."""
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None
        if self._draft is not None and owner:
            self._draft.close()
        if self._paired is not None and owner:
            self._paired.close()

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


def _engine_can(guidance: Guidance, eos_ids: frozenset[int]) -> bool:
    return guidance.ends_itself or len(eos_ids) <= 1


def _guided(decoder: GuidedDecoder) -> Drafting:
    """The engine guesses, from the text or by a pair."""
    stats, before = SpeculativeStats(), decoder.guessed()

    def floor(*arguments: Any, **more: Any) -> Iterator[int]:
        try:
            yield from stream_guided(*arguments, **more)
        finally:
            with suppress(EngineError):  # closed under an answer that is given up
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

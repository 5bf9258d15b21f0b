"""Where the draft tokens of a generator come from: the text itself, or a smaller model that is loaded beside it."""

from __future__ import annotations

from functools import partial

from lmsupply_cli.engine.base import Decoder, TextModel
from lmsupply_cli.engine.generate import Drafting
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.speculative import MOST_DRAFT_CONTEXT, Drafter, ModelDrafter, NgramDrafter, stream_speculative
from lmsupply_cli.events import SpeculativeStats


class Speculation:
    """`draft`: the smaller model; None takes draft tokens from the text. Close it with the generator."""

    def __init__(self, *, draft_tokens: int = 4, draft: TextModel | None = None) -> None:
        self.draft_tokens = draft_tokens
        self._draft = draft
        self._decoder: Decoder | None = None
        self._noted = ""

    def for_answer(self, decoder: Decoder, options: GenerationOptions, model: TextModel) -> tuple[Drafting | None, str]:
        """How one answer of the model is drafted, and why it is not, said once."""
        why = "beam search does not use draft tokens" if options.num_beams > 1 else model.drafting_blocker()
        if why:
            note = f"speculative decoding is off: {why}"
            said, self._noted = note == self._noted, note
            return None, "" if said else note
        return self._drafting(decoder, model, SpeculativeStats()), ""

    def enlarged(self, drafting: Drafting, decoder: Decoder, model: TextModel) -> Drafting:
        """For the same answer with a larger decoder; the statistics continue."""
        return self._drafting(decoder, model, drafting.stats)

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

    def _drafting(self, decoder: Decoder, model: TextModel, stats: SpeculativeStats) -> Drafting:
        drafter = self._drafter(decoder.capacity_tokens, model.shape.vocabulary)
        token_stream = partial(stream_speculative, drafter=drafter, draft_tokens=self.draft_tokens, stats=stats)
        return Drafting(token_stream, stats)

    def _drafter(self, capacity_tokens: int, vocabulary: int) -> Drafter:
        if self._draft is None:
            return NgramDrafter()
        wanted = min(capacity_tokens, self._draft.shape.context_length, MOST_DRAFT_CONTEXT)
        if self._decoder is None or self._decoder.capacity_tokens < wanted:
            if self._decoder is not None:
                self._decoder.close()
                self._decoder = None
            self._decoder = self._draft.new_decoder(capacity_tokens=wanted)
        return ModelDrafter(self._decoder, vocabulary=min(vocabulary, self._draft.shape.vocabulary))

"""The draft model: how much it may hold, and that a failure leaves nothing closed behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli import load
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.fake import FakeModel
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.speculative import MOST_DRAFT_CONTEXT, ModelDrafter
from lmsupply_cli.errors import EngineError
from lmsupply_cli.generation.speculation import Speculation

MODELS = Path(__file__).parent.parent / "models"


class Recorded(FakeModel):
    """Notes the capacities that are asked for; `fails` makes the next one an error."""

    def __init__(self) -> None:
        super().__init__(context_length=40_000)
        self.asked: list[int] = []
        self.fails = False

    def new_decoder(self, *, capacity_tokens: int):  # type: ignore[no-untyped-def]
        self.asked.append(capacity_tokens)
        if self.fails:
            raise EngineError("no memory")
        return super().new_decoder(capacity_tokens=capacity_tokens)


def draft(speculation: Speculation, capacity: int) -> None:
    decoder = FakeModel(context_length=40_000).new_decoder(capacity_tokens=capacity)
    speculation.for_answer(decoder, GenerationOptions(), FakeModel(context_length=40_000))


def test_a_draft_model_holds_no_more_than_was_planned() -> None:
    model = Recorded()
    draft(Speculation(draft=model), 32_768)
    assert model.asked == [MOST_DRAFT_CONTEXT]


def test_a_decoder_that_could_not_be_enlarged_is_made_anew() -> None:
    model = Recorded()
    speculation = Speculation(draft=model)
    draft(speculation, 100)
    model.fails = True
    with pytest.raises(EngineError):
        draft(speculation, 200)
    model.fails = False
    draft(speculation, 50)
    assert model.asked == [100, 200, 50]


def test_a_cancelled_answer_gets_no_draft_tokens() -> None:
    cancel = CancelToken()
    drafter = ModelDrafter(FakeModel().new_decoder(capacity_tokens=100), vocabulary=100)
    assert len(drafter.propose([1, 2, 3], 4, cancel)) == 4
    cancel.cancel()
    assert drafter.propose([1, 2, 3, 4], 4, cancel) == []


def test_beam_search_names_the_limit_that_cut() -> None:
    with load(MODELS / "slow", context=64) as model:
        answer = model.generate("hello", raw=True, num_beams=2, max_tokens=500, min_length=500)
    assert (answer.finish_reason, answer.cut_by) == ("length", "context")

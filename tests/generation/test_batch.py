"""Several prompts at once: each row says what it would say alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lmsupply_cli import (
    ChatMessage,
    DoesNotFit,
    EngineError,
    Guidance,
    MemoryOptions,
    Notice,
    TextGenerator,
    UsageError,
    load,
)
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.chat.formats.families import ChatML
from lmsupply_cli.cli.batch_files import Answers
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.run.batch import BatchJob
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.fake import FakeModel, replies
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.generation.batch import (
    BatchItem,
    BatchListener,
    answer_batch,
    batch_bytes,
    check_batch,
    largest_batch,
)
from lmsupply_cli.generation.batch_plan import BatchPlan
from lmsupply_cli.generation.completion import ModelInfo, complete
from lmsupply_cli.memory.shape import MemoryShape
from lmsupply_cli.render.terminal import Terminal

MODELS = Path(__file__).parent.parent / "models"
QUESTIONS = ["hello", "How do I download a model?", "thanks", "How do I list my models, please? I would like to know."]
SHAPE = MemoryShape(16, 8, 64, 2048, 128256, 131072, 4, 800_000_000)


def asked(model: TextGenerator, *texts: str, **options: float) -> list[BatchItem]:
    return [
        BatchItem(model.prompter.chat([ChatMessage.user(text)]), model.options.replaced(**options)) for text in texts
    ]


@pytest.mark.parametrize("name", ["guide", "llama-fp32", "phi3"])
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.9, "seed": 4, "repetition_penalty": 1.2}])
def test_on_the_real_engine_a_row_says_what_it_says_alone(guide: Path, name: str, options: dict[str, float]) -> None:
    with load(guide if name == "guide" else MODELS / name) as model:
        many = asked(model, *QUESTIONS, max_tokens=40, **options)
        found = answer_batch(model, many)
        alone = [model.generate(text, max_tokens=40, **options) for text in QUESTIONS]
        if name != "phi3":  # in int4 the rounding depends on how many rows are computed; the guide is sure enough
            assert [f.text for f in found] == [a.text for a in alone]
        assert [f.usage.prompt_tokens for f in found] == [a.usage.prompt_tokens for a in alone]
        assert all(f.finish_reason in ("stop", "length") for f in found)


GUIDANCES = [
    Guidance.json_schema({"type": "object", "properties": {"n": {"type": "integer"}, "a": {"enum": ["x", "yy"]}}}),
    Guidance.regex(r"(start|a/b|a\/c)\n[0-9]{1,9}"),
    Guidance.regex(r"[a-c/]*"),
    Guidance.grammar('// start\nstart: "<start>" word ("," word)*\nword: /[a-c\\/]{1,4}/'),
]


@pytest.mark.parametrize("guidance", GUIDANCES, ids=lambda guidance: guidance.kind)
@pytest.mark.parametrize("options", [{"temperature": 0}, {"temperature": 0.9, "seed": 4}])
def test_a_guided_row_says_what_it_says_alone(guidance: Guidance, options: dict[str, float]) -> None:
    with load(MODELS / "llama-fp32") as model:
        many = asked(model, *QUESTIONS, max_tokens=30, **options)
        found = answer_batch(model, many, guidance=guidance)
        alone = [model.generate(text, guidance=guidance, max_tokens=30, **options) for text in QUESTIONS]
        assert [(f.text, f.finish_reason) for f in found] == [(a.text, a.finish_reason) for a in alone]
        usages = [f.usage.completion_tokens for f in found]
        assert usages == [a.usage.completion_tokens for a in alone]


def test_guided_rows_have_their_own_limits_and_stops(guide: Path) -> None:
    with load(guide) as model:
        guidance = Guidance.json_schema({"const": "one two three four"})
        many = [
            *asked(model, "x", max_tokens=2),
            *asked(model, "x", stop=("three",)),
            *asked(model, "x"),
        ]
        found = answer_batch(model, many, guidance=guidance)
        assert [f.finish_reason for f in found] == ["length", "stop", "stop"]
        assert [f.text for f in found[1:]] == ['"one two ', '"one two three four"']
        assert found[0].usage.completion_tokens == 2
        assert [f.complete for f in found] == [False, False, True]


def test_a_grammar_may_name_control_tokens(guide: Path) -> None:
    with load(guide) as model:
        control = Guidance.grammar('start: ("yes" | "no") <|im_start|>?')
        found = model.generate_batch(["x", "y"], guidance=control)
        assert {f.text for f in found} <= {"yes", "no"}
        assert all(f.complete for f in found)


def test_one_that_fails_does_not_take_the_others_along(
    guide: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load(guide) as model:
        many = asked(model, *QUESTIONS)
        real, made = model.model.new_matcher, list[Guidance]()

        def fails(guidance: Guidance) -> Any:
            made.append(guidance)
            if len(made) in (1, 3, 5):  # the batch, then the second and the fourth alone
                raise EngineError("too complex")
            return real(guidance)

        monkeypatch.setattr(model.model, "new_matcher", fails)
        ctx = Context(Terminal.of_process(quiet=True), Settings())
        answers = Answers(tmp_path / "out.jsonl", [], ctx.terminal, guided=True)
        job = BatchJob(
            ctx, [], answers, model, size=4, guidance=Guidance.regex("(yes|no)"), describe=lambda *_: {}
        )  # fmt: skip
        found = list(job._answers(many, BatchPlan(len(many), together=True)))
        assert [isinstance(one, EngineError) for one in found] == [False, True, False, True]
        assert {str(one) for one in found if not isinstance(one, EngineError)} <= {"yes", "no"}


def test_every_row_has_its_own_options(guide: Path) -> None:
    with load(guide) as model:
        one, two = (
            asked(model, QUESTIONS[1], max_tokens=3, temperature=0),
            asked(model, QUESTIONS[1], stop=("phi",), temperature=0),
        )
        found = answer_batch(model, [*one, *two])
        assert (found[0].finish_reason, found[0].usage.completion_tokens) == ("length", 3)
        assert (found[1].finish_reason, found[1].text) == ("stop", "Run `lmsupply pull ")


def fake(*answers: str, context: int = 400) -> TextGenerator:
    info = ModelInfo("fake", None, UNKNOWN_LICENSE, "cpu", 1, context)
    return TextGenerator(
        FakeModel(replies(*answers), context_length=context), ChatML(), info, options=GenerationOptions(temperature=0)
    )


def test_rows_that_end_early_wait() -> None:
    model = fake("a", "a much longer answer")
    talk = [ChatMessage.user("x"), ChatMessage.assistant("a"), ChatMessage.user("y")]
    many = [*asked(model, "x"), BatchItem(model.prompter.chat(talk), model.options)]
    assert [f.text for f in answer_batch(model, many)] == ["a", "a much longer answer"]


def test_it_can_be_cancelled() -> None:
    model, cancel = fake("a long answer"), CancelToken()

    class Cancels(BatchListener):
        def progress(self, written_tokens: int) -> None:
            if written_tokens >= 6:
                cancel.cancel()

    found = answer_batch(model, asked(model, "x", "y"), cancel=cancel, listener=Cancels())
    assert {f.finish_reason for f in found} == {"cancelled"}
    assert {f.text for f in found} == {"a l"}


def test_a_prompt_beyond_the_context_is_refused() -> None:
    model = fake("a", context=80)
    with pytest.raises(DoesNotFit):
        answer_batch(model, asked(model, "x", "y" * 200))


def test_the_memory_says_how_many() -> None:
    model = fake("a")
    many = asked(model, *["x"] * 8, max_tokens=300)
    assert largest_batch(SHAPE, None, many, at_most=8) == 8
    assert largest_batch(None, 1, many, at_most=8) == 8
    tokens = len(many[0].prompt.ids)
    enough = batch_bytes(SHAPE, 3, tokens, tokens + 300)
    assert largest_batch(SHAPE, int(enough / 0.9) + 1, many, at_most=8) == 3
    assert largest_batch(SHAPE, 1000, many, at_most=8) == 1
    assert batch_bytes(SHAPE, 8, 512, 1024) > 8 * SHAPE.cache_bytes(1024) + 8 * 512 * SHAPE.vocabulary * 4


def test_an_explicit_size_never_shrinks() -> None:
    model = fake("a")
    model.memory_shape = SHAPE
    check_batch(model, 10_000_000_000, 4)
    with pytest.raises(DoesNotFit, match="`batch_size=32` needs"):
        check_batch(model, 1_000_000_000, 32)
    with pytest.raises(UsageError, match="between 1 and 32"):
        check_batch(model, 1_000_000_000, 33)


def test_a_prompt_that_ends_in_the_padding_token_is_answered_alone() -> None:
    with load(MODELS / "llama-fp32") as model:
        pad = model.model.shape.pad_id
        many = asked(model, *QUESTIONS, max_tokens=20, temperature=0)
        last = replace(many[1], prompt=replace(many[1].prompt, ids=(*many[1].prompt.ids, pad)))
        alone = complete(model.stream_prompt(last.prompt, last.options))
        found = answer_batch(model, [many[0], last, many[2]])
        assert found[1].text == alone.text
        assert found[2].text == model.generate(QUESTIONS[2], max_tokens=20, temperature=0).text


def test_the_memory_limit_holds_for_a_batch_before_and_while_it_runs(guide: Path) -> None:
    with load(guide, memory_limit=MemoryOptions("8GB", before=1e-6)) as model:
        many = asked(model, *QUESTIONS, temperature=0)
        with pytest.raises(DoesNotFit, match="4 prompts at once would bring"):
            answer_batch(model, many)
    with load(guide, memory_limit=MemoryOptions("8GB", warning=1e-7, critical=1e-6)) as model:
        heard: list[Notice] = []

        class Hears(BatchListener):
            def notice(self, notice: Notice) -> None:
                heard.append(notice)

        found = answer_batch(model, asked(model, *QUESTIONS, temperature=0), listener=Hears())
        assert "memory" in {f.finish_reason for f in found}
        assert {n.code for n in heard} == {"memory_critical"}


def test_the_share_of_the_buffer_reaches_every_kind_of_decoder(guide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with load(guide, speculative="ngram") as model:
        seen: list[object] = []
        make = model.model.new_generator  # type: ignore[attr-defined]
        assert model.model.batching_blocker() is None  # found out once, with generators of its own

        def noted(**more: object) -> object:
            seen.append(more.get("past_present_share_buffer"))
            return make(**more)

        monkeypatch.setattr(model.model, "new_generator", noted)
        options = {"past_present_share_buffer": False, "temperature": 0, "max_tokens": 4}
        model.generate("x", **options)  # type: ignore[arg-type]
        model.generate("x", guidance=Guidance.regex("(a|b)"), **options)  # type: ignore[arg-type]
        model.generate_batch(["x", "y"], **options)  # type: ignore[arg-type]
        assert seen == [False, False], "the same decoder serves free and guided answers"

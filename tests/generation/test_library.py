"""The library without the command line: builder, store, estimates, formats, limits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from make_api import PAGE, page

import lmsupply_cli
from lmsupply_cli import (
    ChatMessage,
    DoesNotFit,
    GenerationOptions,
    GeneratorPool,
    MemoryOptions,
    ModelNotInstalled,
    ModelStore,
    Notice,
    StopSequenceDetector,
    TextGenerator,
    TextGeneratorBuilder,
    UsageError,
    detect_hardware,
    estimate_memory,
    load,
    register_chat_format,
)

MODELS = Path(__file__).parent.parent / "models"


class Shouting:
    name = "shouting"
    stop = ("!",)
    stop_tokens = ()

    def render(self, messages: Sequence[ChatMessage]) -> str:
        return (
            "".join(f"<|im_start|>{m.role}\n{m.content.upper()}<|im_end|>\n" for m in messages)
            + "<|im_start|>assistant\n"
        )


def test_every_method_of_the_builder_does_what_it_says() -> None:
    model = (
        TextGeneratorBuilder()
        .with_model("guide")
        .with_provider("cpu")
        .with_threads(1)
        .with_context(300)
        .with_default_options(max_tokens=7, temperature=0)
        .with_chat_formatter(Shouting())
        .with_memory_limit("8GB")
        .with_speculation("ngram", draft_tokens=2)
        .with_thinking(True)
        .build()
    )
    assert isinstance(model, TextGenerator)
    with model:
        assert (model.info.provider, model.info.threads, model.context_tokens) == ("cpu", 1, 300)
        assert (model.options.max_tokens, model.options.top_k) == (7, 20), "the rest is the model's own"
        assert "HELLO" in model.prompter.chat([ChatMessage.user("hello")]).text
        assert model.speculation is not None
        assert model.speculation.draft_tokens == 2
        assert model.budget is not None
        assert model.budget.limit_bytes == 8_000_000_000


def test_whole_options_and_a_pool(tmp_path: Path) -> None:
    options = GenerationOptions.preset("greedy")
    built = (
        TextGeneratorBuilder()
        .with_model_path(MODELS / "toy")
        .with_default_options(options, max_tokens=5)
        .with_chat_formatter("chatml")
        .with_cache_dir(tmp_path)
        .build_pool(2, queue_limit=3, timeout_s=9)
    )
    assert isinstance(built, GeneratorPool)
    with built as pool:
        assert pool.generate("x").usage.completion_tokens == 5
        assert len(pool._slots) == 2


@pytest.mark.parametrize(
    ("builder", "said"),
    [
        (TextGeneratorBuilder(), "no model was named"),
        (TextGeneratorBuilder().with_model("guide").with_model_path("."), "can't be combined"),
        (TextGeneratorBuilder().with_model_path("/no/such/folder"), "no such folder"),
        (
            TextGeneratorBuilder().with_model("guide").with_chat_formatter("chatml").with_chat_formatter(Shouting()),
            "two chat formatters",
        ),
        (TextGeneratorBuilder().with_model("guide").with_chat_formatter("nonsense"), "unknown chat format"),
        (TextGeneratorBuilder().with_model("guide").with_default_options(nonsense=1), "unknown generation option"),
        (TextGeneratorBuilder().with_model("guide").with_default_options(temperature=-1), "`temperature`"),
        (
            TextGeneratorBuilder().with_model("guide").with_context(99999),
            "is more than this model's maximum of 1,024 tokens",
        ),
        (TextGeneratorBuilder().with_model("guide").with_memory_limit("much"), "not a size"),
    ],
)
def test_wrong_combinations_are_errors_when_it_is_built(builder: TextGeneratorBuilder, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        builder.build()


def test_a_choice_that_means_nothing_is_an_error_at_once() -> None:
    with pytest.raises(UsageError, match="unknown value 'nonsense' of `speculative`"):
        TextGeneratorBuilder().with_speculation("nonsense")
    with pytest.raises(UsageError, match="`concurrency` must be at least 1"):
        TextGeneratorBuilder().with_model("guide").build_pool(0)


def test_a_format_of_ones_own_is_registered_by_name() -> None:
    register_chat_format("shouting", Shouting)
    with load("guide", chat_format="shouting") as model:
        assert model.prompter.format.formatter.name == "shouting"
        assert "HELLO" in model.prompter.chat([ChatMessage.user("hello")]).text
    with pytest.raises(UsageError, match="the name of a chat format already"):
        register_chat_format("chatml", Shouting)


def test_a_batch_from_python() -> None:
    with load("guide") as model:
        found = model.generate_batch(["hello", [{"role": "user", "content": "thanks"}]], temperature=0)
        assert [f.text[:9] for f in found] == ["Hello! I ", "You are w"]
        assert [f.text for f in model.generate_batch(["hello"] * 3, batch_size=2, temperature=0)] == [found[0].text] * 3
        with pytest.raises(UsageError, match="beam search"):
            model.generate_batch(["x"], num_beams=2)


def test_warm_up_leaves_nothing_behind() -> None:
    with load("guide") as model:
        model.warm_up()
        assert model.cached_tokens == 0
        assert model.generate("thanks", temperature=0).text == "You are welcome!"
        model.warm_up()
        assert model.generate("thanks", temperature=0).usage.cached_tokens > 0


def test_limits_with_thresholds() -> None:
    with load("guide", memory_limit=MemoryOptions("8GB", warning=1e-6, critical=1.0)) as model:
        events = list(model.stream("How do I download a model?", temperature=0))
        assert [e.code for e in events if isinstance(e, Notice)] == ["memory_warning"]
    with load("guide", memory_limit=MemoryOptions("8GB", warning=1e-7, critical=1e-6)) as model:
        assert model.generate("How do I download a model?", temperature=0).finish_reason == "memory"
    with load("guide", memory_limit=MemoryOptions("8GB", before=1e-6)) as model, pytest.raises(DoesNotFit):
        model.generate("hello")
    for bad in ({"warning": 0.9, "critical": 0.5}, {"critical": 1.5}, {"before": 0}):
        with pytest.raises(UsageError, match="thresholds"):
            MemoryOptions("8GB", **bad)  # type: ignore[arg-type]


def test_estimates_by_name() -> None:
    here = estimate_memory("guide", context=1024)
    assert 60_000_000 < here.peak_bytes < 120_000_000
    assert estimate_memory(MODELS / "llama").peak_bytes > 0
    pulled = estimate_memory("phi-3.5", context=4096)
    assert 4e9 < pulled.peak_bytes < 9e9
    with pytest.raises(ModelNotInstalled):
        estimate_memory("owner/repo")


def test_the_store_from_python(tmp_path: Path) -> None:
    store = ModelStore(tmp_path)
    assert store.list() == []
    added = store.add(MODELS / "llama", "mine", license="MIT", tier="permissive")
    assert (added.ref, store.get("mine").path) == ("mine", (MODELS / "llama").absolute())
    assert store.verify("mine").ok
    assert store.remove("mine") == 0, "a folder that was added is only forgotten"
    assert (MODELS / "llama" / "model.onnx").exists()
    with pytest.raises(ModelNotInstalled):
        store.verify("guide")


def test_the_machine_and_stops() -> None:
    assert detect_hardware().memory.total_bytes > 0
    detector = StopSequenceDetector(["END"])
    assert detector.push("a E") + detector.push("N") + detector.push("D b") == "a "
    assert detector.matched == "END"


def test_the_model_info_tells_all() -> None:
    with load("guide") as model:
        info = model.info
        assert (info.ref, info.precision, info.provider, info.context_length) == ("guide", "int4", "cpu", 1024)
        assert info.license.id == "MIT"
        assert info.parameters == 0.0025
        assert info.size_bytes > 1_000_000


def test_the_page_is_not_stale_and_names_everything() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run python tools/make_api.py"
    for name in lmsupply_cli.__all__:
        if name != "__version__":
            assert f"`{name}" in page()

"""Plans of loading, and what a loaded model says of itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lmsupply_cli import (
    ChatMessage,
    ChatSession,
    DoesNotFit,
    LoadOptions,
    ModelFilesError,
    TextDelta,
    UntrustedModelFiles,
    load,
    plan_load,
)

MODELS = Path(__file__).parent.parent / "models"


def test_a_plan_prints_what_loading_comes_to_and_reads_no_weights(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "llama", tmp_path / "model")
    (tmp_path / "model" / "model.onnx.data").write_bytes(b"\0" * (MODELS / "llama" / "model.onnx.data").stat().st_size)
    plan = plan_load(tmp_path / "model", LoadOptions(context=300, threads=1, speculative="ngram", draft_tokens=3))
    rows = dict(plan.rows())
    assert rows["context"] == "300 of 512 tokens"
    assert rows["provider"] == "cpu, 1 thread"
    assert rows["draft tokens"] == "at most 3, from the text"
    assert plan.as_dict()["peak_bytes"] == plan.fit.estimate.peak_bytes  # type: ignore[union-attr]


def test_what_does_not_fit_is_known_from_the_plan() -> None:
    with pytest.raises(DoesNotFit, match=r"needs .* with the smallest context, but only 36\.0 MB is available"):
        plan_load("guide", LoadOptions(memory_limit="40MB"))


def test_trust_reaches_the_draft_model(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "llama", tmp_path / "draft")
    file = tmp_path / "draft" / "genai_config.json"
    config = json.loads(file.read_text())
    config["model"]["decoder"]["session_options"]["enable_profiling"] = "profile"
    file.write_text(json.dumps(config))
    options = {"speculative": f"draft:{tmp_path / 'draft'}"}
    with pytest.raises(UntrustedModelFiles):
        plan_load(MODELS / "llama", LoadOptions(**options))  # type: ignore[arg-type]
    plan = plan_load(MODELS / "llama", LoadOptions(**options, trust_model_files=True))  # type: ignore[arg-type]
    assert plan.draft is not None
    assert plan.draft.folder.trusted


@pytest.mark.parametrize("part", ["decoder", "normalizer"])
def test_a_tokenizer_that_the_library_does_not_take_is_the_engines_with_a_notice(tmp_path: Path, part: str) -> None:
    shutil.copytree(MODELS / "llama", tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {part: {"type": "Unheard"}}))
    with load(tmp_path / "model") as model:
        (notice,) = model.notices
        assert notice.code == "tokenizer"
        assert notice.text.startswith("using the engine's tokenizer, whose tokens may differ from the model's")
        assert notice.text.endswith(f"its {part} is of an unknown kind")
        assert model.generate("hello world", max_tokens=3, seed=1).usage.completion_tokens == 3


def test_a_tokenizer_that_nobody_takes_is_one_clear_line(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "phi3", tmp_path / "model")
    file = tmp_path / "model" / "tokenizer.json"
    whole = json.loads(file.read_text())
    file.write_text(json.dumps(whole | {"model": whole["model"] | {"merges": [["a"]]}}))
    with pytest.raises(ModelFilesError, match=r"tokenizer\.json fails: its merges are malformed"):
        load(tmp_path / "model")


@pytest.mark.parametrize("text", ["hello", "<|im_end|> and <think>", "a\n\nb", " lead", "日本 🏳️"])
def test_tokens_are_counted_as_a_prompt_costs_them(text: str) -> None:
    with load("guide") as model:
        longer, shorter = (len(model.prompter.chat([ChatMessage.user(t)]).ids) for t in (f"?{text}", "?"))
        assert model.count_tokens(f"?{text}") - model.count_tokens("?") == longer - shorter


@pytest.mark.parametrize("name", ["llama", "qwen2", "phi3", "gemma2", "llama-fp32"])
@pytest.mark.parametrize("options", [{"temperature": 0}, {"seed": 3}, {"seed": 3, "temperature": 1.5}])
def test_the_same_answer_whether_the_prompt_is_cached_or_not(name: str, options: dict[str, float]) -> None:
    """int4 (all but the last) rounds one row and several rows differently."""
    with load(MODELS / name) as model:
        for words in (1, 40, 120):  # also prompts whose last piece would be one token
            for more in range(3):
                prompt = "word " * words + "x " * more
                model.clear_cache()
                fresh = model.generate(prompt, max_tokens=12, **options)  # type: ignore[arg-type]
                cached = model.generate(prompt, max_tokens=12, **options)  # type: ignore[arg-type]
                model.generate("word " * words + "other", max_tokens=3, seed=1)
                partly = model.generate(prompt, max_tokens=12, **options)  # type: ignore[arg-type]
                assert fresh.text == cached.text == partly.text
                assert cached.usage.cached_tokens > 0
        session = ChatSession(model)
        first = "".join(e.text for e in session.send("hello", max_tokens=12, seed=5) if isinstance(e, TextDelta))
        again = "".join(e.text for e in session.regenerate(max_tokens=12, seed=5) if isinstance(e, TextDelta))
        assert first == again

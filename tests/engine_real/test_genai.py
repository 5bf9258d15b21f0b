"""The real engine: what a new minor of it must still do."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import types
from pathlib import Path

import psutil
import pytest

from lmsupply_cli import GenerationOptions, UsageError, load
from lmsupply_cli.engine import genai
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.genai import GenaiModel
from lmsupply_cli.engine.genai_decoders import RestartingDecoder
from lmsupply_cli.errors import EngineUnavailable, ProviderUnavailable

MODELS = Path(__file__).parent.parent / "models"
FAMILIES = ["llama", "qwen2", "phi3", "gemma2"]
GREEDY = GenerationOptions(temperature=0, repetition_penalty=1.0, max_tokens=12)


def test_another_minor_is_refused_by_name(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = genai.import_engine()
    monkeypatch.setattr(engine, "__version__", "0.19.1")
    with pytest.raises(EngineUnavailable, match=r"0\.19\.1 is installed; lmsupply is tested with 0\.18\.x"):
        load(toy)


def test_a_missing_engine_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", None)
    with pytest.raises(EngineUnavailable, match="cannot be imported") as caught:
        genai.import_engine()
    assert "pip install" in caught.value.hint


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_generates_and_reuse_equals_a_fresh_prefill(family: str) -> None:
    with load(MODELS / family, options=GREEDY) as model, load(MODELS / family, options=GREEDY) as fresh:
        first = model.generate_chat([{"role": "user", "content": "hello there, and so on and on"}], min_length=12)
        assert first.usage.completion_tokens == 12
        edited = [{"role": "user", "content": "hello there, my world"}]
        again = model.generate_chat(edited, min_length=12)
        assert again.usage.cached_tokens > 0
        assert again.text == fresh.generate_chat(edited, min_length=12).text


def test_a_rewind_beyond_the_sliding_window_reads_the_prefix_again() -> None:
    model = GenaiModel(open_folder(MODELS / "gemma2"))
    ids = [300 + i % 100 for i in range(90)]
    decoder, fresh = model.new_decoder(capacity_tokens=128), model.new_decoder(capacity_tokens=128)
    decoder.append(ids)
    decoder.rewind(10)
    assert list(decoder.tokens) == ids[:10]
    decoder.append([301, 302])
    for token in [*ids[:10], 301, 302]:
        fresh.append([token])
    assert int(decoder.logits().argmax()) == int(fresh.logits().argmax())
    model.close()


def test_a_chat_on_a_provider_that_restarts(guide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same answers, and no restart within one."""
    talk = [{"role": "user", "content": "hello"}]
    with load(guide) as model:
        first = model.generate_chat(talk, temperature=0).text
        talk += [{"role": "assistant", "content": first}, {"role": "user", "content": "How do I list my models?"}]
        second = model.generate_chat(talk, temperature=0).text
    monkeypatch.setattr(genai, "RESTARTING", {"cpu"})
    with load(guide) as model:
        assert model.generate_chat(talk[:1], temperature=0).text == first
        decoder = model.cache._decoder
        assert isinstance(decoder, RestartingDecoder)
        assert decoder.restarts == 0
        assert model.generate_chat(talk, temperature=0).text == second


def test_the_same_seed_gives_the_same_text() -> None:
    with load(MODELS / "llama") as model:

        def text(seed: int) -> str:
            return model.generate("hello", seed=seed, temperature=1.0, max_tokens=30).text

        assert text(1) == text(1)
        assert len({text(seed) for seed in range(5)}) > 1
    with load(MODELS / "llama") as model:
        again = model.generate("hello", seed=1, temperature=1.0, max_tokens=30).text
    with load(MODELS / "llama") as model:
        assert model.generate("hello", seed=1, temperature=1.0, max_tokens=30).text == again


def test_beams_are_the_engines_own(guide: Path) -> None:
    with load(guide) as model:
        one = model.generate("How do I download a model?", temperature=0)
        four = model.generate("How do I download a model?", num_beams=4)
        assert four.text == one.text
        assert four.finish_reason == "stop"
        assert model.generate("How do I download a model?", num_beams=2, max_tokens=3).finish_reason == "length"


def test_threads_are_the_physical_cores(toy: Path) -> None:
    from lmsupply_cli.hardware.host import detect_cpu

    with load(toy) as model:
        assert model.info.threads == detect_cpu().usable_threads
    with load(toy, threads=1) as model:
        assert model.info.threads == 1


def test_the_cache_is_sized_by_what_is_needed(guide: Path) -> None:
    with load(guide) as model:
        used = model.generate("hello", max_tokens=20).usage
        assert model.cache._decoder is not None
        assert model.cache._decoder.capacity_tokens == used.prompt_tokens + 20


def test_a_plug_in_without_a_device_is_said(guide: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As measured with onnxruntime-ep-webgpu 0.4.0 on a machine without a GPU: it registers, then the engine refuses."""
    plugin = types.ModuleType("onnxruntime_ep_webgpu")
    plugin.get_library_path = lambda: "nowhere"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime_ep_webgpu", plugin)
    monkeypatch.setattr(genai.import_engine(), "register_execution_provider_library", lambda name, path: None)
    with pytest.raises(ProviderUnavailable, match="the plug-in is installed, but it found no device"):
        load(guide, provider="webgpu")


def test_context_beyond_the_model_is_bad_input(toy: Path) -> None:
    with pytest.raises(UsageError, match="`context=257` is more than this model's maximum of 256 tokens"):
        load(toy, context=257)


@pytest.mark.parametrize("share", [True, False])
def test_share_buffer_reaches_the_engine(guide: Path, share: bool) -> None:
    with load(guide) as model:
        text = model.generate("hello", temperature=0, past_present_share_buffer=share).text
        assert text.startswith("Hello!")


def test_raw_text_begins_with_the_models_own_token(tmp_path: Path) -> None:
    """Where its tokenizer puts one; that a config names one is not enough."""
    folder = Path(shutil.copytree(MODELS / "phi3", tmp_path / "phi3"))
    settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(settings | {"add_bos_token": True}), encoding="utf-8")
    with load(folder) as model:
        assert model.prompter.raw("hello").ids[0] == model.model.shape.bos_id
        assert model.prompter.raw("<s>hello").ids.count(model.model.shape.bos_id) == 1
        assert model.prompter.raw("hello").text == "<s>hello"
    for name in ("qwen2", "phi3"):
        with load(MODELS / name) as model:
            assert list(model.prompter.raw("hello").ids) == model.model.encode("hello")


def test_loading_and_closing_twenty_times_leaves_memory_flat(guide: Path) -> None:
    process = psutil.Process()

    def round_trip() -> None:
        with load(guide) as model:
            model.generate("hello", max_tokens=5)

    for _ in range(5):
        round_trip()
    gc.collect()
    before = process.memory_info().rss
    for _ in range(20):
        round_trip()
    gc.collect()
    grown = process.memory_info().rss - before
    assert grown < 8_000_000, f"{grown / 1e6:.1f} MB more; one load of the guide takes over 10"


@pytest.mark.parametrize(
    "program",
    [
        "from lmsupply_cli import load\nmodel = load('guide')\nprint(model.generate('hello', max_tokens=3))",
        "from lmsupply_cli import load\nmodel = load('guide')\nevents = model.stream('hello')\nnext(events); next(events)",
        "from lmsupply_cli import load\nwith load('guide') as model:\n    raise SystemExit(0)",
    ],
)
def test_no_noise_from_the_engine_at_exit(program: str) -> None:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_padding_tokens_at_the_end_of_an_append_are_read() -> None:
    """The engine alone leaves them out of the attention, so that a chunk's border would change the answer."""
    import numpy as np

    with GenaiModel(open_folder(MODELS / "llama-fp32")) as model:
        pad = model.shape.pad_id
        assert pad is not None
        ids = [35, 36, 37, pad, pad]
        one, split = model.new_decoder(capacity_tokens=20), model.new_decoder(capacity_tokens=20)
        one.append(ids)
        for token in ids:
            split.append((token,))
        assert np.abs(one.logits() - split.logits()).max() < 1e-3
        assert one.tokens == split.tokens == ids
        wide = one.wide_logits(4)
        assert wide.shape == (4, model.shape.vocabulary)
        assert np.abs(wide[-1] - one.logits()).max() < 1e-6
        short = model.new_decoder(capacity_tokens=20)
        short.append(ids[:3])
        assert np.abs(one.logits() - short.logits()).max() > 1e-2

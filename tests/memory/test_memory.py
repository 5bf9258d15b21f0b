"""What a model needs: read from its graph, estimated, fitted, limited, watched."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.cli import lmsupply

from lmsupply_cli import DoesNotFit, Finished, Notice, load
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.onnx_graph import read_graph
from lmsupply_cli.errors import ModelNotFound
from lmsupply_cli.hardware.profile import Cpu, Gpu, HardwareProfile, Memory
from lmsupply_cli.loading.recommend import named_by_role
from lmsupply_cli.memory.budget import MemoryBudget, device_bytes
from lmsupply_cli.memory.estimate import estimate_memory, guidance_bytes
from lmsupply_cli.memory.fit import fit_context
from lmsupply_cli.memory.rough import MARGIN
from lmsupply_cli.memory.shape import MemoryShape, read_shape
from lmsupply_cli.memory.watch import MemoryWatch

MODELS = Path(__file__).parent.parent / "models"


@pytest.mark.parametrize("name", ["llama", "qwen2", "phi3", "gemma2"])
def test_the_weights_of_a_graph_add_up_to_its_data(name: str) -> None:
    folder = MODELS / name
    weights = read_graph(folder / "model.onnx")
    total = weights.product_bytes + weights.other_bytes
    stored = (folder / "model.onnx.data").stat().st_size + (folder / "model.onnx").stat().st_size
    assert 0.6 * stored < total <= stored
    assert 0 < weights.largest_bytes <= weights.product_bytes
    assert weights.tied_bytes <= weights.product_bytes


def test_a_table_that_a_product_reads_too_is_held(tmp_path: Path) -> None:
    """The tied head of an fp32 model is a Gemm of the table, all of which is in memory then."""
    table = onnx.helper.make_tensor("table", onnx.TensorProto.FLOAT, [100, 8], [0.0] * 800)
    alone = onnx.helper.make_tensor("alone", onnx.TensorProto.FLOAT, [10, 8], [0.0] * 80)
    nodes = [
        onnx.helper.make_node("Gather", ["table", "ids"], ["x"]),
        onnx.helper.make_node("Gather", ["alone", "ids"], ["y"]),
        onnx.helper.make_node("Gemm", ["x", "table"], ["logits"], transB=1),
    ]
    graph = onnx.helper.make_graph(nodes, "g", [], [], [table, alone])
    onnx.save(onnx.helper.make_model(graph), tmp_path / "model.onnx")
    weights = read_graph(tmp_path / "model.onnx")
    assert (weights.product_bytes, weights.tied_bytes, weights.other_bytes) == (0, 0, 3200)


@given(st.binary(min_size=1, max_size=300))
def test_garbage_is_no_graph_and_no_crash(data: bytes) -> None:
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"graph-{os.getpid()}.onnx"
    path.write_bytes(data)
    with contextlib.suppress(ValueError):  # anything else is a crash
        assert read_graph(path).largest_bytes <= len(data)
    path.unlink()


def shape(**more: int) -> MemoryShape:
    """Llama-3.2-1B on the CPU, by its files alone."""
    sizes = {
        "layers": 16,
        "kv_heads": 8,
        "head_size": 64,
        "hidden_size": 2048,
        "vocabulary": 128256,
        "context_length": 131072,
    }
    return MemoryShape(**(sizes | {"cache_number_bytes": 4, "file_bytes": 800_000_000} | more))


def test_the_cache_is_counted_as_the_engine_allocates_it() -> None:
    assert shape().cache_bytes(1) == 65_536
    assert shape().cache_bytes(4096) == 268_435_456
    assert shape(cache_number_bytes=2).cache_bytes(4096) == 134_217_728


def test_layers_with_a_sliding_window_keep_no_more_than_it() -> None:
    found = read_shape(open_folder(MODELS / "gemma2"))
    assert found is not None
    assert (found.layers, found.window, found.window_layers) == (2, 32, 1)
    one = 2 * found.kv_heads * found.head_size * 4  # a token in one layer
    assert found.cache_bytes(512) == one * (512 + 32)
    assert found.cache_bytes(8) == one * (32 + 32), "the engine allocates no less than the window"


def test_the_type_of_the_cache_is_read_from_the_graph(tmp_path: Path) -> None:
    folder = shutil.copytree(MODELS / "llama", tmp_path / "llama")
    graph = folder / "model.onnx"
    data = graph.read_bytes()
    float_tensor, half_tensor = b"\x0a\x15past_key_values.0.key\x12", b"\x08\x0a"
    at = data.index(float_tensor)
    assert data[at:].index(b"\x08\x01") < 40  # elem_type: float
    number = at + data[at:].index(b"\x08\x01")
    graph.write_bytes(data[:number] + half_tensor + data[number + 2 :])
    plain, half = read_shape(open_folder(MODELS / "llama")), read_shape(open_folder(folder))
    assert plain is not None
    assert half is not None
    assert (plain.cache_number_bytes, half.cache_number_bytes) == (4, 2)
    assert read_graph(graph, cache_input="no_such_input").cache_number_bytes == 0


def test_a_folder_that_declares_a_gpu_is_fitted_against_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(MODELS / "llama", tmp_path / "llama")
    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["provider_options"] = [{"cuda": {}}]
    (folder / "genai_config.json").write_text(json.dumps(config))
    asked: list[str] = []
    monkeypatch.setattr("lmsupply_cli.memory.budget.device_bytes", lambda name, _: asked.append(name) or 1_000_000)
    with pytest.raises(DoesNotFit, match=r"only 900 kB is available"):
        load(folder)
    assert asked == ["cuda"]


def test_an_estimate_is_the_sum_of_its_terms() -> None:
    found = estimate_memory(shape(), 4096)
    terms = found.process_bytes, found.tokenizer_bytes, found.weights_bytes, found.cache_bytes, found.work_bytes
    assert found.steady_bytes == sum(terms)
    guided = estimate_memory(replace(shape(), guided=True), 4096)
    assert guided.steady_bytes - found.steady_bytes == guidance_bytes(shape())
    assert found.peak_bytes >= found.steady_bytes
    assert estimate_memory(shape(), 8192).steady_bytes - found.steady_bytes == shape().cache_bytes(4096)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("context", [256, 1024])
def test_the_estimate_of_the_guide_is_near_what_is_measured(guide: Path, context: int) -> None:
    program = (
        "import sys\nfrom pathlib import Path\nfrom lmsupply_cli.engine.folder import open_folder\n"
        "from lmsupply_cli.engine.genai import GenaiModel\n"
        "model = GenaiModel(open_folder(Path(sys.argv[1])))\n"
        "decoder = model.new_decoder(capacity_tokens=int(sys.argv[2]))\n"
        "decoder.append(list(range(64)))\ndecoder.logits()\n"
        "print([int(l.split()[1]) * 1024 for l in open('/proc/self/status') if l.startswith('VmHWM')][0])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(guide), str(context)], capture_output=True, text=True, check=True
    )
    found = read_shape(open_folder(guide))
    assert found is not None
    assert estimate_memory(found, context).peak_bytes == pytest.approx(int(done.stdout), rel=0.15)


def test_automatic_contexts_shrink_and_explicit_ones_never_do() -> None:
    roomy = fit_context(shape(), 64_000_000_000)
    assert (roomy.context_tokens, roomy.limited) == (131072, False)
    tight = fit_context(shape(), 2_000_000_000)
    assert tight.limited
    assert 256 < tight.context_tokens < 131072
    assert tight.estimate.peak_bytes <= 2_000_000_000 * MARGIN
    assert estimate_memory(shape(), tight.context_tokens + 64).peak_bytes > 2_000_000_000 * MARGIN
    assert fit_context(shape(), 2_000_000_000, wanted_tokens=1000).context_tokens == 1000
    with pytest.raises(DoesNotFit, match=r"`context=32768` needs 3\.4 GB, but only 1\.8 GB is available") as caught:
        fit_context(shape(), 2_000_000_000, wanted_tokens=32768)
    assert caught.value.hint == f"`context={tight.context_tokens}` fits"
    with pytest.raises(DoesNotFit, match="with the smallest context"):
        fit_context(shape(), 500_000_000)


def test_what_does_not_fit_names_what_would(tmp_path: Path, guide: Path) -> None:
    with pytest.raises(DoesNotFit) as caught:
        load(guide, memory_limit="50MB")
    assert "would fit" not in caught.value.hint, "nothing would"
    config = (guide / "genai_config.json").read_text().replace('"num_hidden_layers": 5', '"num_hidden_layers": 500000')
    for path in guide.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "genai_config.json").write_text(config)
    with pytest.raises(DoesNotFit) as caught:
        load(tmp_path, memory_limit="10GB")
    assert "phi-4-mini would fit" in caught.value.hint


@pytest.mark.parametrize(
    ("provider", "gpus", "free"),
    [
        ("cuda", (Gpu("a", "nvidia", 80, 50), Gpu("b", "nvidia", 80, 70)), 70),
        ("cuda", (Gpu("a", "nvidia", 80, 50), Gpu("b", "nvidia", 80, 70, hidden=True)), 50),
        ("cuda", (Gpu("a", "amd", 80, 50),), None),
        ("dml", (Gpu("a", "amd", 80),), 80),
        ("webgpu", (Gpu("a", "intel"),), None),
    ],
)
def test_the_memory_of_the_chosen_device_counts(provider: str, gpus: tuple[Gpu, ...], free: int | None) -> None:
    cpu = Cpu("x", "x86_64", 8, 16, None, (), None, 8)
    assert device_bytes(provider, HardwareProfile("Linux", cpu, Memory(1, 1, 0, None), gpus)) == free


def test_the_default_role_follows_the_memory() -> None:
    assert named_by_role("role:default", lambda: 16_000_000_000) == "phi-4-mini"
    assert named_by_role("ROLE:DEFAULT", lambda: 4_500_000_000) == "qwen3-1.7b"
    assert named_by_role("role:quality", lambda: 32_000_000_000) == "phi-4"
    assert named_by_role("role:fast", lambda: 0) == "qwen3-0.6b"
    assert named_by_role("fast", lambda: 0) == "fast"
    with pytest.raises(ModelNotFound, match="unknown role 'smart'") as caught:
        named_by_role("role:smart", lambda: 0)
    assert caught.value.hint.startswith("roles: role:default, role:quality, role:fast, role:small, ")


def test_the_watch_warns_once_and_ends() -> None:
    used = iter([700, 790, 810, 900, 940, 960, 960])
    watch = MemoryWatch(1000, lambda: next(used), every=1)
    assert [watch.look() for _ in range(7)] == ["", "", "warning", "", "", "critical", "critical"]
    assert MemoryWatch(1000, lambda: 999, every=4).look() == ""


def test_an_answer_ends_with_what_it_has(guide: Path) -> None:
    grown = iter([*[100] * 4, *[850] * 3, *[960] * 1000])
    with load(guide) as model:
        model.budget = MemoryBudget(1000, None, lambda: next(grown), every=1)
        events = list(model.stream("How do I download a model?"))
        last = events[-1]
        assert isinstance(last, Finished)
        assert last.finish_reason == "memory"
        codes = [e.code for e in events if isinstance(e, Notice)]
        assert codes[0] == "memory_warning"
        assert "memory_critical" in codes
        model.budget = None
        assert model.generate("hello", temperature=0).text.startswith("Hello!"), "the model lives on"


def test_a_cache_beyond_the_limit_is_refused_before_it_is_made() -> None:
    budget = MemoryBudget(1_000_000_000, shape(), lambda: 800_000_000)
    budget.check_cache(1000)
    with pytest.raises(DoesNotFit, match=r"a context of 4,096 tokens would bring the process to 1\.1 GB"):
        budget.check_cache(4096)


def test_the_limit_on_the_command_line() -> None:
    refused = lmsupply("run", "-m", "guide", "--memory-limit", "40MB", "hello")
    assert refused.code == 4
    assert "needs" in refused.err
    assert "hint: " in refused.err
    assert lmsupply("run", "-m", "guide", "--memory-limit", "1GB", "hello").code == 0
    assert lmsupply("run", "-m", "guide", "hello", LMSUPPLY_MEMORY_LIMIT="40MB").code == 4
    bad = lmsupply("run", "-m", "guide", "--memory-limit", "lots", "hello")
    assert (bad.code, "not a size" in bad.err) == (2, True)


@pytest.mark.skipif(sys.platform != "linux", reason="the highest resident memory is read from /proc")
def test_the_process_stays_under_its_limit() -> None:
    program = (
        "from lmsupply_cli.cli.app import main\n"
        "code = main(['run', '-q', '-m', 'guide', '--memory-limit', '160MB', '--no-stdin', 'How do I download a model?'])\n"
        "peak = [int(l.split()[1]) * 1024 for l in open('/proc/self/status') if l.startswith('VmHWM')][0]\n"
        "print(code, peak)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    code, peak = done.stdout.splitlines()[-1].split()
    assert code == "0"
    assert int(peak) < 160_000_000


def test_show_prints_the_terms() -> None:
    found = lmsupply("show", "guide", "--json").json["memory"]
    assert found["steady_bytes"] == sum(
        found[k] for k in ("process_bytes", "tokenizer_bytes", "weights_bytes", "cache_bytes", "work_bytes")
    )
    assert "cache" in lmsupply("show", "guide").out

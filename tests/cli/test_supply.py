"""Supply on the command line: pull, show, rm, verify, add, licenses, models, over a Hub on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import Result, lmsupply
from support.hub import Fault, Hub, Repo, local_hub

MODELS = Path(__file__).parent.parent / "models"
PHI = "microsoft/Phi-3.5-mini-instruct-onnx"
CPU, GPU = "cpu_and_mobile/cpu-int4-awq-block-128-acc-level-4", "gpu/gpu-int4-awq-block-128"
LLAMA = "onnx-community/Llama-3.2-1B-Instruct-GENAI-ONNX"


def files(folder: str, model: str = "phi3", extra: int = 0) -> dict[str, bytes]:
    found = {f"{folder}/{path.name}".lstrip("/"): path.read_bytes() for path in (MODELS / model).iterdir()}
    found[f"{folder}/model.onnx.data".lstrip("/")] += random.Random(2).randbytes(extra)
    return found


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        hub.repos[PHI] = Repo(files(CPU) | files(GPU) | {"README.md": b"# Phi", "LICENSE": b"MIT License\nfor all\n"})
        hub.repos[LLAMA] = Repo(files("cpu_and_mobile/cpu-int4-rtn-block-32-acc-level-4", "llama"), license="llama3.2")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def home() -> Path:
    return Path(os.environ["LMSUPPLY_HOME"])


def cut(*arguments: str) -> Result:
    """Run with the network cut, where the system lets us."""
    command = [sys.executable, "-m", "lmsupply_cli", *arguments]
    if (
        shutil.which("unshare")
        and subprocess.run(["unshare", "-rn", "true"], check=False, capture_output=True).returncode == 0
    ):
        command = ["unshare", "-rn", *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    return Result(done.returncode, done.stdout, done.stderr)


def test_the_whole_road(hub: Hub) -> None:
    before = lmsupply("run", "-m", "phi-3.5", "hello")
    assert (before.code, before.out) == (3, "")
    assert before.err == "error: phi-3.5 is not installed\nhint: lmsupply pull phi-3.5\n"
    first = lmsupply("run", "phi-3.5", "--pull", "--json", "--max-tokens", "3", stdin="hi")
    assert first.code == 0
    assert CPU in first.err
    assert "license MIT (permissive)" in first.err
    assert first.json["model"] == {
        "ref": "phi-3.5", "repo": PHI, "commit": hub.repos[PHI].commit, "variant": CPU, "provider": "cpu", "precision": "int4",
    }  # fmt: skip
    assert not any("gpu-int4" in r.path for r in hub.of("cdn")), "only the variant's files"
    asked = len(hub.requests)
    shown = cut("run", "phi-3.5", "--show-prompt", "hello")
    assert shown.out == "<|user|>\nhello<|end|>\n<|assistant|>\n"
    again = cut("run", "phi-3.5", "--json", "--max-tokens", "3", "hello")
    assert (again.code, again.json["usage"]["completion_tokens"]) == (0, 3)
    assert len(hub.requests) == asked, "an installed model needs no request"
    bare = cut("run", "--max-tokens", "2", "hello")
    assert "using phi-3.5, the largest installed model" in bare.err
    assert cut("models", "--installed", "-q").out == "guide\nphi-3.5\n"


@pytest.mark.parametrize("name", ["phi3.5", "Phi-3.5-mini", PHI, f"{PHI}@main"])
def test_refs_are_forgiven(hub: Hub, name: str) -> None:
    assert lmsupply("pull", "-q", "phi-3.5").code == 0
    assert lmsupply("run", "-m", name, "--max-tokens", "1", "hello").code == 0


def test_a_dry_run_fetches_nothing(hub: Hub) -> None:
    result = lmsupply("pull", "--dry-run", "--json", "phi-3.5")
    found = result.json
    assert list(found) == [
        "schema",
        "model",
        "chosen",
        "rejected",
        "files",
        "fetch_bytes",
        "free_disk_bytes",
        "license",
        "obstacles",
    ]
    assert found["chosen"]["variant"] == CPU
    assert found["chosen"]["precision"] == "int4"
    assert found["rejected"] == [{"variant": GPU, "reason": "made for gpu"}]
    assert found["fetch_bytes"] == sum(f["size_bytes"] for f in found["files"])
    assert all(f["have_bytes"] == 0 for f in found["files"])
    assert hub.of("cdn") == []
    assert not (home() / "cache" / ".lmsupply").exists()
    text = lmsupply("pull", "--dry-run", "phi-3.5").out
    assert "to fetch" in text
    assert f"not        {GPU}: made for gpu" in text
    gpu = lmsupply("pull", "--dry-run", "--json", "--provider", "cuda", "phi-3.5").json
    assert gpu["chosen"]["variant"] == GPU
    named = lmsupply("pull", "--dry-run", "--json", "--variant", "gpu", "phi-3.5").json
    assert named["chosen"]["reasons"] == ["you asked for it"]


def test_pull_as_json_lines(hub: Hub) -> None:
    events = lmsupply("pull", "--json", "phi-3.5").json_lines
    kinds = [event["type"] for event in events]
    assert kinds[0] == "plan"
    assert kinds[-1] == "finished"
    assert set(kinds[1:-1]) == {"progress"}
    assert events[-2]["all_done_bytes"] == events[-2]["all_bytes"]


def test_terms_are_accepted_by_the_user_or_not_at_all(hub: Hub) -> None:
    refused = lmsupply("pull", "llama-3.2-1b")
    assert refused.code == 5
    assert "Built with Llama" in refused.err
    assert "--accept-license" in refused.err
    assert lmsupply("licenses", "--json").json["accepted"] == []
    assert lmsupply("pull", "llama-3.2-1b", "--accept-license").code == 0
    (row,) = lmsupply("licenses", "--json").json["accepted"]
    assert (row["ref"], row["license"], row["tier"], row["revision"]) == (
        "llama-3.2-1b", "Llama-3.2", "conditional", hub.repos[LLAMA].commit,
    )  # fmt: skip
    assert row["date"] == time.strftime("%Y-%m-%d")
    record = json.loads((home() / "config" / "accepted-licenses.json").read_text())
    assert record["accepted"] == [row]
    assert lmsupply("pull", "llama-3.2-1b").code == 0, "asked once"
    assert lmsupply("licenses", "--revoke", "llama-3.2-1b").code == 0
    assert lmsupply("licenses", "--revoke", "llama-3.2-1b").code == 2
    assert lmsupply("pull", "llama-3.2-1b").code == 5
    only = lmsupply("run", "llama-3.2-1b", "hello", LMSUPPLY_ALLOWED_TIERS="permissive")
    assert only.code == 5
    assert "allowed_tiers allows only permissive" in only.err
    assert lmsupply("pull", "phi-3.5", LMSUPPLY_ALLOWED_LICENSES="Apache-2.0").code == 5


def test_an_unknown_license_is_treated_like_a_conditional_one(hub: Hub) -> None:
    hub.repos["someone/odd"] = Repo(files("", "llama"), license="")
    assert lmsupply("pull", "someone/odd").code == 5
    hub.repos["someone/free"] = Repo(files("", "llama"), license="apache-2.0")
    assert lmsupply("pull", "someone/free").code == 0


def test_auto_pull(hub: Hub) -> None:
    ask = ("run", "-m", "phi-3.5", "--max-tokens", "1", "hello")
    assert lmsupply(*ask).code == 3, "no terminal: nobody can be asked"
    assert lmsupply(*ask, LMSUPPLY_AUTO_PULL="never").code == 3
    assert lmsupply(*ask, LMSUPPLY_AUTO_PULL="always", LMSUPPLY_OFFLINE="1").code == 3
    assert lmsupply(*ask, LMSUPPLY_AUTO_PULL="always").code == 0
    assert lmsupply("run", "-m", "llama-3.2-1b", "--pull", "hello").code == 5
    assert lmsupply("run", "hello", "--pull").code == 0, "without a name nothing is ever downloaded"


def test_show(hub: Hub) -> None:
    result = lmsupply("show", "phi-3.5")
    assert result.code == 0
    for text in (
        "Hub",
        PHI,
        "MIT (permissive)",
        "phi3",
        f"chosen        {CPU}",
        f"not           {GPU}",
        "made for gpu",
    ):
        assert text in result.out
    assert lmsupply("show", "phi-3.5", "--license").out == "MIT License\nfor all\n"
    offline = lmsupply("show", "phi-3.5", "--offline")
    assert "catalogue" in offline.out
    assert "uncertain" in offline.out
    lmsupply("pull", "-q", "phi-3.5")
    installed = cut("show", "phi-3.5", "--json").json
    assert (installed["source"], installed["installed"], installed["commit"]) == ("disk", True, hub.repos[PHI].commit)
    assert installed["shape"] == {"layers": 2, "kv_heads": 1, "head_size": 16}
    assert installed["chosen"] == {"variant": CPU, "size_bytes": 2782186064, "reasons": ["it is installed"]}
    assert cut("show", "phi-3.5", "--license").out == "MIT License\nfor all\n"
    guide = cut("show", "guide")
    assert guide.code == 0
    assert lmsupply("show", "phi35x").code == 1
    no_text = lmsupply("show", "guide", "--license")
    assert (no_text.code, no_text.out) == (1, "")


def test_a_repo_in_another_format_names_the_known_sibling(hub: Hub) -> None:
    hub.repos["onnx-community/Llama-3.2-1B-Instruct-ONNX"] = Repo({"onnx/model_q4f16.onnx": b"x", "config.json": b"{}"})
    result = lmsupply("pull", "onnx-community/Llama-3.2-1B-Instruct-ONNX")
    assert result.code == 1
    assert "transformers.js layout" in result.err
    assert "hint: lmsupply pull llama-3.2-1b" in result.err


def test_rm_frees_what_nobody_shares(hub: Hub) -> None:
    hub.repos["a/b"] = Repo(
        files("cpu/cpu-int4", extra=5000) | files("gpu/gpu-int4") | {"tokenizer.model": b"x" * 50, "LICENSE": b"text"}
    )
    lmsupply("pull", "-q", "a/b:cpu", "a/b:gpu")
    assert lmsupply("rm", "a/b:cpu/cpu-int4").code == 2, "nobody to ask"
    looked = lmsupply("rm", "--dry-run", "a/b:cpu/cpu-int4")
    assert "would be freed" in looked.err
    assert "1 files stay: another installed model shares them" in looked.err
    assert lmsupply("models", "--installed", "-q").out.splitlines() == ["guide", "a/b:cpu/cpu-int4", "a/b:gpu/gpu-int4"]
    gone = lmsupply("rm", "-y", "a/b:cpu/cpu-int4")
    assert gone.code == 0
    assert "kB freed" in gone.err
    assert lmsupply("run", "-m", "a/b:gpu", "--max-tokens", "1", "hello").code == 0
    assert lmsupply("rm", "-y", "a/b:gpu").code == 0
    assert not list((home() / "cache").glob("models--*"))
    for name in ("guide", "phi-3.5", "nope"):
        assert lmsupply("rm", "-y", name).code in (1, 3)
    assert lmsupply("rm").code == 2


def test_verify_and_repair(hub: Hub) -> None:
    lmsupply("pull", "-q", "phi-3.5")
    (data,) = (home() / "cache").glob(f"models--*/snapshots/*/{CPU}/model.onnx.data")
    (license_file,) = (home() / "cache").glob("models--*/snapshots/*/LICENSE")
    good = lmsupply("verify")
    assert (good.code, good.out) == (0, "phi-3.5: good (7 files)\n")
    raw = bytearray(data.read_bytes())
    raw[100] ^= 1
    data.write_bytes(raw)
    license_file.unlink()
    bad = lmsupply("verify", "--json")
    assert bad.code == 1
    (model,) = bad.json["models"]
    reasons = {f["path"]: f["reason"] for f in model["files"] if not f["ok"]}
    assert reasons == {f"{CPU}/model.onnx.data": "changed: its digest is another one", "LICENSE": "missing"}
    hub.requests.clear()
    assert lmsupply("verify", "--repair", "phi-3.5").code == 0
    assert len(hub.of("cdn")) == 1, "only the bad files"
    assert lmsupply("verify").code == 0


def test_a_local_folder_gets_a_name(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    assert lmsupply("add", folder, "--alias", "Mine").code == 0
    assert lmsupply("run", "mine", "--max-tokens", "1", "hello").code == 0
    assert "mine" in lmsupply("models", "--installed", "-q").out.split()
    for alias, said in (
        ("mine", "is already the name of a model"),
        ("phi-3.5", "is already the name of a model"),
        ("a b", "not a name"),
    ):
        result = lmsupply("add", folder, "--alias", alias)
        assert result.code == 2
        assert said in result.err
    assert lmsupply("add", tmp_path, "--alias", "x").code == 1
    removed = lmsupply("rm", "-y", "mine")
    assert "its files stay" in removed.err
    assert (folder / "model.onnx").exists()


def test_models_of_other_tools_are_used_in_place(hub: Hub, tmp_path: Path) -> None:
    """What the Hub's own client fetched, with its links; an incomplete one is none."""
    cache = tmp_path / "hf" / "hub"
    program = f"from huggingface_hub import snapshot_download as get; get({PHI!r}, cache_dir={str(cache)!r}, allow_patterns={CPU + '/*'!r})"
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    environ = {"HF_HOME": str(tmp_path / "hf")}
    row = next(
        r for r in lmsupply("models", "--installed", "--json", **environ).json["models"] if r["ref"] == "phi-3.5"
    )
    assert row["external"]
    assert lmsupply("run", "phi-3.5", "--max-tokens", "1", "hello", **environ).code == 0
    refused = lmsupply("rm", "-y", "phi-3.5", **environ)
    assert refused.code == 2
    assert "belongs to another tool" in refused.err
    (data,) = cache.glob(f"models--*/snapshots/*/{CPU}/model.onnx.data")
    data.resolve().write_bytes(b"short")
    assert lmsupply("models", "--installed", "-q", **environ).out == "guide\n"
    assert lmsupply("run", "phi-3.5", "hello", **environ).code == 3


def wait_for_part(parts: Path, size: int) -> Path:
    """The part that has `size` bytes, as soon as it has."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for part in parts.glob("*.part"):
            with contextlib.suppress(FileNotFoundError):  # it became a file
                if part.stat().st_size >= size:
                    return part
    raise AssertionError("the pull never came that far")


def test_killed_at_any_byte_it_goes_on(hub: Hub) -> None:
    """kill -9 in the middle; the next pull asks for the rest only."""
    hub.repos[PHI] = Repo(files(CPU, extra=3_000_000))
    hub.faults = [Fault("cdn", "stall", "model.onnx.data", after=1_500_000, silent_s=20)]
    with subprocess.Popen([sys.executable, "-m", "lmsupply_cli", "pull", "-q", "phi-3.5"]) as process:
        part = wait_for_part(home() / "cache" / ".lmsupply" / "parts", 1_400_000)
        process.send_signal(signal.SIGKILL)
    have = part.stat().st_size
    assert lmsupply("models", "--installed", "-q").out == "guide\n"
    hub.requests.clear()
    assert lmsupply("pull", "-q", "phi-3.5").code == 0
    assert [r.range for r in hub.of("cdn", "model.onnx.data")] == [f"bytes={have}-"]
    assert lmsupply("verify").code == 0
    assert lmsupply("rm", "--partial", "-y").code == 0


def test_ctrl_c_waits_for_no_server_and_keeps_the_part(hub: Hub) -> None:
    hub.repos[PHI] = Repo(files(CPU, extra=3_000_000))
    hub.faults = [Fault("cdn", "stall", "model.onnx.data", after=1_500_000, silent_s=25)]
    command = [sys.executable, "-m", "lmsupply_cli", "pull", "-q", "phi-3.5"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        part = wait_for_part(home() / "cache" / ".lmsupply" / "parts", 1_400_000)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == 130  # the server stays silent for longer
        assert process.stderr is not None
        assert process.stderr.read() == b""
    assert part.stat().st_size >= 1_400_000
    assert "would be freed" in lmsupply("rm", "--partial", "--dry-run").err


def test_two_pulls_at_once_both_end_well(hub: Hub) -> None:
    hub.repos[PHI] = Repo(files(CPU, extra=1_000_000))
    hub.faults = [Fault("cdn", "stall", "model.onnx.data", after=500_000)]
    command = [sys.executable, "-m", "lmsupply_cli", "pull", "phi-3.5"]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while not hub.of("cdn", "model.onnx.data"):
        assert first.poll() is None
    second = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    said = second.communicate(timeout=60)[1]
    first.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (0, 0)
    assert "another lmsupply is working on" in said
    starts = [r for r in hub.of("cdn", "model.onnx.data") if r.range == ""]
    assert len(starts) == 1, "fetched once"


def test_offline_asks_nobody(hub: Hub) -> None:
    for arguments, environ in ((["--offline"], {}), ([], {"HF_HUB_OFFLINE": "1"}), ([], {"LMSUPPLY_OFFLINE": "yes"})):
        result = lmsupply("pull", *arguments, "phi-3.5", **environ)
        assert result.code == 3
        assert "offline" in result.err
    assert hub.requests == []


def test_models_filters_combine(hub: Hub) -> None:
    def refs(*arguments: str) -> list[str]:
        return lmsupply("models", "-q", *arguments).out.split()

    assert (
        refs("--license", "mit", "--license", "APACHE-2.0", "--family", "qwen", "--sort", "parameters")[0]
        == "qwen2.5-0.5b"
    )
    assert set(refs("--role", "default")) == {"phi-4-mini", "qwen3-4b", "qwen3-1.7b", "qwen3-0.6b"}
    assert refs("--license-tier", "research") == ["qwen2.5-3b"]
    assert "gpt-oss-20b" in refs()
    assert refs("--family", "phi", "mini-4k") == ["phi-3-mini-4k"]
    sizes = [r["size_bytes"] for r in lmsupply("models", "--json", "--sort", "size").json["models"] if r["size_bytes"]]
    assert sizes == sorted(sizes)
    assert lmsupply("models", "--sort", "color").code == 2
    fits = {r["ref"]: r["fits"] for r in lmsupply("models", "--json").json["models"]}
    assert fits["guide"] is True
    assert fits["qwen2.5-7b"] is None, "its size is not known"
    assert set(refs("--fits")) == {ref for ref, value in fits.items() if value}


def test_the_user_adds_entries_to_the_catalogue(hub: Hub) -> None:
    own = home() / "config" / "models.toml"
    own.parent.mkdir(parents=True)
    own.write_text(
        '[licenses.House]\ntier = "conditional"\nrestrictions = "for us only"\n\n[[model]]\nref = "house"\nrepo = "someone/house"\n'
        'family = "llama"\nparameters = 1.0\ncontext_length = 512\nlicense = "House"\n'
    )
    hub.repos["someone/house"] = Repo(files("", "llama"))
    assert "house" in lmsupply("models", "-q").out.split()
    refused = lmsupply("pull", "house")
    assert refused.code == 5
    assert "for us only" in refused.err
    assert lmsupply("pull", "house", "--accept-license").code == 0
    own.write_text('[[model]]\nref = "house"\n')
    broken = lmsupply("models")
    assert broken.code == 0
    assert f"{own}:1: model house: no 'repo'" in broken.err


def test_what_is_whole_and_of_no_use_is_said_by_verify(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    assert lmsupply("add", folder, "--alias", "mine").code == 0
    config = (folder / "genai_config.json").read_text()
    changed = config.replace('"llama"', '"nosuc"')
    assert len(changed) == len(config)
    (folder / "genai_config.json").write_text(changed)
    result = lmsupply("verify", "mine")
    assert result.code == 1
    assert "the engine does not know this kind of model" in result.out

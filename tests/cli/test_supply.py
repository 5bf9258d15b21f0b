"""Supply on the command line: pull, show, rm, verify, add, licenses, models, over a Hub on this machine."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
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
    assert "MIT (permissive)" in first.err
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
    assert "using phi-3.5, the only installed model" in bare.err
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
    assert "\ndownload   " in text
    assert f"not        {GPU}: made for gpu" in text
    gpu = lmsupply("pull", "--dry-run", "--json", "--provider", "cuda", "phi-3.5").json
    assert gpu["chosen"]["variant"] == GPU
    assert gpu["chosen"]["reasons"] == ["GPU build", "int4"]
    assert found["chosen"]["reasons"] == ["CPU build", "int4", "the only match"]
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
    assert "LMSUPPLY_ALLOWED_TIERS allows only permissive" in only.err
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
        f"variant       {CPU} · ",
        f"not chosen    {GPU} · ",
        "made for gpu",
    ):
        assert text in result.out
    assert lmsupply("show", "phi-3.5", "--license").out == "MIT License\nfor all\n"
    offline = lmsupply("show", "phi-3.5", "--offline")
    assert "source        catalogue (offline)" in offline.out
    assert "approximate   gpu size" in offline.out
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
    refused = lmsupply("rm", "a/b:cpu/cpu-int4")
    assert refused.code == 2
    assert "error: can't ask for confirmation: input is not a terminal\nhint: use -y" in refused.err
    looked = lmsupply("rm", "--dry-run", "a/b:cpu/cpu-int4")
    assert "would be freed" in looked.err
    assert "1 file is kept: another installed model shares it" in looked.err
    assert lmsupply("models", "--installed", "-q").out.splitlines() == ["guide", "a/b:cpu/cpu-int4", "a/b:gpu/gpu-int4"]
    gone = lmsupply("rm", "-y", "a/b:cpu/cpu-int4")
    assert gone.code == 0
    assert "kB freed" in gone.err
    assert lmsupply("run", "-m", "a/b:gpu", "--max-tokens", "1", "hello").code == 0
    assert lmsupply("rm", "-y", "a/b:gpu").code == 0
    assert not list((home() / "cache").glob("models--*"))
    for name, code in (("guide", 2), ("phi-3.5", 3), ("nope", 1)):
        assert lmsupply("rm", "-y", name).code == code
    assert lmsupply("rm").code == 2


def test_verify_and_repair(hub: Hub) -> None:
    lmsupply("pull", "-q", "phi-3.5")
    (data,) = (home() / "cache").glob(f"models--*/snapshots/*/{CPU}/model.onnx.data")
    (license_file,) = (home() / "cache").glob("models--*/snapshots/*/LICENSE")
    good = lmsupply("verify")
    assert (good.code, good.out) == (0, "phi-3.5: ok (7 files)\n")
    raw = bytearray(data.read_bytes())
    raw[100] ^= 1
    data.write_bytes(raw)
    license_file.unlink()
    bad = lmsupply("verify", "--json")
    assert bad.code == 1
    (model,) = bad.json["models"]
    reasons = {f["path"]: f["reason"] for f in model["files"] if not f["ok"]}
    assert reasons == {f"{CPU}/model.onnx.data": "changed: its checksum differs", "LICENSE": "missing"}
    hub.requests.clear()
    assert lmsupply("verify", "--repair", "phi-3.5").code == 0
    assert len(hub.of("cdn")) == 1, "only the bad files"
    assert lmsupply("verify").code == 0


def test_a_local_folder_gets_a_name(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    assert lmsupply("add", folder, "--alias", "Mine").code == 0
    assert lmsupply("run", "mine", "--max-tokens", "1", "hello").code == 0
    assert "mine" in lmsupply("models", "--installed", "-q").out.split()
    other = Path(shutil.copytree(MODELS / "llama", tmp_path / "other"))
    for name, said in (
        ("mine", "there is already a model called mine"),
        ("phi-3.5", "there is already a model called phi-3.5"),
        ("a b", "not a valid model name"),
    ):
        for words in ((name,), ("--alias", name)):
            result = lmsupply("add", other, *words)
            assert result.code == 2
            assert said in result.err
    assert lmsupply("add", other, "x", "--alias", "y").code == 2
    assert lmsupply("add", tmp_path, "x").code == 1


def test_adding_a_folder_again_and_by_its_own_name(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "My model"))
    assert lmsupply("add", folder).err.startswith(f"added my-model: {folder}; ")
    for again in (folder, folder / "model.onnx", folder / "genai_config.json"):
        result = lmsupply("add", again)
        assert (result.code, result.err) == (0, f"my-model is already added: {folder}\n")
    assert lmsupply("add", folder, "second").code == 0
    assert lmsupply("models", "--installed", "-q").out == "guide\nmy-model\nsecond\n"


@pytest.mark.parametrize(
    ("name", "said", "hint"),
    [
        ("My modle", "no such folder: ", "did you mean {0}/My model?"),
        ("elsewhere/x", "no such folder: ", "check the path; a model folder contains genai_config.json"),
        ("note.txt", "is a file, not a model folder", "name a folder that contains genai_config.json"),
    ],
)
def test_adding_what_is_no_model_folder(tmp_path: Path, name: str, said: str, hint: str) -> None:
    (tmp_path / "My model").mkdir()
    (tmp_path / "note.txt").write_text("x")
    result = lmsupply("add", tmp_path / name)
    assert result.code == 1
    assert said in result.err
    assert f"hint: {hint.format(tmp_path)}\n" in result.err


def test_removing_an_added_folder_keeps_its_files_and_asks_nothing(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    lmsupply("add", folder)
    line = f"unregister mine (files in {folder} are kept)\n"
    assert lmsupply("rm", "mine", "--dry-run").err == line + "0 B would be freed\n"
    removed = lmsupply("rm", "mine")
    assert (removed.code, removed.err) == (0, line)
    assert (folder / "model.onnx").exists()
    assert lmsupply("models", "--installed", "-q").out == "guide\n"


@pytest.mark.parametrize("command", ["rm", "verify"])
def test_what_is_not_installed_is_not_offered_for_download(command: str) -> None:
    result = lmsupply(command, "phi-4")
    assert (result.code, result.err) == (
        3,
        "error: phi-4 is not installed\nhint: lmsupply models --installed lists the installed models\n",
    )


def test_nothing_unfinished_is_removed_without_a_question() -> None:
    result = lmsupply("rm", "--partial")
    assert (result.code, result.err) == (0, "no unfinished downloads\n")


def test_a_pull_in_a_pipe_says_one_line_before_and_one_after(hub: Hub) -> None:
    first, last = lmsupply("pull", "phi-3.5").err.splitlines()
    assert first == f"phi-3.5: {CPU} (CPU build, int4, the only match), 83.2 kB, MIT (permissive)"
    assert re.fullmatch(r"phi-3\.5 installed: 83\.2 kB in \d+\.\ds \([\d.]+ .?B/s\)", last)
    again = lmsupply("pull", "phi-3.5")
    assert (again.code, again.err) == (0, "phi-3.5 is up to date\n")
    assert lmsupply("pull", "-q", "phi-3.5").output == ""


def test_files_of_another_installed_model_are_not_downloaded(hub: Hub) -> None:
    hub.repos["a/same"] = Repo(files(CPU))
    lmsupply("pull", "-q", "phi-3.5")
    hub.requests.clear()
    assert "a/same installed: " in lmsupply("pull", "a/same").err
    assert hub.of("cdn") == []


@pytest.mark.parametrize(
    "words", [("pull", "phi-3.5"), ("run", "-m", "phi-3.5", "--pull", "hello"), ("pull", "--json", "phi-3.5")]
)
def test_a_precision_that_the_repo_does_not_have_is_refused(hub: Hub, words: tuple[str, ...]) -> None:
    result = lmsupply(*words, "--precision", "fp16")
    assert result.code == 2
    assert (
        "error: the repo has no fp16 variant for cpu\nhint: it has int4; --precision auto picks the best" in result.err
    )
    assert hub.of("cdn") == []
    named = lmsupply("pull", "phi-3.5", "--variant", "cpu", "--precision", "fp16")
    assert named.code == 2


def test_a_precision_of_the_settings_ranks_first_and_no_more(hub: Hub) -> None:
    result = lmsupply("pull", "phi-3.5", LMSUPPLY_PRECISION="fp16")
    assert result.code == 0
    assert "int4 (no fp16 variant)" in result.err
    hub.repos["a/two"] = Repo(files("cpu-int4") | files("cpu-fp16"))
    for wanted in ({"LMSUPPLY_PRECISION": "fp16"}, {}):
        flag = () if wanted else ("--precision", "fp16")
        plan = lmsupply("pull", "--dry-run", "--json", "a/two", *flag, **wanted).json
        assert plan["chosen"]["variant"] == "cpu-fp16"


def test_search_finds_what_runs_here(hub: Hub) -> None:
    hub.repos[PHI].downloads = 1234
    hub.repos["a/phi-npu"] = Repo(files("npu/qnn-int4"), downloads=5)
    hub.repos["a/phi-gated"] = Repo(files(""), downloads=7, gated=True)
    hub.repos["a/phi-several"] = Repo(files("phi-a/cpu-int4") | files("phi-b/cpu-int4"), downloads=6)
    hub.repos |= {f"js/phi-{n}": Repo({"onnx/model.onnx": b"x"}, downloads=9000) for n in range(9)}
    found = lmsupply("search", "Phi", "--json").json
    assert list(found) == ["schema", "models", "skipped"]
    assert [(m["ref"], m["repo"], m["downloads"]) for m in found["models"]] == [
        ("phi-3.5", PHI, 1234), ("a/phi-gated", "a/phi-gated", 7), ("a/phi-several", "a/phi-several", 6),
    ]  # fmt: skip
    first, gated, several = found["models"]
    assert (first["variant"], first["precision"], first["size_bytes"]) == (CPU, "int4", 83187)
    assert first["license"]["id"] == "MIT"
    assert not first["installed"]
    assert "is gated" in gated["reason"]
    assert "several models" in several["reason"]
    assert [row["repo"] for row in found["skipped"]] == ["a/phi-npu"]
    assert hub.of("cdn") == []
    assert [m["repo"] for m in lmsupply("search", "phi", "--limit", "1", "--json").json["models"]] == [PHI]
    lmsupply("pull", "-q", "phi-3.5")
    table = lmsupply("search", "phi")
    assert table.out.splitlines()[1].split() == [PHI, "83.2", "kB", "1,234", "MIT", "installed"]
    assert "1 more does not run here: a/phi-npu" in table.err
    assert lmsupply("search", "phi-npu").err == "none of the models that match 'phi-npu' runs here: a/phi-npu\n"


def test_search_without_results_and_without_the_hub(hub: Hub) -> None:
    nothing = lmsupply("search", "zebra")
    assert (nothing.code, nothing.out, nothing.err) == (0, "", "no models on the Hub match 'zebra'\n")
    hub.requests.clear()
    for words, environ in ((("--offline",), {}), ((), {"HF_HUB_OFFLINE": "1"})):
        result = lmsupply("search", "phi", *words, **environ)
        assert result.code == 1
        assert "cannot search the Hub offline" in result.err
    assert hub.requests == []
    assert lmsupply("search").code == 2
    hub.faults = [Fault("search", "body", body=b'{"error": 1}')]
    odd = lmsupply("search", "phi")
    assert odd.code == 1
    assert "the list of models is an object, not a list" in odd.err


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
    command = [sys.executable, "-m", "lmsupply_cli", "pull", "phi-3.5"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        part = wait_for_part(home() / "cache" / ".lmsupply" / "parts", 1_400_000)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == 130  # the server stays silent for longer
        assert process.stderr is not None
        said = process.stderr.read().decode().splitlines()[-1]
        assert re.fullmatch(r"Stopped at 1\.\d of 3\.1 MB\. Run the same command to resume\.", said)
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
    assert said.splitlines()[-1].startswith("phi-3.5 installed: 1.1 MB")
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
    forget_digests()
    result = lmsupply("verify", "mine")
    assert result.code == 1
    assert "the engine does not know this kind of model" in result.out


def forget_digests() -> None:
    """As an earlier version recorded an added folder."""
    (record,) = (home() / "cache" / ".lmsupply" / "manifests").glob("local-*.json")
    record.write_text(re.sub(r'"digest": "[^"]*"', '"digest": ""', record.read_text()))


def test_verify_finds_a_changed_byte_of_an_added_folder(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    lmsupply("add", folder)
    assert lmsupply("verify").out == "mine: ok (6 files)\n"
    raw = bytearray((folder / "model.onnx.data").read_bytes())
    raw[100] ^= 1
    (folder / "model.onnx.data").write_bytes(raw)
    for repair in ((), ("--repair",)):
        bad = lmsupply("verify", *repair)
        assert (bad.code, bad.out) == (1, "mine: changed (6 files)\n  model.onnx.data: changed: its checksum differs\n")
        note = "note: lmsupply can't repair mine, because it is your own folder\n" if repair else ""
        assert bad.err == f"{note}hint: lmsupply add {folder} mine updates its checksums\n"
    assert lmsupply("add", folder).err == f"mine is already added: {folder}; updated the recorded checksums\n"
    assert lmsupply("verify").code == 0


def test_verify_says_where_it_compared_only_sizes(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    lmsupply("add", folder)
    forget_digests()
    result = lmsupply("verify")
    assert (result.code, result.out) == (0, "mine: ok (6 files, only sizes compared)\n")
    assert result.err == f"hint: lmsupply add {folder} mine records its checksums\n"
    assert not any(file["hashed"] for file in lmsupply("verify", "--json").json["models"][0]["files"])
    lmsupply("add", folder)
    assert lmsupply("verify").output == "mine: ok (6 files)\n"


def test_pulling_an_added_folder_says_that_it_is_one(hub: Hub, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    lmsupply("add", folder)
    result = lmsupply("pull", "mine")
    assert result.code == 2
    assert result.err.startswith(f"error: mine is a folder that you added: {folder}\n")
    assert hub.requests == []


def test_the_built_in_model_is_neither_removed_nor_replaced(tmp_path: Path) -> None:
    removed = lmsupply("rm", "-y", "guide")
    assert (removed.code, removed.err.splitlines()[0]) == (2, "error: guide is built in and comes with lmsupply")
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    for words in (("guide",), ("--name", "guide")):
        taken = lmsupply("add", folder, *words)
        assert taken.code == 2
        assert taken.err.endswith(f"hint: choose another name: lmsupply add {folder} NAME\n")
    lmsupply("add", folder)
    other = lmsupply("add", Path(shutil.copytree(folder, tmp_path / "other")), "mine")
    assert other.err.endswith("or remove that one: lmsupply rm mine\n")


@pytest.mark.parametrize(
    ("environ", "flag", "cause"),
    [
        ({}, ("--offline",), "--offline"),
        ({"LMSUPPLY_OFFLINE": "1"}, (), "LMSUPPLY_OFFLINE"),
        ({"HF_HUB_OFFLINE": "1"}, (), "HF_HUB_OFFLINE"),
    ],
)
def test_what_keeps_it_offline_is_named(environ: dict[str, str], flag: tuple[str, ...], cause: str) -> None:
    assert lmsupply("pull", "phi-4", *flag, **environ).err.endswith(f"hint: leave out {cause} to pull it\n")
    assert f"leave out {cause}" in lmsupply("search", "phi", *flag, **environ).err


def test_a_precision_that_no_folder_states_is_not_called_missing(hub: Hub) -> None:
    hub.repos["a/plain"] = Repo(files("cpu"))
    assert "(CPU build, precision not stated, the only match)" in lmsupply("pull", "a/plain").err
    refused = lmsupply("pull", "a/plain", "--precision", "int8")
    assert refused.err.endswith("hint: it states no precision; --precision auto picks the best\n")
    unknown = lmsupply("pull", "a/plain", "--precision", "int3")
    assert unknown.err == "error: --precision must be one of auto, int4, int8, fp16, bf16, fp32, not 'int3'\n"


def test_a_precision_chooses_among_installed_variants(hub: Hub, tmp_path: Path) -> None:
    hub.repos["a/two"] = Repo(files("cpu-int4") | files("cpu-int8"))
    lmsupply("pull", "-q", "a/two", "--precision", "int8")
    ask = ("run", "-m", "a/two", "--json", "--max-tokens", "1", "hi")
    assert lmsupply(*ask).json["model"]["precision"] == "int8"
    missing = lmsupply(*ask, "--precision", "int4")
    assert (missing.code, missing.err) == (
        3, "error: a/two is not installed in int4\nhint: lmsupply pull a/two --precision int4\n",
    )  # fmt: skip
    assert lmsupply(*ask, "--precision", "int4", "--pull").json["model"]["precision"] == "int4"
    assert lmsupply(*ask, "--precision", "int8").json["model"]["precision"] == "int8"
    assert lmsupply(*ask, LMSUPPLY_PRECISION="fp16").code == 0, "a preference for pulls"
    folder = Path(shutil.copytree(MODELS / "llama", tmp_path / "mine"))
    local = lmsupply("run", "-m", folder, "--precision", "int8", "hi")
    assert local.code == 2
    assert "--precision int8 chooses what is downloaded, but " in local.err


def test_an_added_folder_that_is_gone_can_be_unregistered(toy: Path, tmp_path: Path) -> None:
    shutil.copytree(toy, tmp_path / "gone")
    lmsupply("add", tmp_path / "gone")
    shutil.rmtree(tmp_path / "gone")
    lost = lmsupply("run", "-m", "gone", "hi")
    assert lost.code == 3
    assert "the folder of gone is missing" in lost.err
    assert "lmsupply rm gone unregisters it" in lost.err
    assert lmsupply("rm", "gone", "-y").code == 0
    assert "not found" in lmsupply("run", "-m", "gone", "hi").err

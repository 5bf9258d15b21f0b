"""Models of the Hub without an ONNX variant: which file is chosen and why, what is downloaded, kept and imported."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import lmsupply
from support.gguf_files import model_metadata, write_gguf
from support.hub import Fault, Hub, Repo, local_hub
from support.tiny_imports import repo_files, vocabulary, write_tiny_gguf, write_tiny_safetensors

SHORT = ("--max-tokens", "2")
REPO = "someone/Tiny-1B-GGUF"
KINDS = {"Q4_K_M": "Q4_1", "Q8_0": "Q8_0", "Q4_0": "Q4_0", "F16": "F16"}  # by name → what the file really holds


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for name, kind in KINDS.items():
        write_tiny_gguf(folder / f"Tiny-1B-{name}.gguf", kind)
    write_tiny_safetensors(folder / "tuned")
    return folder


@pytest.fixture
def hub(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        files = {path.name: path.read_bytes() for path in made.glob("*.gguf")}
        more = {"mmproj-Tiny-1B-F16.gguf": b"GGUF" * 1000, "README.md": b"# Tiny", "LICENSE": b"the terms\n"}
        hub.repos[REPO] = Repo(files | more)
        hub.repos["a/tuned"] = Repo(repo_files(made / "tuned") | {"LICENSE": b"the terms\n"}, license="apache-2.0")
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def home() -> Path:
    return Path(os.environ["LMSUPPLY_HOME"])


def imports() -> list[str]:
    return sorted(path.name for path in (home() / "cache" / ".lmsupply" / "imported").glob("*"))


def downloaded() -> list[str]:
    """Files of repos in the store, parts too."""
    found = [*(home() / "cache").glob("models--*/**/*"), *(home() / "cache" / ".lmsupply" / "parts").glob("*")]
    return sorted(path.name for path in found if path.is_file())


def test_the_plan(hub: Hub) -> None:
    text = lmsupply("pull", REPO, "--dry-run").out
    for line in (
        f"model       {REPO} from {REPO} at {hub.repos[REPO].commit[:12]}",
        "source      gguf q4_k_m: the usual compromise of size and quality",
        "precision   exact (its quantized weights are carried over as they are)",
        "not chosen  q8_0: Q4_K_M is preferred",
        "license     MIT (permissive)",
        "file        Tiny-1B-Q4_K_M.gguf  68.6 kB",
        "download    68.6 kB of 68.6 kB, removed after the import",
        "write       about 101 kB",
    ):
        assert f"{line}\n" in text
    assert "mmproj" not in text
    found = lmsupply("pull", REPO, "--dry-run", "--json").json
    assert list(found) == [
        "schema", "model", "chosen", "rejected", "files", "fetch_bytes", "free_disk_bytes", "license", "import", "obstacles",
    ]  # fmt: skip
    assert found["chosen"] == {
        "variant": "q4_k_m", "provider": "cpu", "precision": "int4",
        "reasons": ["the usual compromise of size and quality"],
    }  # fmt: skip
    assert [row["variant"] for row in found["rejected"]] == ["q4_0", "q8_0", "f16"]
    assert [file["path"] for file in found["files"]] == ["Tiny-1B-Q4_K_M.gguf", "LICENSE"]
    assert (found["import"]["format"], found["import"]["precision"], found["import"]["keep_source"]) == (
        "gguf",
        "exact",
        False,
    )
    assert "download    68.6 kB of 68.6 kB, kept\n" in lmsupply("pull", REPO, "--dry-run", "--keep-source").out
    assert not (home() / "cache" / ".lmsupply").exists()


def test_the_whole_road(hub: Hub) -> None:
    first, last = lmsupply("pull", REPO).err.splitlines()
    assert first == (
        f"{REPO}: gguf q4_k_m (the usual compromise of size and quality), downloads 68.6 kB, imported without loss "
        "(about 101 kB, 75.1 MB in memory), MIT (permissive)"
    )
    assert last.startswith(f"{REPO} installed: 68.6 kB in ")
    assert last.endswith(", imported as exact: 111 kB")
    assert downloaded() == []
    assert not any("mmproj" in request.path for request in hub.of("cdn"))
    result = lmsupply("run", "-m", REPO, "hi", "--json", *SHORT, HF_ENDPOINT="http://127.0.0.1:9")
    assert result.json["model"] == {
        "ref": REPO, "repo": REPO, "commit": hub.repos[REPO].commit, "variant": "q4_k_m", "provider": "cpu", "precision": "int4",
    }  # fmt: skip
    again = lmsupply("pull", REPO)
    assert (again.code, again.err) == (0, f"{REPO} is up to date\n")
    shown = lmsupply("show", REPO, "--json").json
    assert (shown["import"]["kept"], shown["import"]["kinds"]) == (False, {"Q4_1": 15, "F32": 5})
    assert lmsupply("show", REPO, "--license").out == "the terms\n"
    assert lmsupply("models", "--installed", "-q").out == f"guide\n{REPO}\n"
    assert lmsupply("rm", "-y", REPO).code == 0
    assert (imports(), downloaded()) == ([], [])


def test_events(hub: Hub) -> None:
    events = lmsupply("pull", REPO, "--json").json_lines
    assert [event["type"] for event in events if event["type"] != "progress"] == ["plan", "finished"]
    progress = events[1:-1]
    assert list(dict.fromkeys(event["step"] for event in progress)) == ["download", "convert", "read"]
    assert all(event["all_done_bytes"] <= event["all_bytes"] for event in progress)
    assert sum(event["all_done_bytes"] == event["all_bytes"] for event in progress) >= 3
    assert events[-1]["ref"] == REPO
    refused = lmsupply("pull", f"{REPO}:q9", "--json")
    assert (refused.code, refused.json["error"]["code"]) == (2, "usage")


@pytest.mark.parametrize(
    ("words", "variant", "reason", "precision", "stored"),
    [
        ((f"{REPO}:q8_0",), "q8_0", "you asked for it", "exact", "int8"),
        ((f"{REPO}:Q8_0",), "q8_0", "you asked for it", "exact", "int8"),
        ((REPO, "--variant", "q4_0"), "q4_0", "you asked for it", "exact", "int4"),
        ((f"{REPO}:Tiny-1B-Q4_0.gguf",), "q4_0", "you asked for it", "exact", "int4"),
        ((REPO, "--precision", "int8"), "q8_0", "the only one in int8", "exact", "int8"),
        ((REPO, "--precision", "int4"), "q4_k_m", "int4", "exact", "int4"),
        ((REPO, "--precision", "fp16"), "f16", "the only one in fp16", "fp16", "fp16"),
        ((f"{REPO}:f16",), "f16", "you asked for it", "int8", "int8"),
    ],
)
def test_which_file(hub: Hub, words: tuple[str, ...], variant: str, reason: str, precision: str, stored: str) -> None:
    found = lmsupply("pull", *words, "--dry-run", "--json").json
    assert (found["chosen"]["variant"], found["import"]["precision"]) == (variant, precision)
    assert reason in found["chosen"]["reasons"]
    assert lmsupply("pull", *words).code == 0
    named = [f"{REPO}:q4_0"] if "--variant" in words else words
    run = lmsupply("run", "-m", *named, "hi", "--json", *SHORT)
    assert (run.code, run.json["model"]["precision"]) == (0, stored)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ((f"{REPO}:q3_k",), "nothing in the repo matches 'q3_k'"),
        ((f"{REPO}:mmproj",), "nothing in the repo matches 'mmproj'"),
        ((REPO, "--precision", "fp32"), "the repo has no GGUF file in fp32"),
        ((REPO, "--precision", "exact"), "--precision must be one of "),
        ((REPO, "--precision", "bf16"), "--precision bf16 cannot be the precision of an import"),
        (("a/tuned", "--precision", "bf16"), "--precision bf16 cannot be the precision of an import"),
    ],
)
def test_what_is_not_there_is_refused(hub: Hub, words: tuple[str, ...], error: str) -> None:
    result = lmsupply("pull", *words)
    assert (result.code, result.err.startswith(f"error: {error}")) == (2, True)
    assert (imports(), downloaded()) == ([], [])


def test_a_preference_chooses_among_files(hub: Hub) -> None:
    lmsupply("config", "set", "precision", "int8")
    found = lmsupply("pull", REPO, "--dry-run", "--json").json
    assert (found["chosen"]["variant"], found["chosen"]["reasons"]) == ("q8_0", ["int8"])
    assert lmsupply("pull", "a/tuned", "--dry-run", "--json").json["import"]["precision"] == "int8"


def test_safetensors(hub: Hub) -> None:
    plan, last = lmsupply("pull", "a/tuned").err.splitlines()
    assert plan == (
        "a/tuned: safetensors (the repository has neither ONNX nor GGUF), downloads 388 kB, converted to int4 "
        "(about 77.5 kB, 75.1 MB in memory), Apache-2.0 (permissive)"
    )
    assert last.startswith("a/tuned installed: 388 kB in ")
    assert downloaded() == []
    assert lmsupply("run", "-m", "a/tuned", "hi", "--json", *SHORT).json["model"]["precision"] == "int4"
    assert lmsupply("pull", "-q", "a/tuned", "--precision", "fp16").code == 0
    result = lmsupply("run", "-m", "a/tuned", "--precision", "fp16", "hi", "--json", *SHORT)
    assert (result.code, result.json["model"]["precision"]) == (0, "fp16")
    assert len(imports()) == 2


def test_a_run_pulls_and_imports(hub: Hub) -> None:
    missing = lmsupply("run", "-m", REPO, "hi")
    dry = lmsupply("run", "-m", REPO, "--pull", "--dry-run", "hi")
    way = f"hint: lmsupply pull {REPO} --dry-run shows what would be downloaded"
    assert (dry.code, dry.err) == (3, f"error: {REPO} is not installed\n{way}\n")
    assert (imports(), downloaded()) == ([], [])
    assert (missing.code, missing.err) == (3, f"error: {REPO} is not installed\nhint: lmsupply pull {REPO}\n")
    result = lmsupply("run", REPO, "--pull", "hi", "--json", *SHORT)
    assert (result.code, result.json["model"]["variant"]) == (0, "q4_k_m")
    assert "imported without loss" in result.err


def test_the_source_is_kept_if_it_is_wanted(hub: Hub) -> None:
    assert lmsupply("pull", REPO, "--keep-source").code == 0
    assert downloaded() == ["Tiny-1B-Q4_K_M.gguf"]
    assert "\nimported from  GGUF, kept\n" in lmsupply("show", REPO).out
    assert lmsupply("models", "--found").err == "No models of other programs were found.\n"
    assert lmsupply("pull", REPO).err == f"{REPO} is up to date\n"
    assert downloaded() == ["Tiny-1B-Q4_K_M.gguf"]
    assert lmsupply("rm", "-y", REPO).code == 0
    assert (imports(), downloaded()) == ([], [])


def test_keep_source_of_a_model_that_is_used_as_it_is(hub: Hub, toy: Path) -> None:
    hub.repos["a/onnx"] = Repo(repo_files(toy))
    result = lmsupply("pull", "a/onnx", "--keep-source")
    assert (result.code, "--keep-source has no effect" in result.err) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_download_that_is_stopped_goes_on(hub: Hub, tmp_path: Path) -> None:
    data = write_tiny_gguf(tmp_path / "x.gguf", "F32").read_bytes()
    hub.repos["a/big"] = Repo({"big-F32.gguf": data})
    hub.pause = threading.Event()
    hub.faults = [Fault("cdn", "drop", after=300_000), Fault("cdn", "stall", after=200_000, silent_s=60)]
    process = subprocess.Popen(
        [sys.executable, "-m", "lmsupply_cli", "pull", "a/big"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not any(part.stat().st_size >= 100_000 for part in (home() / "cache" / ".lmsupply" / "parts").glob("*")):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    hub.pause.set()
    assert process.returncode == 130
    assert re.search(r"\nStopped at \d+ of 387 kB\. Run the same command to resume\.\n$", err)
    assert imports() == []
    assert "a pull of it was not finished" in lmsupply("run", "-m", "a/big", "hi").err
    resumed = lmsupply("pull", "a/big")
    assert (resumed.code, " already here), converted to int8 (about " in resumed.err) == (0, True)
    assert any(request.range for request in hub.of("cdn"))
    assert downloaded() == []


def test_what_arrives_damaged_is_not_imported(hub: Hub) -> None:
    hub.faults = [Fault("cdn", "corrupt", times=9)]
    result = lmsupply("pull", REPO)
    assert (result.code, "arrived damaged twice" in result.err) == (1, True)
    assert imports() == []
    hub.faults = []
    assert lmsupply("pull", REPO).code == 0
    assert downloaded() == []


def test_terms_are_accepted_before_the_download(hub: Hub) -> None:
    hub.repos[REPO].license = "llama3.2"
    for command in (("pull", REPO), ("run", REPO, "--pull", "hi")):
        refused = lmsupply(*command)
        assert refused.code == 5
        assert f"error: the license of {REPO} is not accepted: Llama-3.2 (conditional)\n" in refused.err
    assert (imports(), downloaded()) == ([], [])
    assert lmsupply("pull", REPO, "--accept-license").code == 0
    assert lmsupply("licenses", "--json").json["accepted"][0]["repo"] == REPO
    assert lmsupply("run", "-m", REPO, "hi", *SHORT).code == 0
    lmsupply("licenses", "--revoke", REPO)
    assert lmsupply("run", "-m", REPO, "hi").code == 5


def test_rules_about_licenses(hub: Hub) -> None:
    hub.repos["a/odd"] = Repo({"x-Q4_0.gguf": hub.repos[REPO].files["Tiny-1B-Q4_0.gguf"]}, license="")
    assert lmsupply("pull", "a/odd").code == 5
    assert lmsupply("pull", "a/odd", "--accept-license").code == 0
    only = {"LMSUPPLY_ALLOWED_TIERS": "permissive"}
    for command in (("pull", "a/odd"), ("run", "-m", "a/odd", "hi"), ("convert", "a/odd", "--precision", "fp16")):
        assert lmsupply(*command, **only).code == 5
    assert lmsupply("pull", REPO, LMSUPPLY_ALLOWED_LICENSES="Apache-2.0").code == 5
    assert lmsupply("pull", "a/tuned", LMSUPPLY_ALLOWED_LICENSES="Apache-2.0").code == 0


def odd_gguf(folder: Path, key: str, value: str) -> bytes:
    return write_tiny_gguf(folder / "odd.gguf", metadata={f"tokenizer.ggml.{key}": value}).read_bytes()


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("a/mamba", 1, "the architecture mamba is not supported"),
        ("a/falcon", 1, "the architecture falcon is not supported"),
        ("a/pickles", 1, "has its weights as PyTorch pickles only, which can run code when they are loaded"),
        ("a/adapter", 1, "a/adapter contains no model"),
        ("a/lacks", 1, "a/lacks lacks parts of q4_0"),
        ("a/several", 2, "the repo holds several models"),
        ("a/damaged", 1, "x-Q4_0.gguf"),
        ("a/bnb", 1, "a/bnb does not run here: config.json: the quantization method bitsandbytes is not supported"),
        ("a/beside", 1, "a/beside does not run here: quantize_config.json is not a JSON object"),
        ("a/weights", 1, "a/weights has its weights in weights.safetensors, "),
        ("a/odd-rules", 1, "a/odd-rules does not run here: x-Q4_0.gguf has an unknown pre-tokenizer: martian"),
        ("a/odd-kind", 1, "has a tokenizer of the kind rwkv, which is not supported"),
        ("a/gated", 5, "a/gated is gated and no token is set"),
        ("a/nowhere", 1, "has no model a/nowhere"),
    ],
)
def test_repos_that_cannot_be_pulled(hub: Hub, tmp_path: Path, name: str, code: int, said: str) -> None:
    good = hub.repos[REPO].files["Tiny-1B-Q4_0.gguf"]
    mamba = write_gguf(tmp_path / "x.gguf", "mamba", model_metadata("llama") | vocabulary(), {}).read_bytes()
    bnb = {"quantization_config": {"quant_method": "bitsandbytes"}}
    tuned = hub.repos["a/tuned"].files
    hub.repos |= {
        "a/bnb": Repo(repo_files(write_tiny_safetensors(tmp_path / "bnb", **bnb))),
        "a/beside": Repo(tuned | {"quantize_config.json": b"[]"}),
        "a/weights": Repo({name.replace("model.s", "weights.s"): data for name, data in tuned.items()}),
        "a/odd-rules": Repo({"x-Q4_0.gguf": odd_gguf(tmp_path, "pre", "martian")}),
        "a/odd-kind": Repo({"x-Q4_0.gguf": odd_gguf(tmp_path, "model", "rwkv")}),
        "a/mamba": Repo({"x-Q4_0.gguf": mamba + bytes(3000)}),
        "a/falcon": Repo(repo_files(write_tiny_safetensors(tmp_path / "falcon", model_type="falcon"))),
        "a/pickles": Repo({"config.json": b"{}", "pytorch_model.bin": bytes(3000)}),
        "a/adapter": Repo({"adapter_model.safetensors": bytes(3000), "adapter_config.json": b"{}"}),
        "a/lacks": Repo({"x-Q4_0-00001-of-00002.gguf": good}),
        "a/several": Repo({"one-Q4_0.gguf": good, "two-Q4_0.gguf": good}),
        "a/damaged": Repo({"x-Q4_0.gguf": b"<html>" * 1000}),
        "a/gated": Repo({"x-Q4_0.gguf": good}, gated=True),
    }
    hub.served = 0
    result = lmsupply("pull", name)
    assert (result.code, said in result.err) == (code, True)
    assert hub.served < 300_000, "only the header was read"
    assert (imports(), downloaded()) == ([], [])
    assert "Traceback" not in result.err


def test_what_is_refused_after_the_download(hub: Hub, tmp_path: Path) -> None:
    """The error names the repo rather than a folder of the store, and says how to free what was fetched."""
    tuned = dict(hub.repos["a/tuned"].files)
    hub.repos["a/damaged"] = Repo(tuned | {"model.safetensors": b"\xff" * 5000})
    result = lmsupply("pull", "a/damaged")
    assert (result.code, "models--" in result.err) == (1, False)
    assert "error: a/damaged: model.safetensors is not a valid safetensors file" in result.err
    assert "download it again" not in result.err
    assert result.err.rstrip().endswith(
        "hint: use another repo, or another file of it; lmsupply rm --partial frees what was downloaded"
    )
    assert "model.safetensors" in downloaded()
    assert lmsupply("rm", "--partial", "-y").code == 0
    assert (imports(), downloaded()) == ([], [])
    to_folder = lmsupply("convert", "a/damaged", "--out", tmp_path / "out")
    assert (to_folder.code, "models--" in to_folder.err, (tmp_path / "out").exists()) == (1, False, False)


def test_a_chat_template_in_a_file_of_its_own(hub: Hub) -> None:
    files = dict(hub.repos["a/tuned"].files)
    del files["chat_template.jinja"]
    hub.repos["a/older"] = Repo(files | {"chat_template.json": b'{"chat_template": "{{ messages }} older"}'})
    assert lmsupply("pull", "-q", "a/older").code == 0
    folder = Path(lmsupply("show", "a/older", "--json").json["path"])
    assert "{{ messages }} older" in (folder / "tokenizer_config.json").read_text()


def test_offline(hub: Hub) -> None:
    for command in (("pull", REPO), ("pull", "a/tuned"), ("run", "-m", REPO, "hi"), ("convert", "a/tuned")):
        assert lmsupply(*command, "--offline").code == 3
    assert hub.requests == []
    lmsupply("pull", REPO)
    hub.requests.clear()
    here = lmsupply("pull", REPO, "--offline")
    assert (here.code, here.err) == (
        0,
        f"{REPO} is installed; lmsupply is offline and did not look for a newer version\n",
    )
    assert lmsupply("run", "-m", REPO, "hi", "--offline", *SHORT).code == 0
    assert lmsupply("pull", REPO, "--offline", "--precision", "fp16").code == 3
    assert hub.requests == []


def damage() -> None:
    (data,) = (home() / "cache" / ".lmsupply" / "imported").glob("*/model.onnx.data")
    data.write_bytes(data.read_bytes()[:-1] + b"?")


@pytest.mark.parametrize("name", [REPO, "a/tuned"])
def test_repair_from_the_hub(hub: Hub, name: str) -> None:
    lmsupply("pull", "-q", name)
    damage()
    bad = lmsupply("verify", name)
    assert (bad.code, "model.onnx.data: changed: its checksum differs" in bad.out) == (1, True)
    offline = lmsupply("verify", "--repair", "--offline")
    assert (offline.code, offline.err) == (1, f"error: cannot repair {name} offline\nhint: leave out --offline\n")
    repaired = lmsupply("verify", "--repair")
    assert (repaired.code, repaired.err) == (0, f"downloading and importing {name} again\n")
    assert (len(imports()), downloaded()) == (1, [])
    assert lmsupply("run", "-m", name, "hi", *SHORT).code == 0


def test_the_same_file_here_and_on_the_hub(hub: Hub, made: Path) -> None:
    lmsupply("add", made / "Tiny-1B-Q4_K_M.gguf", "mine")
    hub.served = 0
    assert lmsupply("pull", REPO).code == 0
    assert len(imports()) == 1
    assert lmsupply("models", "--installed", "-q").out == f"guide\nmine\n{REPO}\n"
    assert lmsupply("rm", "-y", "mine").code == 0
    assert lmsupply("run", "-m", REPO, "hi", *SHORT).code == 0


def test_a_newer_version(hub: Hub, tmp_path: Path) -> None:
    lmsupply("pull", "-q", REPO)
    hub.repos[REPO].files["Tiny-1B-Q4_K_M.gguf"] = write_tiny_gguf(tmp_path / "x.gguf", "Q4_1", seed=7).read_bytes()
    result = lmsupply("pull", REPO)
    assert (result.code, "installed: " in result.err) == (0, True)
    used = lmsupply("run", "-m", REPO, "hi", "--json", *SHORT).json["model"]
    assert used["commit"] == hub.repos[REPO].commit


def test_split_files(hub: Hub, made: Path, tmp_path: Path) -> None:
    """As `gguf-split` writes them: the metadata in the first, the tensors in several."""
    parts = split(tmp_path)
    hub.repos["a/split"] = Repo({name: (tmp_path / name).read_bytes() for name in parts})
    found = lmsupply("pull", "a/split", "--dry-run", "--json").json
    assert [file["path"] for file in found["files"]] == parts
    assert lmsupply("pull", "a/split").code == 0
    assert lmsupply("run", "-m", "a/split", "hi", *SHORT).code == 0
    local = lmsupply("add", tmp_path / parts[1], "local")
    assert local.code == 0
    assert len(imports()) == 1
    (tmp_path / parts[0]).unlink()
    lacks = lmsupply("run", "-m", tmp_path / parts[1], "hi")
    assert (lacks.code, f"{parts[0]} is missing" in lacks.err) == (1, True)


def split(folder: Path) -> list[str]:
    from gguf import GGUFValueType, GGUFWriter
    from support.gguf_files import model_tensors
    from support.tiny_imports import SIZES

    tensors = list(model_tensors("llama", SIZES).items())
    names = [f"big-F32-0000{number}-of-00002.gguf" for number in (1, 2)]
    for number, name in enumerate(names):
        writer = GGUFWriter(folder / name, "llama")
        entries = model_metadata("llama", SIZES) | vocabulary() if number == 0 else {}
        for key, value in entries.items():
            kind = GGUFValueType.UINT32 if type(value) is int else GGUFValueType.get_type(value)
            writer.add_key_value("llama" + key if key.startswith(".") else key, value, kind)
        writer.add_key_value("split.no", number, GGUFValueType.UINT16)
        writer.add_key_value("split.count", 2, GGUFValueType.UINT16)
        writer.add_key_value("split.tensors.count", len(tensors), GGUFValueType.INT32)
        half = len(tensors) // 2
        for tensor, value in tensors[:half] if number == 0 else tensors[half:]:
            writer.add_tensor(tensor, value)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return names

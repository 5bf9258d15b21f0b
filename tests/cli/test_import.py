"""Files of a person's own: run by their path, imported once, found again, refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.cli import Result, lmsupply
from support.gguf_files import key, model_metadata, model_tensors, raw_gguf, text, write_gguf
from support.tiny_imports import SIZES, begun_import, vocabulary, write_tiny_gguf, write_tiny_safetensors

SHORT = ("--max-tokens", "2")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals and limits of POSIX")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that nobody changes."""
    folder = tmp_path_factory.mktemp("made")
    for kind in ("Q4_0", "Q8_0", "F16"):
        write_tiny_gguf(folder / f"tiny-{kind}.gguf", kind)
    write_tiny_gguf(folder / "other.gguf", seed=1)
    write_tiny_safetensors(folder / "tuned")
    return folder


@pytest.fixture
def here(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own with these models, the current one."""
    folder = Path(shutil.copytree(made, tmp_path / "here"))
    monkeypatch.chdir(folder)
    return folder


def store() -> Path:
    return Path(os.environ["LMSUPPLY_HOME"]) / "cache" / ".lmsupply"


def installed() -> list[str]:
    return lmsupply("models", "--installed", "-q").out.split()[1:]


def imports() -> list[str]:
    """Folders of imported models, half ones too."""
    return sorted(path.name for path in (store() / "imported").glob("*"))


def test_a_file_is_imported_when_it_is_first_run(here: Path) -> None:
    first = lmsupply("run", "./tiny-Q4_0.gguf", "hi", "--json", *SHORT)
    assert first.code == 0
    assert first.json["model"] == {
        "ref": "tiny-q4_0", "repo": None, "commit": None, "variant": None, "provider": "cpu", "precision": "int4",
    }  # fmt: skip
    before, after = first.err.splitlines()[:2]
    assert before == (
        f"importing {here / 'tiny-Q4_0.gguf'}: exact (its quantized weights are carried over as they are), about 112 kB, "
        "MIT (permissive)"
    )
    assert after.startswith("imported tiny-q4_0: 93.4 kB in ")
    again = lmsupply("run", "./tiny-Q4_0.gguf", "hi", *SHORT)
    assert again.code == 0
    assert "import" not in again.err
    by_name = lmsupply("run", "tiny-q4_0", "hi", "--json", *SHORT)
    assert by_name.json["model"]["ref"] == "tiny-q4_0"
    assert lmsupply("run", "hi", "--max-tokens", "1").err.startswith("note: using tiny-q4_0, the only installed model")


def test_the_same_content_is_imported_once(here: Path) -> None:
    lmsupply("run", "./tiny-Q4_0.gguf", "--show-prompt", "hi")
    os.utime("tiny-Q4_0.gguf", ns=(1, 1))
    shutil.copyfile("tiny-Q4_0.gguf", "copy.gguf")
    Path("tiny-Q4_0.gguf").rename("moved.gguf")
    for name in ("moved.gguf", "copy.gguf"):
        result = lmsupply("run", f"./{name}", "--show-prompt", "hi")
        assert (result.code, result.err) == (0, "")
    gone = lmsupply("run", "./tiny-Q4_0.gguf", "hi")
    assert (gone.code, gone.err.splitlines()[0]) == (2, "error: no such file: ./tiny-Q4_0.gguf")
    assert installed() == ["tiny-q4_0"]


def test_a_file_with_new_content_is_imported_again(here: Path) -> None:
    lmsupply("add", "./tiny-Q4_0.gguf")
    (old,) = imports()
    shutil.copyfile("other.gguf", "tiny-Q4_0.gguf")
    result = lmsupply("run", "./tiny-Q4_0.gguf", "--show-prompt", "hi")
    assert (result.code, "imported tiny-q4_0:" in result.err) == (0, True)
    (new,) = imports()
    assert new != old
    assert installed() == ["tiny-q4_0"]


@pytest.mark.parametrize("name", ["./tuned", "tuned"])
def test_a_folder_of_safetensors(here: Path, name: str) -> None:
    added = lmsupply("add", name)
    assert added.code == 0
    assert (
        added.err.splitlines()[0]
        == f"importing {here / 'tuned'}: int4 (quantized from F32), about 145 kB, no license stated"
    )
    result = lmsupply("run", "./tuned", "hi", "--json", *SHORT)
    assert (result.code, result.json["model"]["ref"], result.json["model"]["precision"]) == (0, "tuned", "int4")
    part = lmsupply("run", "./tuned/model.safetensors", "hi")
    assert (part.code, part.err.splitlines()[0]) == (2, "error: ./tuned/model.safetensors is a part of a model")


@pytest.mark.parametrize(
    "spelled",
    ["./a b/My (1).gguf", "a b/My (1).gguf", "{here}/a b/My (1).gguf", "~/a b/My (1).gguf", "../here/a b/My (1).gguf"],
)
def test_paths(here: Path, spelled: str) -> None:
    (here / "a b").mkdir()
    shutil.copyfile("tiny-Q4_0.gguf", "a b/My (1).gguf")
    for _ in range(2):
        result = lmsupply("run", spelled.format(here=here), "--show-prompt", "hi", HOME=str(here))
        assert (result.code, result.out) == (0, "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    assert installed() == ["my-1"]


def test_a_bare_file_name_and_a_link(here: Path) -> None:
    Path("link.gguf").symlink_to("tiny-Q4_0.gguf")
    assert lmsupply("run", "link.gguf", "--show-prompt", "hi").code == 0
    assert lmsupply("run", "tiny-Q4_0.gguf", "--show-prompt", "hi").err == ""
    assert installed() == ["link"]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("run", "{}", "hi"), 2), (("run", "{}"), 2), (("run", "-m", "{}", "hi"), 1), (("show", "{}"), 1),
        (("verify", "{}"), 1), (("rm", "{}"), 1), (("use", "{}"), 1), (("add", "{}"), 1), (("convert", "{}"), 1),
        (("pull", "{}"), 1),
    ],
)  # fmt: skip
def test_a_mistyped_file_is_no_such_file(here: Path, command: tuple[str, ...], code: int) -> None:
    for name in ("./tinny-Q4_0.gguf", "tinny-Q4_0.gguf"):
        result = lmsupply(*(word.format(name) for word in command))
        assert (result.code, result.out) == (code, "")
        error, hint = result.err.splitlines()
        assert error == f"error: no such file: {name}"
        assert hint.startswith("hint: did you mean tiny-Q4_0.gguf?")
    assert not store().exists()


def test_a_mistyped_folder_of_a_file_is_not_taken_for_a_repo(here: Path) -> None:
    result = lmsupply("run", "-m", "nowhere/tiny.gguf", "hi", HF_ENDPOINT="http://127.0.0.1:9")
    assert (result.code, result.err) == (1, "error: no such file: nowhere/tiny.gguf\nhint: check the path\n")
    assert lmsupply("convert", "nowhere/tiny.gguf", HF_ENDPOINT="http://127.0.0.1:9").err == result.err


def test_a_prompt_about_a_file_is_a_prompt(here: Path) -> None:
    for words in (
        ("what is model.gguf",),
        ("what", "is", "tiny-Q4_0.gguf"),
        ("--", "tiny-Q4_0.gguf"),
        ("-p", "x.gguf"),
    ):
        result = lmsupply("run", "-m", "guide", "--show-prompt", *words)
        assert (result.code, "gguf" in result.out) == (0, True)
    assert "gguf" in lmsupply("run", "--show-prompt", "what is model.gguf").out
    assert not store().exists()


@pytest.mark.parametrize(
    ("command", "what"),
    [
        (("run", "", "hi"), "the first argument"), (("run", "-m", "", "hi"), "--model"), (("add", ""), "PATH"),
        (("convert", ""), "SOURCE"), (("add", "x.gguf", "--name", ""), "--name"), (("convert", "x", "--out", ""), "--out"),
        (("convert", "x", "--precision", ""), "--precision"), (("add", "x", "--block-size", ""), "--block-size"),
    ],
)  # fmt: skip
def test_an_unset_variable(command: tuple[str, ...], what: str) -> None:
    result = lmsupply(*command)
    assert (result.code, result.err) == (2, f"error: {what} is empty\nhint: is a variable unset?\n")


def test_names(here: Path) -> None:
    assert lmsupply("add", "./tiny-Q4_0.gguf", "--name", "Mine").err.endswith(
        "added mine; chat with it: lmsupply chat mine\n"
    )
    assert lmsupply("add", "./tiny-Q4_0.gguf", "mine").err.startswith("mine is already added: ")
    second = lmsupply("add", "./tiny-Q4_0.gguf", "--name", "second")
    assert (second.code, second.err) == (0, "added second; chat with it: lmsupply chat second\n")
    assert (installed(), len(imports())) == (["mine", "second"], 1)
    for words, said in (
        (("--name", "mine"), "there is already a model called mine"),
        (("--name", "guide"), "there is already a model called guide"),
        (("--name", "phi-4-mini"), "there is already a model called phi-4-mini"),
        (("--name", "a/b"), "'a/b' is not a valid model name"),
        (("one", "--name", "two"), "two names: one and two"),
    ):
        refused = lmsupply("add", "./other.gguf", *words)
        assert (refused.code, refused.err.splitlines()[0]) == (2, f"error: {said}")
    assert len(imports()) == 1


def test_a_name_that_another_model_has_gets_a_number(here: Path) -> None:
    (here / "elsewhere").mkdir()
    shutil.copyfile("other.gguf", "elsewhere/tiny-Q4_0.gguf")
    lmsupply("add", "./tiny-Q4_0.gguf")
    lmsupply("add", "./elsewhere/tiny-Q4_0.gguf")
    shutil.copyfile("tiny-Q8_0.gguf", "phi-4.gguf")
    lmsupply("add", "./phi-4.gguf")
    assert installed() == ["phi-4-2", "tiny-q4_0", "tiny-q4_0-2"]


def test_another_form_of_a_model_gets_its_precision(here: Path) -> None:
    for precision in ("int4", "int8", "fp16", "int8"):
        assert lmsupply("add", "./tuned", "--precision", precision).code == 0
    lmsupply("add", "./tuned", "--precision", "int8", "--block-size", "64")
    assert installed() == ["tuned", "tuned-2", "tuned-fp16", "tuned-int8"]
    assert lmsupply("run", "tuned-fp16", "hi", "--json", *SHORT).json["model"]["precision"] == "fp16"
    assert lmsupply("rm", "-y", "tuned").err.startswith("remove tuned ")
    assert installed() == ["tuned-2", "tuned-fp16", "tuned-int8"]


def test_a_dry_run_says_what_an_import_takes(here: Path) -> None:
    shown = lmsupply("add", "./tiny-Q4_0.gguf", "--dry-run")
    rows = [line.split(maxsplit=1) for line in shown.out.splitlines()]
    assert (shown.code, shown.err) == (0, "")
    assert rows[0] == ["model", "tiny-q4_0"]
    assert rows[1] == ["source", f"{here / 'tiny-Q4_0.gguf'}, 62.7 kB, kept"]
    for line in (
        "license       MIT (permissive)",
        "precision     exact (its quantized weights are carried over as they are)",
        "source types  Q4_0 (15), F32 (5)",
        "stored as     4 bits, block 32, exact (15 weights)",
        "context       256 tokens",
        "write         about 112 kB",
    ):
        assert f"{line}\n" in shown.out
    found = lmsupply("add", "./tiny-Q4_0.gguf", "--name", "mine", "--dry-run", "--json").json["import"]
    assert (found["ref"], found["out"], found["installed"]) == ("mine", None, False)
    assert found["source"] == {"path": str(here / "tiny-Q4_0.gguf"), "size_bytes": 62720, "kept": True}
    assert (found["format"], found["precision"], found["block_size"]) == ("gguf", "exact", None)
    assert (found["kinds"], found["forms"]) == ({"Q4_0": 15, "F32": 5}, {"4 bits, block 32, exact": 15, "fp32": 5})
    assert found["license"]["id"] == "MIT"
    assert (imports(), installed()) == ([], [])
    lmsupply("add", "./tiny-Q4_0.gguf")
    assert lmsupply("add", "./tiny-Q4_0.gguf", "--dry-run").out.startswith(
        "model         tiny-q4_0, already imported\n"
    )


def test_a_dry_run_of_an_answer_imports_nothing(here: Path) -> None:
    for words in (("run", "./tiny-Q4_0.gguf", "--dry-run"), ("chat", "./tiny-Q4_0.gguf", "--dry-run")):
        result = lmsupply(*words)
        assert (result.code, result.err) == (
            3,
            "error: ./tiny-Q4_0.gguf is not imported yet\n"
            "hint: lmsupply add ./tiny-Q4_0.gguf --dry-run shows what importing it takes\n",
        )
    assert imports() == []
    lmsupply("add", "./tiny-Q4_0.gguf")
    assert lmsupply("run", "./tiny-Q4_0.gguf", "--dry-run").out.startswith("model        tiny-q4_0\n")


def test_a_precision_that_an_import_cannot_have(here: Path) -> None:
    refused = lmsupply("run", "./tiny-Q4_0.gguf", "hi", "--precision", "int8")
    assert (refused.code, refused.err) == (
        2,
        "error: ./tiny-Q4_0.gguf cannot be imported in int8: its quantized weights are carried over as they are, since "
        "more bits would not make them more exact\n"
        "hint: leave out --precision; it will be stored in int4\n",
    )
    assert imports() == []
    dequantized = lmsupply("run", "./tiny-Q4_0.gguf", "hi", "--precision", "fp16", "--json", *SHORT)
    assert (dequantized.code, dequantized.json["model"]["precision"]) == (0, "fp16")
    required = lmsupply("run", "-m", "./tuned", "hi", "--precision", "int8", *SHORT)
    assert "int8 (as requested)" in required.err
    assert lmsupply("rm", "-y", *installed()).code == 0
    result = lmsupply("run", "./tiny-F16.gguf", "hi", "--precision", "fp16", "--json", *SHORT)
    assert (result.code, result.json["model"]["precision"]) == (0, "fp16")
    assert lmsupply("run", "./tiny-F16.gguf", "hi", "--json", *SHORT).json["model"]["precision"] == "fp16"
    assert len(imports()) == 1


def test_import_as_json(here: Path) -> None:
    result = lmsupply("add", "./tiny-F16.gguf", "--json")
    events = result.json_lines
    assert (result.code, result.err) == (0, "")
    assert {event["type"] for event in events} == {"progress", "finished"}
    steps = [event["step"] for event in events[:-1]]
    assert sorted(set(steps)) == ["convert", "read"]
    assert all(event["all_done_bytes"] <= event["all_bytes"] for event in events[:-1])
    assert events[-1]["ref"] == "tiny-f16"
    assert Path(events[-1]["path"]).parent == store() / "imported"
    failed = lmsupply("add", "./unknown.gguf", "--json")
    assert failed.json["error"] == {
        "code": "model_not_found",
        "message": "no such file: ./unknown.gguf",
        "hint": "check the path",
    }


def test_the_default_model(here: Path) -> None:
    early = lmsupply("use", "./tiny-Q4_0.gguf")
    assert (early.code, early.err) == (
        3,
        "error: ./tiny-Q4_0.gguf is not imported yet\nhint: lmsupply add ./tiny-Q4_0.gguf imports it\n",
    )
    lmsupply("add", "./tiny-Q4_0.gguf", "mine")
    lmsupply("add", "./other.gguf")
    assert lmsupply("use", "./tiny-Q4_0.gguf").out == "mine (the setting default_model)\n"
    assert lmsupply("run", "hi", "--json", "--max-tokens", "1", cwd=here.parent).json["model"]["ref"] == "mine"
    lmsupply("config", "set", "default_model", str(here / "tiny-Q8_0.gguf"))
    first = lmsupply("run", "hi", "--json", "--max-tokens", "1")
    assert ("imported tiny-q8_0" in first.err, first.json["model"]["ref"]) == (True, "tiny-q8_0")


def test_classify_and_batches(here: Path) -> None:
    chosen = lmsupply("classify", "./tiny-Q4_0.gguf", "--choices", "yes,no", "is it so?")
    assert chosen.code == 0
    assert chosen.out.strip() in ("yes", "no")
    assert "imported tiny-q4_0" in chosen.err
    Path("prompts.jsonl").write_text('{"prompt": "one"}\n{"prompt": "two"}\n')
    answers = lmsupply("run", "./tiny-Q8_0.gguf", "--batch", "prompts.jsonl", *SHORT)
    assert (answers.code, "imported tiny-q8_0" in answers.err) == (0, True)
    assert [row["model"]["ref"] for row in answers.json_lines] == ["tiny-q8_0"] * 2


def test_quiet_narrow_and_plain(here: Path) -> None:
    assert lmsupply("run", "-q", "./tiny-Q4_0.gguf", "--show-prompt", "hi").err == ""
    narrow = lmsupply("add", "./tiny-Q8_0.gguf", "--dry-run", COLUMNS="60", NO_COLOR="1")
    assert "\x1b" not in narrow.output
    assert lmsupply("models", "--installed", COLUMNS="60", NO_COLOR="1").out.splitlines()[2].split()[:2] == [
        "tiny-q4_0",
        "imported",
    ]


@POSIX
def test_a_pipe_that_closes(here: Path) -> None:
    command = f"{sys.executable} -m lmsupply_cli run ./tiny-Q4_0.gguf hi --stream-json; echo $? >&2"
    done = subprocess.run(
        ["bash", "-c", f"({command}) | head -1"], capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL
    )
    assert done.stdout.startswith('{"schema": 2, "type": "start"')
    assert done.stderr.splitlines()[-1] == "0"
    assert "imported tiny-q4_0" in done.stderr


def test_rules_about_licenses(here: Path) -> None:
    only = {"LMSUPPLY_ALLOWED_TIERS": "permissive"}
    refused = lmsupply("add", "./tuned", **only)
    assert (refused.code, refused.err) == (
        5,
        "error: tuned: no license stated, and LMSUPPLY_ALLOWED_TIERS allows only permissive\n"
        "hint: add unknown to LMSUPPLY_ALLOWED_TIERS to allow models that state no license\n",
    )
    assert imports() == []
    assert lmsupply("convert", "./tuned", "--out", "out", **only).code == 5
    assert not Path("out").exists()
    lmsupply("add", "./tuned")
    assert lmsupply("run", "./tuned", "hi", **only).code == 5
    assert lmsupply("run", "./tiny-Q4_0.gguf", "--show-prompt", "hi", **only).code == 0
    assert lmsupply("run", "./tiny-Q8_0.gguf", "hi", LMSUPPLY_ALLOWED_LICENSES="Apache-2.0").code == 5
    assert (
        lmsupply("run", "--show-prompt", "hi", **only).err
        == "note: using tiny-q4_0, the only installed model that is allowed\n"
    )


@pytest.mark.parametrize(
    ("stated", "label"),
    [
        ("llama3.2", "Llama-3.2 (conditional)"),
        (None, "no license stated"),
        ("evil \x1b[1m\nlicense", "evil \\x1b[1m\\x0alicense (unknown)"),
        ("x" * 5000, f"{'x' * 100}… (unknown)"),
    ],
)
def test_the_license_is_the_one_that_the_file_states(here: Path, stated: str | None, label: str) -> None:
    write_tiny_gguf(here / "stated.gguf", metadata={"general.license": stated})
    result = lmsupply("add", "./stated.gguf")
    assert (result.code, result.err.splitlines()[0].endswith(f", {label}")) == (0, True)
    assert f"license        {label}\n" in lmsupply("show", "stated", COLUMNS="200").out


def test_show(here: Path) -> None:
    lmsupply("add", "./tiny-Q4_0.gguf")
    shown = lmsupply("show", "./tiny-Q4_0.gguf", COLUMNS="200").out
    assert shown.startswith("model          tiny-q4_0\n")
    for line in (
        "imported from  GGUF, kept",
        "imported as    exact",
        "source types   Q4_0 (15), F32 (5)",
        "stored as      4 bits, block 32, exact (15 weights)",
    ):
        assert f"\n{line}\n" in shown
    assert f"{here / 'tiny-Q4_0.gguf'}, 62.7 kB, sha256:" in shown
    found = lmsupply("show", "tiny-q4_0", "--json").json
    assert (found["size_bytes"], found["context_length"], found["license"]["id"]) == (93352, 256, "MIT")
    (row,) = lmsupply("models", "tiny", "--json").json["models"]
    wanted = sum(tensor.size for tensor in model_tensors("llama", SIZES).values())
    assert (found["parameters"], row["parameters"]) == (wanted, wanted)
    record = next((store() / "manifests").glob("*.json"))
    kept = json.loads(record.read_text())
    del kept["source"]["parameters"]  # as an earlier version wrote it
    record.write_text(json.dumps(kept))
    assert lmsupply("show", "tiny-q4_0", "--json").json["parameters"] is None
    (source,) = found["import"].pop("files")
    assert (source["path"], source["size_bytes"]) == (str(here / "tiny-Q4_0.gguf"), 62720)
    assert found["import"] == {
        "format": "gguf", "kept": True, "precision": "exact", "block_size": None, "kinds": {"Q4_0": 15, "F32": 5},
        "forms": {"4 bits, block 32, exact": 15, "fp32": 5},
    }  # fmt: skip
    early = lmsupply("show", "./tiny-Q8_0.gguf")
    assert (early.code, early.err.splitlines()[0]) == (3, "error: ./tiny-Q8_0.gguf is not imported yet")


def damage() -> None:
    (data,) = (store() / "imported").glob("*/model.onnx.data")
    raw = bytearray(data.read_bytes())
    raw[100] ^= 1
    data.write_bytes(raw)


@pytest.mark.parametrize(("name", "ref"), [("tiny-Q4_0.gguf", "tiny-q4_0"), ("tuned", "tuned")])
def test_verify_and_repair(here: Path, name: str, ref: str) -> None:
    lmsupply("add", name)
    assert lmsupply("verify").out == f"{ref}: ok (5 files)\n"
    damage()
    bad = lmsupply("verify", f"./{name}")
    assert (bad.code, bad.out) == (1, f"{ref}: damaged (5 files)\n  model.onnx.data: changed: its checksum differs\n")
    assert bad.err == "hint: lmsupply verify --repair imports damaged models again\n"
    repaired = lmsupply("verify", "--repair")
    assert (repaired.code, repaired.out) == (0, f"{ref}: ok (5 files)\n")
    assert repaired.err == f"importing {ref} again from {here / name}\n"
    assert (lmsupply("verify").code, len(imports())) == (0, 1)
    assert lmsupply("run", ref, "hi", *SHORT).code == 0
    damage()
    (here / name).rename(here / "elsewhere")
    gone = lmsupply("verify", "--repair")
    assert gone.code == 1
    assert f"error: {ref} can't be imported again: " in gone.err
    assert f"is gone\nhint: put it back, or remove the model: lmsupply rm {ref}\n" in gone.err


def test_rm(here: Path) -> None:
    lmsupply("add", "./tiny-Q4_0.gguf", "one")
    lmsupply("add", "./tiny-Q4_0.gguf", "two")
    lmsupply("add", "./tuned")
    asked = lmsupply("rm", "one")
    assert (asked.code, "can't ask for confirmation" in asked.err) == (2, True)
    first = lmsupply("rm", "-y", "one")
    assert first.err.endswith("5 files are kept: another installed model shares them\n0 B freed\n")
    assert lmsupply("run", "two", "hi", *SHORT).code == 0
    assert "93.4 kB would be freed" in lmsupply("rm", "--dry-run", "./tiny-Q4_0.gguf").err
    second = lmsupply("rm", "-y", "./tiny-Q4_0.gguf", "tuned")
    assert f"(imported from {here / 'tiny-Q4_0.gguf'}, which is kept)" in second.err
    assert f"(imported from {here / 'tuned'}, which is kept)" in second.err
    assert (installed(), imports()) == ([], [])
    assert sorted(path.name for path in here.iterdir()) == ["other.gguf", "tiny-F16.gguf", "tiny-Q4_0.gguf", "tiny-Q8_0.gguf", "tuned"]  # fmt: skip
    never = lmsupply("rm", "-y", "./tiny-Q4_0.gguf")
    assert (never.code, never.err.splitlines()[0]) == (3, "error: ./tiny-Q4_0.gguf is not imported yet")


# files that cannot be imported


def cut(size: int) -> Callable[[Path], Path]:
    return lambda folder: raw(folder, (folder / "tiny-Q4_0.gguf").read_bytes()[:size])


def raw(folder: Path, data: bytes) -> Path:
    (folder / "bad.gguf").write_bytes(data)
    return folder / "bad.gguf"


def patched(folder: Path, after: bytes, skip: int, form: str, value: int) -> Path:
    data = bytearray((folder / "tiny-Q4_0.gguf").read_bytes())
    struct.pack_into(form, data, data.find(after) + len(after) + skip, value)
    return raw(folder, bytes(data))


def other_weights(folder: Path, **values: np.ndarray | None) -> Path:
    weights = model_tensors("llama", SIZES) | {name.replace("__", "."): value for name, value in values.items()}
    kept = {name: value for name, value in weights.items() if value is not None}
    return write_gguf(folder / "bad.gguf", "llama", model_metadata("llama", SIZES) | vocabulary(), kept)


def tuned(folder: Path, name: str, change: Callable[[bytes], bytes | None]) -> Path:
    """The folder of safetensors with another file, or without it."""
    file = folder / "tuned" / name
    data = change(file.read_bytes())
    if data is None:
        file.unlink()
    else:
        file.write_bytes(data)
    return folder / "tuned"


NAN = np.full((64, 64), np.nan, np.float32)
Q = b"blk.0.attn_q.weight"
BAD: list[tuple[Callable[[Path], Path], str]] = [
    (cut(0), "is not a GGUF file"),
    (cut(100), "is too short for its header"),
    (cut(1000), "is too short for 343 entries of tokenizer.ggml.tokens"),
    (cut(40_000), "ends before the tensor blk.0.ffn_up.weight does"),
    (lambda f: raw(f, b"hello world" * 20), "is not a GGUF file"),
    (lambda f: raw(f, b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n"), "is a pointer of Git LFS"),
    (lambda f: raw(f, raw_gguf(version=1)), "has version 1 of GGUF"),
    (lambda f: raw(f, raw_gguf(counts=(2**60, 2**60))), "claims to have 1152921504606846976 keys"),
    (lambda f: raw(f, raw_gguf([key("general.architecture", "text", text("mamba"))])), "the architecture mamba is not supported"),
    (lambda f: raw(f, raw_gguf([key("general.architecture", "text", text("\x1b[2Jx\n"))])), "the architecture \\x1b[2Jx\\x0a is not"),
    (lambda f: patched(f, Q, 20, "<I", 99), "blk.0.attn_q.weight in a quantization that is not known (type 99)"),
    (lambda f: patched(f, Q, 24, "<Q", 2**62), "ends before the tensor blk.0.attn_q.weight does"),
    (lambda f: patched(f, Q, 4, "<Q", 2**40), "ends before the tensor blk.0.attn_q.weight does"),
    (lambda f: patched(f, b"blk.1", -1, "<B", ord("0")), "twice"),
    (lambda f: other_weights(f, blk__0__attn_q__weight=NAN), "contains NaN or infinity"),
    (lambda f: other_weights(f, blk__1__ffn_up__weight=None), "the tensor blk.1.ffn_up.weight is missing"),
    (lambda f: other_weights(f, blk__0__attn_q__weight=NAN[:, :32] * 0), "is 64 × 32; the config says 64 × 64"),
    (lambda f: write_tiny_gguf(f / "bad.gguf", metadata={".block_count": 2**31 - 1}), "20 tensors for 2147483647 layers"),
    (lambda f: write_tiny_gguf(f / "bad.gguf", metadata={".attention.head_count": 0}), "head_count is 0"),
    (lambda f: write_tiny_gguf(f / "bad.gguf", metadata={"tokenizer.ggml.pre": "new"}), "has an unknown pre-tokenizer: new"),
    (lambda f: write_tiny_gguf(f / "bad.gguf", metadata={"tokenizer.ggml.model": "rwkv"}), "a tokenizer of the kind rwkv"),
    (lambda f: write_tiny_safetensors(f / "tuned", model_type="falcon"), "the architecture falcon is not supported"),
    (lambda f: write_tiny_safetensors(f / "tuned", num_hidden_layers=3), "model.layers.2.input_layernorm.weight is missing"),
    (lambda f: write_tiny_safetensors(f / "tuned", hidden_size="x"), "hidden_size is not a whole number"),
    (lambda f: write_tiny_safetensors(f / "tuned", quantization_config={"quant_method": "x"}), "the quantization method x is not"),
    (lambda f: tuned(f, "config.json", lambda _: b"{"), "config.json is not valid JSON"),
    (lambda f: tuned(f, "config.json", lambda _: None), "cannot be imported: it has no config.json"),
    (lambda f: tuned(f, "model.safetensors", lambda data: data[:-100]), "model.safetensors is not a valid safetensors file"),
    (lambda f: tuned(f, "model.safetensors", lambda data: b"\xff" * 7 + b"\x0f" + data[8:]), "is not a valid safetensors file"),
    (lambda f: tuned(f, "model.safetensors", lambda _: b"version https://git-lfs.github.com/spec/v1\n"), "is a pointer of Git LFS"),
    (lambda f: tuned(f, "tokenizer.json", lambda _: None), "has no tokenizer that can be used"),
    (lambda f: tuned(f, "tokenizer.json", lambda _: b"{"), "its tokenizer cannot be used"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "said"), BAD, ids=[said for _, said in BAD])
def test_what_cannot_be_imported_is_one_line(here: Path, make: Callable[[Path], Path], said: str) -> None:
    place = make(here)
    result = lmsupply("run", "-q", "-m", place, "hi")
    assert (result.code, result.out) == (1, "")
    error, *hint = result.err.splitlines()
    assert error.startswith("error: ")
    assert said in error
    assert str(place) in error
    assert len(hint) <= 1
    assert (installed(), imports()) == ([], [])


def test_folders_that_hold_several_models_or_none(here: Path) -> None:
    several = lmsupply("run", "-m", here, "hi")
    assert (several.code, several.err) == (
        2,
        f"error: {here} holds several models\nhint: name one file: other.gguf, tiny-F16.gguf, tiny-Q4_0.gguf, tiny-Q8_0.gguf\n",
    )
    for number in range(20):
        (here / f"part-{number:02}.gguf").write_bytes(b"GGUF")
    assert lmsupply("run", "-m", here, "hi").err.endswith("part-04.gguf, part-05.gguf, part-06.gguf … (24 files)\n")
    (here / "empty").mkdir()
    for command in (("add", "empty"), ("run", "-m", "./empty", "hi")):
        result = lmsupply(*command)
        assert (result.code, "contains no genai_config.json" in result.err) == (1, True)
    assert lmsupply("convert", "empty").err.startswith("error: empty contains no model to import\n")
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        shutil.copyfile(here / "tuned" / "model.safetensors", here / "tuned" / name)
    assert lmsupply("run", "-m", "./tuned", "hi", *SHORT).code == 0  # model.safetensors counts
    (here / "tuned" / "model.safetensors").rename(here / "tuned" / "other.safetensors")
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (here / "tuned" / name).rename(here / "tuned" / name.replace("model", "third"))
    assert "only an adapter: other.safetensors, third-00001" in lmsupply("run", "-m", "./tuned", "hi").err


def test_a_template_that_fails_is_replaced_with_a_note(here: Path) -> None:
    write_tiny_gguf(here / "evil.gguf", metadata={"tokenizer.chat_template": "{{ ''.__class__.__mro__ }}"})
    result = lmsupply("run", "./evil.gguf", "hi", *SHORT)
    assert (result.code, "the model's chat template fails" in result.err) == (0, True)


# kill, wait, full disks


@POSIX
@pytest.mark.parametrize(("stop", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_an_import_that_is_stopped_leaves_no_model(here: Path, tmp_path: Path, stop: signal.Signals, code: int) -> None:
    process = begun_import(tmp_path, "run", "./tiny-Q4_0.gguf", "hi", *SHORT)
    process.send_signal(stop)
    out, err = process.communicate()
    assert (process.returncode, out) == (code, "")
    assert "Traceback" not in err
    listed = lmsupply("models", "--installed")
    assert "tiny-q4_0 " not in listed.out
    assert ("an unfinished import left" in listed.err) == (stop == signal.SIGKILL)
    assert len(imports()) == (stop == signal.SIGKILL)
    again = lmsupply("run", "./tiny-Q4_0.gguf", "hi", *SHORT)
    assert (again.code, "imported tiny-q4_0" in again.err) == (0, True)
    assert lmsupply("models", "--installed").err == ""
    assert lmsupply("verify").code == 0


@POSIX
def test_what_a_killed_import_left_can_be_removed(here: Path, tmp_path: Path) -> None:
    process = begun_import(tmp_path, "add", "./tiny-Q4_0.gguf", "--name", "mine")
    process.kill()
    process.communicate()
    assert "remove an unfinished import of mine: " in lmsupply("rm", "--partial", "--dry-run").err
    assert lmsupply("rm", "--partial", "-y").code == 0
    assert imports() == []
    assert lmsupply("rm", "--partial").err == "no unfinished downloads\n"


@POSIX
def test_what_a_killed_import_left_is_forgotten_when_another_name_gets_the_model(here: Path, tmp_path: Path) -> None:
    process = begun_import(tmp_path, "add", "./tiny-Q4_0.gguf", "--name", "mine")
    process.kill()
    process.communicate()
    lmsupply("add", "./tiny-Q4_0.gguf", "--name", "other")
    assert lmsupply("models", "--installed").err == ""


@POSIX
def test_two_imports_of_one_file_at_once(here: Path, tmp_path: Path) -> None:
    first = begun_import(tmp_path, "add", "./tiny-Q4_0.gguf", "--name", "one")
    second = subprocess.Popen(
        [sys.executable, "-m", "lmsupply_cli", "add", "./tiny-Q4_0.gguf", "--name", "two"],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert second.stderr
    assert second.stderr.readline().startswith("importing ")
    assert second.stderr.readline() == "note: another lmsupply is importing two; waiting for it\n"
    (tmp_path / "go").touch()
    assert (first.wait(60), second.wait(60)) == (0, 0)
    first.communicate()
    second.communicate()
    assert (installed(), len(imports())) == (["one", "two"], 1)
    assert lmsupply("verify").code == 0


@POSIX
def test_a_disk_that_becomes_full_on_the_way(here: Path) -> None:
    command = f"ulimit -f 20; {sys.executable} -m lmsupply_cli"
    for words in ("run ./tiny-F16.gguf hi", "convert ./tiny-F16.gguf --out new/out"):
        done = subprocess.run(
            ["bash", "-c", f"{command} {words}"], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert (done.returncode, done.stdout) == (1, "")
        error = done.stderr.splitlines()[-2]
        assert error.startswith("error: cannot write ")
        assert error.endswith("model.onnx.data: File too large")
    assert (installed(), imports()) == ([], [])
    assert list((here / "new").iterdir()) == []


# models of other programs


def test_models_of_other_programs_run_by_their_names(here: Path, tmp_path: Path) -> None:
    home = tmp_path / "user"
    own = {"HOME": str(home), "USERPROFILE": str(home), "OLLAMA_MODELS": str(home / ".ollama" / "models")}
    lm_studio = home / ".lmstudio" / "models" / "someone" / "Tiny-GGUF" / "Tiny-Q8_0.gguf"
    lm_studio.parent.mkdir(parents=True)
    shutil.copyfile("tiny-Q8_0.gguf", lm_studio)
    blob = put_into_ollama(home / ".ollama" / "models", Path("tiny-Q4_0.gguf").read_bytes())

    def run(*words: str) -> Result:
        return lmsupply(*words, **own)

    table = [line.split("  ")[0] for line in run("models", "--found").out.splitlines()[:-1]]
    assert table == ["MODEL", "lmstudio:someone/Tiny-GGUF:q8_0", "ollama:tiny:latest"]
    rows = run("models", "--found", "--json").json["models"]
    assert [(row["ref"], row["program"], row["installed"]) for row in rows] == [
        ("lmstudio:someone/Tiny-GGUF:q8_0", "LM Studio", False), ("ollama:tiny:latest", "Ollama", False),
    ]  # fmt: skip
    assert run("models", "--found", "-q", "studio").out == "lmstudio:someone/Tiny-GGUF:q8_0\n"
    first = run("run", "ollama:tiny", "hi", "--json", *SHORT)
    assert (first.code, first.json["model"]["ref"]) == (0, "ollama:tiny:latest")
    assert first.err.startswith("importing ollama:tiny:latest: exact (")
    again = run("run", "-m", "OLLAMA:tiny:latest", "--show-prompt", "hi")
    assert (again.code, again.err) == (0, "")
    assert run("run", "lmstudio:someone/Tiny-GGUF:q8_0", "--show-prompt", "hi").code == 0
    assert run("models", "--found").out.count(" imported") == 2
    assert run("add", "ollama:tiny", "--name", "mine").err == "added mine; chat with it: lmsupply chat mine\n"
    assert run("rm", "-y", "ollama:tiny").err.startswith("remove ollama:tiny:latest ")
    assert run("run", "mine", "--show-prompt", "hi").code == 0
    damage_of("mine", own)
    assert run("verify", "--repair", "mine").code == 0
    assert run("convert", "ollama:tiny", "--out", "out").code == 0
    for name in ("ollama:nope", "lmstudio:nope/x", "hf:a/b"):
        for command, code in (
            (("run", name, "hi"), 1),
            (("add", name), 1),
            (("convert", name), 1),
            (("show", name), 1),
        ):
            result = run(*command)
            assert (result.code, result.err.splitlines()[0]) == (code, f"error: there is no {name} on this machine")
    (home / ".ollama" / "models" / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "latest").write_text("{")
    assert "error: ollama:tiny:latest cannot be used: " in run("run", "ollama:tiny:latest", "hi").err
    assert blob.exists()


def put_into_ollama(models: Path, data: bytes) -> Path:
    import hashlib
    import json

    digest = hashlib.sha256(data).hexdigest()
    blob, manifest = models / "blobs" / f"sha256-{digest}", models / "manifests/registry.ollama.ai/library/tiny/latest"
    for file in (blob, manifest):
        file.parent.mkdir(parents=True)
    blob.write_bytes(data)
    layer = {"mediaType": "application/vnd.ollama.image.model", "digest": f"sha256:{digest}", "size": len(data)}
    manifest.write_text(json.dumps({"layers": [layer]}))
    return blob


def damage_of(name: str, own: dict[str, str]) -> None:
    data = Path(lmsupply("show", name, "--json", **own).json["path"]) / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1] + b"?")

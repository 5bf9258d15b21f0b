"""Conversions: what the weights become, into the store or into a folder, from this machine or from the Hub."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.cli import lmsupply
from support.hub import Hub, Repo, local_hub
from support.tiny_imports import begun_import, repo_files, write_tiny_gguf, write_tiny_safetensors

from lmsupply_cli.errors import HubError
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.loading.sourcing import SourceImport, fetch_and_convert, plan_model
from lmsupply_cli.store.plan import ROOM_BYTES

SHORT = ("--max-tokens", "2")
POSIX = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    for kind in ("Q4_0", "Q4_1", "Q8_0", "F16"):
        write_tiny_gguf(folder / f"tiny-{kind}.gguf", kind)
    write_tiny_safetensors(folder / "tuned")
    return folder


@pytest.fixture
def here(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(made, tmp_path / "here"))
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def hub(made: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        hub.repos["a/tuned"] = Repo(repo_files(made / "tuned") | {"LICENSE": b"the terms\n"}, license="apache-2.0")
        ggufs = {name: (made / name).read_bytes() for name in ("tiny-Q4_0.gguf", "tiny-Q8_0.gguf")}
        hub.repos["a/both"] = Repo(repo_files(made / "tuned") | ggufs)
        hub.repos["a/gguf"] = Repo(ggufs)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def imports() -> list[str]:
    return sorted(path.name for path in (store() / "imported").glob("*"))


def store() -> Path:
    return Path(os.environ["LMSUPPLY_HOME"]) / "cache" / ".lmsupply"


def plan(*words: str) -> Any:
    result = lmsupply("convert", *words, "--dry-run", "--json")
    assert result.code == 0, result.err
    return result.json["import"]


def forms(*words: str) -> set[str]:
    """What the matrices become, without what stays a float."""
    return {form for form in plan(*words)["forms"] if form != "fp32"}


Q4, Q4_1, Q8 = "4 bits, block 32, exact", "4 bits, block 32, exact with corrections", "8 bits, block 32, exact"


@pytest.mark.parametrize(
    ("source", "wish", "precision", "matrices"),
    [
        ("./tiny-Q4_0.gguf", "", "exact", {Q4}),
        ("./tiny-Q4_0.gguf", "exact", "exact", {Q4}),
        ("./tiny-Q4_0.gguf", "int4", "exact", {Q4}),
        ("./tiny-Q4_0.gguf", "int8", "exact", {Q4}),
        ("./tiny-Q4_0.gguf", "fp16", "fp16", {"fp16"}),
        ("./tiny-Q4_0.gguf", "fp32", "fp32", set()),
        ("./tiny-Q4_1.gguf", "", "exact", {Q4_1}),
        ("./tiny-Q8_0.gguf", "", "exact", {Q8}),
        ("./tiny-Q8_0.gguf", "int8", "exact", {Q8}),
        ("./tiny-F16.gguf", "", "int8", {"8 bits, block 32, quantized"}),
        ("./tiny-F16.gguf", "exact", "exact", set()),
        ("./tiny-F16.gguf", "fp16", "fp16", {"fp16"}),
        ("./tuned", "int8", "int8", {"8 bits, block 32, quantized"}),
        ("./tuned", "exact", "exact", set()),
        ("./tuned", "fp16", "fp16", {"fp16"}),
        ("./tuned", "fp32", "fp32", set()),
    ],
)
def test_what_the_weights_become(here: Path, source: str, wish: str, precision: str, matrices: set[str]) -> None:
    words = (source, *(["--precision", wish] if wish else []))
    assert (plan(*words)["precision"], forms(*words)) == (precision, matrices)


@pytest.mark.parametrize(
    "words", [("./tuned",), ("./tuned", "--precision", "int4"), ("./tiny-Q8_0.gguf", "--precision", "int4")]
)
def test_four_bits(here: Path, words: tuple[str, ...]) -> None:
    found = plan(*words)
    assert (found["precision"], found["block_size"]) == ("int4", 32 if words[0] == "./tuned" else None)
    assert found["forms"]["4 bits, block 32, quantized"] > 0
    assert set(found["forms"]) <= {"4 bits, block 32, quantized", "8 bits, block 32, quantized", "8 bits, block 32, exact", "fp32"}  # fmt: skip


def test_bits_that_would_add_nothing_are_said(here: Path) -> None:
    for kind, wish, why in (
        (
            "Q4_0",
            "int8",
            "its quantized weights are carried over as they are, since more bits would not make them more exact",
        ),
        ("Q4_0", "int4", "its weights are int4 already, and are carried over as they are"),
        ("Q8_0", "int8", "its weights are int8 already, and are carried over as they are"),
        ("Q4_0", "exact", "as requested"),
        ("Q4_0", "fp32", "as requested"),
    ):
        assert plan(f"./tiny-{kind}.gguf", "--precision", wish)["reason"] == why


def test_quantized_weights_are_quantized_again_only_with_a_block_size(here: Path) -> None:
    found = plan("./tiny-Q4_0.gguf", "--precision", "int4", "--block-size", "64")
    assert (found["precision"], found["block_size"]) == ("int4", 64)
    assert found["notes"] == ["its quantized weights are quantized again, in blocks of 64, which loses quality"]
    assert found["forms"]["4 bits, block 64, quantized"] > 0


@pytest.mark.parametrize(("size", "blocks"), [("32", {32}), ("64", {32, 64}), ("128", {32, 64})])
def test_block_sizes(here: Path, size: str, blocks: set[int]) -> None:
    """The inputs are 64 and 96: of a larger block the largest part that divides them."""
    for words in (("./tuned", "--precision", "int8"), ("./tiny-F16.gguf",)):
        found = plan(*words, "--block-size", size)
        assert found["block_size"] == int(size)
        quantized = [form for form in found["forms"] if "quantized" in form]
        assert {int(form.split("block ")[1].split(",")[0]) for form in quantized} == blocks


@pytest.mark.parametrize(
    ("words", "error", "hint"),
    [
        (("./tuned", "--precision", "q4"), "--precision can't be 'q4' here", "use one of exact, int4, int8, fp16, fp32"),
        (("./tuned", "--precision", "auto"), "--precision can't be 'auto' here", "use one of exact, int4, int8, fp16, fp32"),
        (("./tuned", "--block-size", "96"), "--block-size can't be 96", "use one of 32, 64, 128"),
        (("./tuned", "--block-size", "16"), "--block-size must be a whole number from 32 to 128, not '16'", ""),
        (("./tuned", "--block-size", "x"), "--block-size must be a whole number from 32 to 128, not 'x'", ""),
        *(
            (
                (source, *(["--precision", p] if p else []), "--block-size", "64"),
                f"--block-size has no effect with --precision {p or 'exact'}",
                "it is for weights that are quantized here: --precision int4",
            )
            for source, p in (("./tuned", "fp16"), ("./tuned", "fp32"), ("./tuned", "exact"), ("./tiny-Q4_0.gguf", ""))
        ),
        (("./tuned", "--keep-source"), "--keep-source is for models on the Hub", "files on this machine are never removed"),
        (("./tuned", "--out", "x", "--name", "y"), "--out and --name can't be combined", "use one of them"),
        (("./tuned", "--name", "guide"), "there is already a model called guide", "choose another name"),
    ],
)  # fmt: skip
def test_what_is_refused(here: Path, words: tuple[str, ...], error: str, hint: str) -> None:
    result = lmsupply("convert", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err == f"error: {error}\n" + (f"hint: {hint}\n" if hint else "")
    assert imports() == []


def test_the_setting_precision_is_a_preference(here: Path) -> None:
    lmsupply("config", "set", "precision", "fp16")
    assert plan("./tuned")["precision"] == "fp16"
    assert plan("./tiny-F16.gguf")["precision"] == "fp16"
    assert plan("./tiny-Q4_0.gguf")["precision"] == "exact"
    assert plan("./tuned", "--precision", "int8")["precision"] == "int8"
    refused = lmsupply("convert", "./tuned", "--block-size", "64", "--dry-run")
    assert "has no effect with the setting precision = fp16\n" in refused.err


def test_into_the_store(here: Path) -> None:
    result = lmsupply("convert", "./tuned", "--precision", "int8", "--block-size", "64", "--name", "mine")
    assert result.code == 0
    first, second, last = result.err.splitlines()
    assert first.startswith(f"importing {here / 'tuned'}: int8 (as requested), about ")
    assert first.endswith(" kB, no license stated")
    assert second.startswith("imported mine: ")
    assert last == "Chat with it: lmsupply chat mine"
    assert lmsupply("convert", "./tuned", "--precision", "int8", "--block-size", "64").err.startswith(
        "mine is converted already: "
    )
    shown = lmsupply("show", "mine").out
    assert "\nimported as    int8, block 64\n" in shown
    assert lmsupply("run", "mine", "hi", "--json", *SHORT).json["model"]["precision"] == "int8"
    already = lmsupply("convert", lmsupply("show", "mine", "--json").json["path"])
    assert (already.code, "is already in ONNX GenAI format" in already.err) == (1, True)


@pytest.mark.parametrize("out", ["out", "deep/er/out", "empty"])
def test_into_a_folder(here: Path, out: str) -> None:
    (here / "empty").mkdir()
    result = lmsupply("convert", "./tiny-Q4_0.gguf", "--out", out)
    first, last = result.err.splitlines()
    assert (result.code, result.out) == (0, "")
    assert first.startswith(f"converting {here / 'tiny-Q4_0.gguf'}: exact (")
    assert last == f"wrote {out}: 93.4 kB; to give it a name: lmsupply add {out}"
    assert sorted(path.name for path in (here / out).iterdir()) == [
        "genai_config.json", "model.onnx", "model.onnx.data", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip
    assert list(here.rglob(".*")) == []
    assert imports() == []
    assert lmsupply("run", f"./{out}", "hi", *SHORT).code == 0
    assert lmsupply("add", out, "mine").code == 0


def test_the_folder_is_written_into(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not replaced: it may be a link, or the folder that a shell is in; and no names beside it are taken."""
    (here / "far").mkdir()
    (here / "link").symlink_to("far", target_is_directory=True)
    (here / ".link.partial").mkdir()
    (here / ".link.partial" / "mine.txt").write_text("mine")
    (here / ".link.lock").write_text("mine")
    before = (here / "far").stat().st_ino
    assert lmsupply("convert", "./tiny-Q4_0.gguf", "--out", "link").code == 0
    assert (here / "link").is_symlink()
    assert ((here / "far").stat().st_ino, (here / "far" / "genai_config.json").is_file()) == (before, True)
    assert (here / ".link.partial" / "mine.txt").read_text() == (here / ".link.lock").read_text() == "mine"
    (here / "work").mkdir()
    monkeypatch.chdir(here / "work")
    result = lmsupply("convert", "../tiny-Q4_0.gguf", "--out", ".")
    assert (result.code, "wrote .: 93.4 kB" in result.err) == (0, True)
    assert Path("genai_config.json").is_file()


def test_a_folder_that_looks_like_ours_is_not_touched(here: Path) -> None:
    mine = here / "out" / ".lmsupply-partial" / "mine.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("mine")
    assert lmsupply("convert", "./tiny-Q4_0.gguf", "--out", "out").code == 2
    assert mine.read_text() == "mine"


def test_a_folder_that_holds_something_is_not_touched(here: Path) -> None:
    for out in ("tuned", "tiny-Q4_0.gguf", "."):
        before = sorted(here.rglob("*"))
        for more in ((), ("--dry-run",), ("--json",)):
            result = lmsupply("convert", "./tuned", "--out", out, *more)
            assert (result.code, result.err) == (
                2, f"error: {out} already exists\nhint: use a new or empty folder\n",
            )  # fmt: skip
        assert sorted(here.rglob("*")) == before


def test_a_dry_run_of_a_folder(here: Path) -> None:
    assert lmsupply("convert", "./tuned", "--out", "out", "--dry-run").out.startswith(
        "folder        out\nsource        "
    )
    found = plan("./tuned", "--out", "out")
    assert (found["ref"], found["out"]) == (None, str(here / "out"))
    assert not (here / "out").exists()


def test_a_folder_as_json(here: Path) -> None:
    result = lmsupply("convert", "./tuned", "--out", "out", "--json")
    assert (result.code, result.err) == (0, "")
    events = result.json_lines
    assert {event["type"] for event in events[:-1]} == {"progress"}
    assert {event["step"] for event in events[:-1]} == {"convert"}
    assert (events[-1]["type"], events[-1]["ref"], events[-1]["path"]) == ("finished", None, str(here / "out"))


def test_nothing_is_left_of_a_conversion_that_fails(here: Path) -> None:
    write_tiny_gguf(here / "bad.gguf", metadata={"tokenizer.ggml.model": "rwkv"})
    result = lmsupply("convert", "./bad.gguf", "--out", "out")
    assert (result.code, "a tokenizer of the kind rwkv" in result.err) == (1, True)
    assert not [path for path in here.iterdir() if "out" in path.name]


@POSIX
def test_a_killed_conversion_is_cleared_by_the_next(here: Path, tmp_path: Path) -> None:
    process = begun_import(tmp_path, "convert", "./tuned", "--out", "out")
    process.kill()
    process.communicate()
    assert [path.name for path in (here / "out").iterdir()] == [".lmsupply-partial"]
    assert lmsupply("convert", "./tuned", "--out", "out").code == 0
    assert [path.name for path in here.iterdir() if "out" in path.name] == ["out"]
    assert ".lmsupply-partial" not in [path.name for path in (here / "out").iterdir()]


@POSIX
def test_two_conversions_into_one_folder(here: Path, tmp_path: Path) -> None:
    process = begun_import(tmp_path, "convert", "./tuned", "--out", "out")
    second = lmsupply("convert", "./tiny-Q4_0.gguf", "--out", "out")
    assert (second.code, second.err.splitlines()[-2]) == (
        2,
        f"error: another lmsupply process is writing {here / 'out'}",
    )
    (tmp_path / "go").touch()
    process.communicate(timeout=60)
    assert process.returncode == 0
    assert lmsupply("run", "./out", "hi", *SHORT).code == 0
    assert [path.name for path in here.iterdir() if "out" in path.name] == ["out"]


# from the Hub


def test_a_repo_of_safetensors(hub: Hub) -> None:
    found = lmsupply("convert", "a/tuned", "--dry-run", "--json").json
    assert (found["chosen"]["variant"], found["import"]["precision"]) == ("safetensors", "int4")
    assert [file["path"] for file in found["files"]][:2] == ["model.safetensors", "config.json"]
    assert hub.of("cdn") == []
    result = lmsupply("convert", "a/tuned", "--precision", "int8", "--json")
    events = result.json_lines
    assert result.code == 0
    assert [event["type"] for event in events if event["type"] != "progress"] == ["plan", "finished"]
    assert list(dict.fromkeys(event["step"] for event in events[1:-1])) == ["download", "convert", "read"]
    assert sorted(path.name for path in Path(events[-1]["path"]).iterdir())[0] == "LICENSE"
    assert lmsupply("run", "-m", "a/tuned", "hi", "--json", *SHORT).json["model"]["precision"] == "int8"


def test_a_repo_with_both(hub: Hub) -> None:
    assert lmsupply("convert", "a/both", "--dry-run", "--json").json["chosen"]["variant"] == "safetensors"
    assert lmsupply("convert", "a/both:q8_0", "--dry-run", "--json").json["chosen"]["variant"] == "q8_0"
    assert lmsupply("convert", "a/gguf", "--dry-run", "--json").json["chosen"]["variant"] == "q4_0"


def test_a_repo_into_a_folder(hub: Hub, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = lmsupply("convert", "a/tuned", "--out", out)
    assert (result.code, result.err.splitlines()[-1].startswith(f"wrote {out}: ")) == (0, True)
    assert (out / "LICENSE").read_text() == "the terms\n"
    assert lmsupply("run", out, "hi", *SHORT).code == 0
    assert (imports(), list(store().parent.glob("models--*"))) == ([], [])
    hub.requests.clear()
    refused = lmsupply("convert", "a/tuned", "--out", out)
    assert (refused.code, "already exists" in refused.err, hub.requests) == (2, True, [])


def test_the_room_for_the_download_and_the_model(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one disk the sum has to fit, before anything is fetched."""
    planned = plan_model("a/tuned", tmp_path / "store", VariantWish())
    assert isinstance(planned, SourceImport)
    monkeypatch.setattr("lmsupply_cli.store.fetch.free_bytes", lambda path: ROOM_BYTES + 400_000)
    looked = len(hub.of("cdn"))
    with pytest.raises(HubError, match=r"388 kB to download and 77\.5 kB to write, but only "):
        fetch_and_convert(planned, tmp_path / "store", tmp_path / "out", consent=lambda plan: None)
    assert (len(hub.of("cdn")), (tmp_path / "out").exists()) == (looked, False)


def test_terms_are_accepted_before_a_conversion(hub: Hub, tmp_path: Path) -> None:
    hub.repos["a/tuned"].license = "llama3.2"
    for more in ((), ("--out", str(tmp_path / "out"))):
        refused = lmsupply("convert", "a/tuned", *more)
        assert (refused.code, "--accept-license" in refused.err) == (5, True)
    assert hub.of("cdn") == []
    assert lmsupply("convert", "a/tuned", "--accept-license").code == 0


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("a/pickles", 1, "PyTorch pickles only"),
        ("a/nothing", 1, "has no model a/nothing"),
        ("a/onnx", 2, "a/onnx has no safetensors and no GGUF to convert"),
        ("a/falcon", 1, "the architecture falcon is not supported"),
    ],
)
def test_repos_that_cannot_be_converted(hub: Hub, toy: Path, tmp_path: Path, name: str, code: int, said: str) -> None:
    hub.repos["a/pickles"] = Repo({"config.json": b"{}", "pytorch_model.bin": b"x" * 3000})
    hub.repos["a/onnx"] = Repo(repo_files(toy))
    hub.repos["a/falcon"] = Repo(repo_files(write_tiny_safetensors(tmp_path / "falcon", model_type="falcon")))
    result = lmsupply("convert", name)
    assert (result.code, said in result.err) == (code, True)
    assert hub.of("cdn") == []
    named = lmsupply("convert", name, "--name", "x")
    assert (named.code, "--name is for models on this machine" in named.err) == (2, True)
    assert lmsupply("convert", name, "--offline").code == 3

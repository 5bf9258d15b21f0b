"""Several forms of one model under one name: each has a name of its own in lists, which commands accept."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import lmsupply
from support.hub import Repo, local_hub
from support.tiny_imports import write_tiny_safetensors


@pytest.fixture
def forms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `st`, by age."""
    monkeypatch.chdir(tmp_path)
    write_tiny_safetensors(tmp_path / "tuned")
    for form in (("int4",), ("int8",), ("int8", "--block-size", "64")):
        assert lmsupply("add", "tuned", "st", "--precision", *form).code == 0
    assert lmsupply("add", "tuned", "one", "--precision", "fp16").code == 0


def names(*arguments: str) -> list[str]:
    return [line.partition("  ")[0] for line in lmsupply("models", *arguments).out.splitlines()]


FORMS = ["st:int4", "st:int8-32", "st:int8-64"]


def test_each_row_has_a_name_of_its_own(forms: None) -> None:
    checked = [line.partition(": ")[0] for line in lmsupply("verify").out.splitlines()]
    assert checked == ["one", *FORMS]
    assert names("--installed")[2:6] == checked
    paths = [line.partition(": ")[0] for line in lmsupply("models", "--installed", "--paths").out.splitlines()]
    assert paths[-5:-1] == checked
    assert lmsupply("models", "--installed", "-q").out.split()[1:] == checked
    assert [row["ref"] for row in lmsupply("verify", "--json").json["models"]] == checked
    rows = {row["ref"]: row["aliases"] for row in lmsupply("models", "--installed", "--json").json["models"][1:]}
    assert rows == {"one": [], "st:int4": [], "st:int8-32": [], "st:int8-64": ["st"]}
    assert lmsupply("verify", "st").out.startswith("st:int8-64: ok (")


def test_commands_accept_that_name(forms: None) -> None:
    for name in FORMS:
        assert lmsupply("verify", name).out.startswith(f"{name}: ok (")
        form = name.partition(":")[2]
        assert lmsupply("show", name, "--json").json["import"]["precision"] == form.partition("-")[0]
        for words in (("-m", name, "hi"), (name, "hi")):
            assert lmsupply("run", *words, "--max-tokens", "2").code == 0
    assert lmsupply("verify", "ST:INT8").out.startswith("st:int8-64: ok (")
    assert lmsupply("verify", "st:fp32").code == 1


def test_two_forms_of_a_repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_safetensors(tmp_path / "tuned")
    with local_hub() as hub:
        hub.repos["a/tuned"] = Repo({path.name: path.read_bytes() for path in folder.iterdir()})
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        for precision in ("int4", "int8"):
            assert lmsupply("pull", "a/tuned", "--precision", precision).code == 0
    rows = lmsupply("models", "--installed", "--json").json["models"][1:]
    refs = [f"a/tuned:safetensors-{form}" for form in ("int4-32", "int8-32")]
    assert [(row["ref"], row["aliases"]) for row in rows] == [(refs[0], []), (refs[1], ["a/tuned"])]
    assert [row["ref"] for row in lmsupply("verify", "--json").json["models"]] == refs
    for row in rows:
        model = lmsupply("run", "-m", row["ref"], "hi", "--max-tokens", "2", "--json").json["model"]
        assert model["variant"] == row["variant"]
    assert lmsupply("rm", "-y", refs[1]).err.splitlines()[:2] == [f"remove {refs[1]}", f"kept: {refs[0]}"]
    assert lmsupply("models", "--installed", "-q").out.split()[1:] == ["a/tuned"]


def test_each_is_removed_in_turn(forms: None) -> None:
    first = lmsupply("rm", "-y", "st").err.splitlines()
    assert first[0].startswith("remove st:int8-64 ")
    assert first[1] == "kept: st:int4, st:int8-32"
    second = lmsupply("rm", "-y", "st").err.splitlines()
    assert second[0].startswith("remove st:int8 ")
    assert second[1] == "kept: st:int4"
    third = lmsupply("rm", "-y", "st").err.splitlines()
    assert (third[0].startswith("remove st .lmsupply"), len(third)) == (True, 2)
    assert names("--installed")[2:3] == ["one"]

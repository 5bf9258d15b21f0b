"""Several forms of one model under one name are told apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import lmsupply
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


def test_lists_show_the_form(forms: None) -> None:
    checked = [line.partition(":")[0] for line in lmsupply("verify").out.splitlines()]
    assert checked == ["one", "st (int4)", "st (int8-32)", "st (int8-64)"]
    assert names("--installed")[2:6] == checked
    paths = [line.partition(":")[0] for line in lmsupply("models", "--installed", "--paths").out.splitlines()]
    assert paths[-5:-1] == checked
    assert lmsupply("models", "--installed", "-q").out.split()[1:] == ["one", "st", "st", "st"], "what commands accept"
    assert lmsupply("verify", "st").out.startswith("st (int8-64): ok (")


def test_each_is_removed_in_turn(forms: None) -> None:
    first = lmsupply("rm", "-y", "st").err.splitlines()
    assert first[0].startswith("remove st (int8-64) ")
    again = "lmsupply rm st removes one form at a time, the newest first"
    assert first[1] == f"kept: st (int4), st (int8-32); {again}"
    second = lmsupply("rm", "-y", "st").err.splitlines()
    assert second[0].startswith("remove st (int8) ")
    assert second[1] == f"kept: st (int4); {again}"
    third = lmsupply("rm", "-y", "st").err.splitlines()
    assert (third[0].startswith("remove st .lmsupply"), len(third)) == (True, 2)
    assert names("--installed")[2:3] == ["one"]

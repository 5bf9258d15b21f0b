from __future__ import annotations

from pathlib import Path

import pytest
from support.cli import lmsupply


def test_use_sets_shows_and_unsets_the_default_model(toy: Path) -> None:
    assert lmsupply("use").out == "guide (no model is installed)\n"
    assert lmsupply("add", toy, "--alias", "one").code == 0
    assert lmsupply("add", toy, "--alias", "two").code == 0
    assert lmsupply("use").out == "one (the model installed first)\n"
    assert lmsupply("use", "two").out == "two (the setting default_model)\n"
    assert lmsupply("config", "get", "default_model").out == "two\n"
    assert "using" not in lmsupply("run", "--max-tokens", "1", "x").err
    assert lmsupply("use", "role:fast").out == "role:fast (the setting default_model)\n"
    assert lmsupply("use", "--unset").out == "two (the model used last)\n"
    wrong = lmsupply("use", "thre")
    assert (wrong.code, wrong.out) == (1, "")
    assert lmsupply("use", "two", "--unset").code == 2


def test_pulling_or_adding_another_model_changes_nothing(toy: Path) -> None:
    lmsupply("add", toy, "--alias", "one")
    assert "using one, the only installed model" in lmsupply("run", "--max-tokens", "1", "x").err
    lmsupply("add", toy, "--alias", "two")
    assert "using one, the model used last" in lmsupply("run", "--max-tokens", "1", "x").err


def test_what_cannot_answer_is_not_set(toy: Path, tmp_path: Path) -> None:
    assert "unknown role 'bogus'" in lmsupply("use", "role:bogus").err
    assert lmsupply("use").out == "guide (no model is installed)\n"
    assert lmsupply("use", f"./{toy.name}", cwd=toy.parent).out == f"{toy} (the setting default_model)\n"
    assert lmsupply("run", "--max-tokens", "1", "x", cwd=tmp_path).code == 0


def test_use_works_with_a_damaged_settings_file(toy: Path) -> None:
    lmsupply("add", toy, "--alias", "one")
    lmsupply("config", "set", "temperature", "0.5")
    file = Path(lmsupply("config", "path").out.strip())
    file.write_text(file.read_text() + "nonsense = 1\n")
    assert lmsupply("use", "one").code == 0
    assert lmsupply("use", "--unset").code == 0


def test_looking_does_not_change_the_default(toy: Path) -> None:
    lmsupply("add", toy, "--alias", "one")
    lmsupply("add", toy, "--alias", "two")
    lmsupply("run", "-m", "one", "--max-tokens", "1", "x")
    lmsupply("run", "-m", "two", "--dry-run")
    lmsupply("run", "-m", "two", "--show-prompt", "x")
    assert lmsupply("use").out == "one (the model used last)\n"


def test_a_default_model_that_is_missing_is_never_downloaded() -> None:
    lmsupply("config", "set", "default_model", "phi-3.5")
    result = lmsupply("run", "hi", LMSUPPLY_AUTO_PULL="always")
    assert result.code == 3
    assert "phi-3.5 is not installed" in result.err


def test_a_role_is_not_a_model_that_can_be_removed() -> None:
    for command in (("rm", "-y", "role:default"), ("verify", "role:default")):
        result = lmsupply(*command)
        assert result.code == 2
        assert "role:default is a role, not a model" in result.err


@pytest.mark.parametrize("command", [("config", "set", "default_model", "fooo"), ("config", "get", "default_model")])
def test_a_default_that_does_not_exist_gets_a_note(command: tuple[str, ...]) -> None:
    result = lmsupply(*command, LMSUPPLY_DEFAULT_MODEL="fooo")
    assert result.code == 0
    assert ("note: model 'fooo' not found" in result.err) == (command[1] == "set")


def test_a_misspelled_variable_gets_a_note() -> None:
    note = "note: unknown variable LMSUPPLY_TEMPRATURE; did you mean LMSUPPLY_TEMPERATURE?\n"
    assert lmsupply("use", "guide", LMSUPPLY_TEMPRATURE="1").err == note
    found = lmsupply("run", "-m", "guide", "--json", "--max-tokens", "1", "hi", LMSUPPLY_TEMPRATURE="1").json
    assert found["notices"][0]["code"] == "unknown_variable"
    assert lmsupply("use", LMSUPPLY_HOMES="1", LMSUPPLY_XYZ="1").err.count("did you mean") == 1

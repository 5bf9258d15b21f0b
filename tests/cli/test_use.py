from __future__ import annotations

from pathlib import Path

from support.cli import lmsupply


def test_use_sets_shows_and_unsets_the_default_model(toy: Path) -> None:
    assert lmsupply("use").out == "guide (no model is installed)\n"
    assert lmsupply("add", toy, "--alias", "one").code == 0
    assert lmsupply("add", toy, "--alias", "two").code == 0
    assert lmsupply("use").out == "one (the model installed first)\n"
    assert lmsupply("use", "two").out == "two (default_model, file)\n"
    assert lmsupply("config", "get", "default_model").out == "two\n"
    assert "using" not in lmsupply("run", "--dry-run").err
    assert lmsupply("use", "role:fast").out == "role:fast (default_model, file)\n"
    assert lmsupply("use", "--unset").out == "two (the model used last)\n"
    wrong = lmsupply("use", "thre")
    assert (wrong.code, wrong.out) == (1, "")
    assert lmsupply("use", "two", "--unset").code == 2


def test_pulling_or_adding_another_model_changes_nothing(toy: Path) -> None:
    lmsupply("add", toy, "--alias", "one")
    assert "using one, the only installed model" in lmsupply("run", "--max-tokens", "1", "x").err
    lmsupply("add", toy, "--alias", "two")
    assert "using one, the model used last" in lmsupply("run", "--max-tokens", "1", "x").err

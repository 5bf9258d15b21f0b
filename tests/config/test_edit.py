"""The settings file is changed where it must be, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli.config.edit import set_value
from lmsupply_cli.config.layers import read_file


@pytest.mark.parametrize(
    "text", ['stop = """\n[/INST]"""\n', 'logit_bias = [\n  ["13", 5],\n]\n', "seed = 1  # [no table]\n", ""]
)
def test_a_value_of_several_lines_is_not_cut_by_a_new_setting(text: str, tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    before, wrong = read_file(path)
    assert not wrong
    set_value(path, "temperature", 0.2)
    after, wrong = read_file(path)
    assert not wrong
    assert after == before | {"temperature": 0.2}


def test_a_new_setting_goes_before_the_first_table(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("seed = 1\n\n[mine]\nx = 1\n")
    set_value(path, "temperature", 0.2)
    assert path.read_text() == "seed = 1\n\ntemperature = 0.2\n[mine]\nx = 1\n"

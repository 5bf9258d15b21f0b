from __future__ import annotations

from pathlib import Path

import pytest

from lmsupply_cli.config.layers import Value, read_settings
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.errors import SettingsError, UsageError


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_flag_over_env_over_file_over_model_over_default(tmp_path: Path) -> None:
    file = write(tmp_path / "config.toml", "top_k = 3\ntop_p = 0.3\nmin_p = 0.3\n")
    environ = {"LMSUPPLY_TOP_K": "2", "LMSUPPLY_TOP_P": "0.2"}
    settings = read_settings({"top_k": 1, "seed": None}, environ=environ, path=file)
    values = settings.generation({"top_k": 4, "top_p": 0.4, "min_p": 0.4, "temperature": 0.4})
    assert values["top_k"] == Value(1, "flag")
    assert values["top_p"] == Value(0.2, "env")
    assert values["min_p"] == Value(0.3, "file")
    assert values["temperature"] == Value(0.4, "model")
    assert values["max_tokens"] == Value(512, "default")
    assert values["seed"] == Value(None, "default")


def test_a_preset_stands_between_flags_and_environment() -> None:
    settings = read_settings({"top_k": 1}, preset={"top_k": 9, "top_p": 0.95}, environ={"LMSUPPLY_TOP_P": "0.2"})
    assert settings.value("top_k") == Value(1, "flag")
    assert settings.value("top_p") == Value(0.95, "preset")


def test_greedy_is_plain_argmax_unless_the_user_says_otherwise() -> None:
    greedy = read_settings({"temperature": 0.0}, environ={})
    assert greedy.generation({"repetition_penalty": 1.2})["repetition_penalty"].value == 1.0
    said = read_settings({"temperature": 0.0, "repetition_penalty": 1.3}, environ={})
    assert said.generation({})["repetition_penalty"].value == 1.3


def test_lists_and_booleans_in_the_environment() -> None:
    settings = read_settings(
        environ={"LMSUPPLY_STOP": "END, STOP", "LMSUPPLY_DO_SAMPLE": "off", "LMSUPPLY_OFFLINE": "1"}
    )
    assert settings.get("stop") == ("END", "STOP")
    assert settings.get("do_sample") is False
    assert settings.get("offline") is True


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("top_k = 'many'\n", ":1: top_k must be a whole number, at least 0, not 'many'"),
        ("\n\ntop_kk = 1\n", ":3: unknown setting 'top_kk'"),
        ("top_k = \n", "config.toml: "),
        ("provider = 'gpu'\n", "one of auto, cpu, cuda, dml, webgpu"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ={}, path=write(tmp_path / "config.toml", text))
    assert said in caught.value.message
    assert caught.value.exit_code == 2


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="LMSUPPLY_TOP_K: top_k must be a whole number"):
        read_settings(environ={"LMSUPPLY_TOP_K": "x"})
    with pytest.raises(UsageError, match="--top-k"):
        read_settings({"top_k": -1}, environ={})


def test_the_table_is_sound() -> None:
    pinned = [
        "default_model",
        "provider",
        "precision",
        "context",
        "threads",
        "memory_limit",
        "auto_pull",
        "allowed_licenses",
        "allowed_tiers",
        "cache_dir",
        "offline",
        "speculative",
        "on_overflow",
        "save_sessions",
        "history",
        "theme",
    ]
    assert set(pinned) < set(SETTINGS)
    for setting in SETTINGS.values():
        assert setting.env == "LMSUPPLY_" + setting.key.upper()
        assert setting.help
        assert not setting.choices or setting.default is None or setting.default in setting.choices

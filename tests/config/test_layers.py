from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmsupply_cli.config.layers import Value, read_file, read_settings
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.engine.options import GenerationOptions
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
    assert greedy.generation({"repetition_penalty": 1.2})["repetition_penalty"].value is None
    assert GenerationOptions(temperature=0, model_penalty=1.2).penalty() == 1.0
    assert GenerationOptions(model_penalty=1.2).penalty() == 1.2
    assert GenerationOptions(model_penalty=1.2).penalty(guided=True) == 1.0
    assert GenerationOptions(temperature=0, repetition_penalty=1.3).penalty(guided=True) == 1.3
    assert GenerationOptions().replaced(temperature=0).penalty() == 1.0
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
        ("seed = 1\ntop_k = \n", ":2: top_k: invalid value"),
        ("provider = 'gpu'\n", "one of auto, cpu, cuda, dml, webgpu"),
        ("seed = 1\nmore top_k\n", ":2: not a `key = value`"),
        ("seed = 1\n[chat]\ntop_k = 1\n", ":2: a setting cannot be in a table"),
        ("top_k = 1\n\ntop_k = 2\n", ":3: top_k is set twice"),
        (f"seed = {'9' * 4301}\n", ":1: seed: a number is too long"),
        (
            f"seed = 0x{'f' * 4000}\n",
            ":1: seed must be a whole number, at least 0 and at most 9223372036854775807, not such a long number",
        ),
        (f"temperature = {'9' * 400}\n", ":1: temperature must be a number from 0 to 100, not 999"),
        (f"top_k = {'[' * 5000}{']' * 5000}\n", ":1: top_k: is nested too deeply"),
        (f"default_model = {'[' * 90}{']' * 90}\n", ":1: default_model must be a text"),
        ("memory_limit = '8'\n", ":1: memory_limit: 8 bytes of memory is too little"),
        ("memory_limit = 'much'\n", ":1: memory_limit: not a size: 'much'"),
        ("stop = [1]\n", ":1: stop must be a text or a list of texts, none of them empty"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings(environ={}, path=write(tmp_path / "config.toml", text))
    assert said in caught.value.message
    assert caught.value.exit_code == 2


def test_one_bad_line_says_nothing_about_the_others(tmp_path: Path) -> None:
    text = "top_k = 3\ntop_p = = 1\nstop = [\n  'a',\n\nseed = 'x'\ngarbage\nmin_p = 0.3\n[table]\nmax_tokens = 9\n"
    file = write(tmp_path / "config.toml", text)
    settings = read_settings(environ={"LMSUPPLY_TEMPERATURE": "hot"}, path=file, skip_bad=True)
    assert settings.layers["file"] == {"top_k": 3, "min_p": 0.3}
    assert settings.get("temperature") == 0.7
    assert [said.removeprefix(str(file)).split(" ")[0] for said in settings.skipped] == [
        "LMSUPPLY_TEMPERATURE:", ":2:", ":3:", ":6:", ":7:", ":9:",
    ]  # fmt: skip
    with pytest.raises(UsageError, match="`top_k`"):
        read_settings({"top_k": -1}, environ={}, path=file, skip_bad=True)


@pytest.mark.parametrize("data", [b"\xff\xfe\x00", b"top_k = 1 # \xff\n", b"#" * 1_100_000])
def test_a_file_that_is_no_settings_file_is_named(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(data)
    with pytest.raises(SettingsError, match=r"config\.toml"):
        read_settings(environ={}, path=file)
    settings = read_settings(environ={}, path=file, skip_bad=True)
    assert (settings.layers["file"], len(settings.skipped)) == ({}, 1)


@settings(max_examples=400, deadline=None)
@given(text=st.text(alphabet="seedtop_k =[]\"'#\n1.x\\{}", max_size=60))
def test_whatever_the_file_holds_ends_in_values_and_problems(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.toml"
    file.write_text(text, encoding="utf-8")
    values, problems = read_file(file)
    assert set(values) <= set(SETTINGS)
    assert all(str(file) in problem.message for problem in problems)


def test_a_folder_of_somebody_else_has_no_settings_for_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, **_: object) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refused)
    assert read_file(tmp_path / "config.toml") == ({}, [])


def test_a_bad_variable_is_named() -> None:
    with pytest.raises(SettingsError, match="LMSUPPLY_TOP_K: top_k must be a whole number"):
        read_settings(environ={"LMSUPPLY_TOP_K": "x"})
    with pytest.raises(UsageError, match="`top_k`"):
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
        assert not setting.choices or setting.default in (None, (), *setting.choices)

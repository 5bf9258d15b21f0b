"""A value that is refused is named by the place where the user set it: a flag, a variable, the settings file, a template."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.cli import lmsupply

from lmsupply_cli.render.flags import as_flags, named_by_place

RUN = ("run", "-m", "guide", "hi")


@pytest.mark.parametrize(
    ("key", "value", "more", "said"),
    [
        ("provider", "cuda", (), "`provider=cuda`: the installed engine does not support CUDA"),
        ("context", "9999", (), "`context=9999` is more than this model's maximum of 1,024 tokens"),
        ("logit_bias", "9999=1", (), "`logit_bias` names token 9999"),
        ("speculative", "no", (), "unknown value 'no' of `speculative`"),
        ("speculative", "draft:phi-4", (), "`speculative=draft:phi-4`: phi-4 is not installed"),
        ("min_length", "9", ("--max-tokens", "5"), "`min_length=9` is more than --max-tokens 5"),
        ("memory_limit", "1MB", (), "raise `memory_limit`, or use a smaller model"),
        ("num_beams", "2", ("--regex", "a"), "leave out `num_beams`"),
        ("reasoning_effort", "low", (), "`reasoning_effort` has no effect"),
    ],
)
def test_settings_are_named_by_their_place(key: str, value: str, more: tuple[str, ...], said: str) -> None:
    flag = "--" + key.replace("_", "-")
    assert as_flags(said) in lmsupply(*RUN, *more, flag, value).err
    with named_by_place({key: "env"}):
        assert as_flags(said) in lmsupply(*RUN, *more, **{f"LMSUPPLY_{key.upper()}": value}).err
    lmsupply("config", "set", key, value)
    with named_by_place({key: "file"}):
        assert as_flags(said) in lmsupply(*RUN, *more).err


def test_the_forms_of_the_places() -> None:
    text = "`context=9` and `context`"
    assert as_flags(text) == "--context 9 and --context"
    for place, said in (
        ("env", "LMSUPPLY_CONTEXT=9 and LMSUPPLY_CONTEXT"),
        ("file", "the setting context = 9 and the setting context"),
        ("template", "the template's context = 9 and the template's context"),
        ("chat", "context 9 and context"),
    ):
        with named_by_place({"context": place}):  # type: ignore[dict-item]
            assert as_flags(text) == said
    assert as_flags(text) == "--context 9 and --context"


def test_the_options_of_a_template_are_named_so() -> None:
    folder = Path(os.environ["LMSUPPLY_HOME"]) / "config" / "templates"
    folder.mkdir(parents=True)
    (folder / "big.toml").write_text("[options]\ncontext = 9999\n")
    assert "error: the template's context = 9999 is more than" in lmsupply(*RUN, "-t", "big").err


@pytest.mark.parametrize("name", ["nope", "phi-4", "role:nope"])
def test_a_default_model_that_cannot_answer_is_named_as_the_setting(name: str) -> None:
    from_env = lmsupply("run", "hi", LMSUPPLY_DEFAULT_MODEL=name)
    assert from_env.err.startswith("error: LMSUPPLY_DEFAULT_MODEL: ")
    assert from_env.err.endswith("; correct or unset LMSUPPLY_DEFAULT_MODEL\n")
    lmsupply("config", "set", "default_model", name)
    result = lmsupply("run", "hi")
    assert result.err.startswith("error: the setting default_model: ")
    assert result.err.endswith("; lmsupply use MODEL sets another default\n")
    shown = lmsupply("use")
    assert shown.out == f"{name} (the setting default_model)\n"
    assert shown.err.startswith("note: ")

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support.cli import lmsupply


@pytest.fixture
def folder() -> Path:
    path = Path(os.environ["LMSUPPLY_HOME"]) / "config" / "templates"
    path.mkdir(parents=True)
    return path


def test_a_template_gives_prompt_system_model_and_options(folder: Path) -> None:
    (folder / "ask.toml").write_text(
        'prompt = "How do I {input}?"\nsystem = "Be short."\nmodel = "guide"\n[options]\ntemperature = 0\nmax_tokens = 7\n'
    )
    shown = lmsupply("run", "-t", "ask", "--show-prompt", "list", stdin="my models")
    assert (
        shown.out
        == "<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nhow do i list\n\nmy models?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "no model is installed" not in shown.err
    answer = lmsupply("run", "-t", "ask", "--json", "--top-k", "3", "list my models").json
    assert answer["usage"]["completion_tokens"] == 7
    assert answer["options"]["max_tokens"] == {"value": 7, "source": "template"}
    assert lmsupply("run", "-t", "ask", "-s", "Be long.", "--show-prompt", "x").out.startswith(
        "<|im_start|>system\nBe long."
    )
    over = lmsupply("run", "-t", "ask", "--json", "--max-tokens", "3", "list my models").json
    assert over["options"]["max_tokens"] == {"value": 3, "source": "flag"}


def test_a_template_without_an_input_stands_alone(folder: Path) -> None:
    (folder / "plain.toml").write_text('prompt = "thanks"\n')
    (folder / "needs.toml").write_text('prompt = "about {input}"\n')
    (folder / "short.md").write_text("Be short.\n")
    assert lmsupply("run", "-m", "guide", "-t", "plain").out == "You are welcome!\n"
    assert "thanks\n\nand more" in lmsupply("run", "-m", "guide", "-t", "plain", "--show-prompt", "and more").out
    assert (
        "Be short.<|im_end|>\n<|im_start|>user\nhi"
        in lmsupply("run", "-m", "guide", "-t", "short", "--show-prompt", "hi").out
    )
    missing = lmsupply("run", "-m", "guide", "-t", "needs")
    assert (missing.code, missing.out) == (2, "")
    assert "the template needs needs input" in missing.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("prompt = ", "bad.toml: Invalid value (at end of document)\nhint: lmsupply templates edit bad"),
        ("promt = 'x'", "unknown key 'promt'"),
        ("prompt = 3", "prompt must be a string"),
        ("options = 3", "options must be a table"),
        ("[options]\ntemperatur = 1", "did you mean temperature?"),
        ("[options]\ntemperature = 'hot'", "temperature must be a number"),
    ],
)
def test_a_damaged_template_is_named(folder: Path, text: str, said: str) -> None:
    (folder / "bad.toml").write_text(text)
    result = lmsupply("run", "-m", "guide", "-t", "bad", "x")
    assert result.code == 2
    assert said in result.err
    assert "bad" in lmsupply("templates").out


def test_list_show_edit_and_path(folder: Path, tmp_path: Path) -> None:
    assert lmsupply("templates").err.startswith("no templates yet")
    assert lmsupply("templates", "path").out == f"{folder}\n"
    assert lmsupply("templates", "path", "--json").json == {"schema": 2, "path": str(folder)}
    assert "--json and edit can't be combined" in lmsupply("templates", "edit", "new", "--json", EDITOR="true").err
    left = lmsupply("templates", "edit", "new", EDITOR="touch")
    assert (left.code, left.err) == (0, "nothing changed, so no template was saved\n")
    assert list(folder.iterdir()) == []
    kept = lmsupply("templates", "edit", "new", EDITOR="sed -i.bak s/careful/strict/")
    assert (kept.code, kept.err) == (0, f"saved {folder / 'new.toml'}\n")
    assert lmsupply("templates", "edit", "new", EDITOR="touch").err == f"nothing changed in {folder / 'new.toml'}\n"
    assert "{input}" in lmsupply("templates", "show", "new").out
    assert lmsupply("templates").out.startswith("new  Summarize in three sentences:")
    assert lmsupply("templates", "--json").json["templates"][0]["options"] == {"temperature": 0.2}
    script = tmp_path / "editor.sh"
    script.write_text('#!/bin/sh\necho "nonsense = 1" > "$1"\n')
    script.chmod(0o755)
    assert "unknown key 'nonsense'" in lmsupply("templates", "edit", "new", EDITOR=str(script)).err
    for arguments in (("show",), ("edit", "../x"), ("list", "x"), ("remove",), ("show", "nwe")):
        assert lmsupply("templates", *arguments, EDITOR="true").code == 2
    assert "did you mean new?" in lmsupply("run", "-t", "nwe", "x").err


def test_raw_text_has_no_template(folder: Path) -> None:
    assert "can't be combined" in lmsupply("run", "--raw", "-t", "x", "y").err


def test_the_model_of_a_template_is_the_one_that_a_dry_run_plans(folder: Path, toy: Path) -> None:
    lmsupply("add", toy, "--alias", "one")
    lmsupply("add", toy, "--alias", "two")
    (folder / "ask.toml").write_text('model = "two"\n')
    assert lmsupply("run", "-t", "ask", "--dry-run", "--json").json["plan"]["model"] == "two"


def test_an_editor_that_does_not_start_leaves_no_template(folder: Path) -> None:
    for editor in ("", "/no/such/editor", "false"):
        assert lmsupply("templates", "edit", "new", EDITOR=editor, VISUAL="").code == 2
    assert list(folder.iterdir()) == []


def test_templates_complete(folder: Path) -> None:
    (folder / "short.md").write_text("Be short.\n")
    for words in (("run", "--template", ""), ("templates", "show", ""), ("chat", "-t", "sh")):
        assert lmsupply(*words, _LMSUPPLY_COMPLETE="bash").out == "short\t\n"
    assert "edit\t" in lmsupply("templates", "", _LMSUPPLY_COMPLETE="bash").out

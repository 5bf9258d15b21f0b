"""run --show-prompt: what a run would send, and what it would say about it, without the weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from support.cli import Result, lmsupply

MODELS = Path(__file__).parent.parent / "models"
LONG = "BEGIN " + "several words of a text " * 100 + "END"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Without weights that could be loaded."""
    copied = Path(shutil.copytree(MODELS / "qwen2", tmp_path / "model"))
    (copied / "model.onnx.data").unlink()
    return copied


def with_template(folder: Path, source: str) -> Path:
    (folder / "chat_template.jinja").write_text(source, encoding="utf-8")
    return folder


def shown(folder: Path, *arguments: str, prompt: str = "hello") -> Result:
    return lmsupply("run", "-m", folder, "--show-prompt", *arguments, stdin=prompt)


def notes(result: Result) -> list[str]:
    return [line for line in result.err.splitlines() if line.startswith("note: ")]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{% if %}", "does not parse"),
        ("{{ 1/0 }}", "ZeroDivisionError"),
        ("{% for a in [1] %}" * 25 + "{% endfor %}" * 25, "does not parse"),
        ("{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", "writes more than"),
    ],
    ids=["syntax", "failure", "depth", "size"],
)
def test_a_template_that_is_of_no_use_is_said_as_by_run(folder: Path, source: str, said: str) -> None:
    dry = shown(with_template(folder, source))
    assert dry.code == 0
    assert dry.out.endswith("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")
    (note,) = notes(dry)
    assert said in note
    assert "the format qwen is used" in note
    shutil.copy(MODELS / "qwen2" / "model.onnx.data", folder)
    run = lmsupply("run", "-m", folder, "--max-tokens", "1", stdin="hello")
    assert note in notes(run)


def test_a_file_that_cannot_be_read_is_said_as_by_run(folder: Path) -> None:
    (folder / "chat_template.jinja").write_bytes(b"\xff\xff")
    dry = shown(folder)
    assert dry.code == 0
    (note,) = notes(dry)
    assert "chat_template.jinja is not text in UTF-8" in note
    shutil.copy(MODELS / "qwen2" / "model.onnx.data", folder)
    assert note in notes(lmsupply("run", "-m", folder, "--max-tokens", "1", stdin="hello"))


def test_a_template_with_a_generation_tag_behind_a_byte_order_mark_is_the_models_own(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    template = "OWN {% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    config = json.loads((folder / "tokenizer_config.json").read_text()) | {"chat_template": template}
    (folder / "tokenizer_config.json").write_text("\ufeff" + json.dumps(config), encoding="utf-8")
    dry = shown(folder)
    assert (dry.code, dry.out, dry.err) == (0, "OWN hello", "")


def test_a_switch_that_does_nothing_is_said(folder: Path) -> None:
    assert "--reasoning-effort has no effect" in shown(folder, "--reasoning-effort", "low").err


@pytest.mark.parametrize("raw", [(), ("--raw",)])
def test_a_prompt_that_does_not_fit_is_exit_4(folder: Path, raw: tuple[str, ...]) -> None:
    dry = shown(folder, *raw, prompt=LONG)
    assert (dry.code, dry.out) == (4, "")
    assert "the context has 512" in dry.err


@pytest.mark.parametrize("raw", [(), ("--raw",)])
@pytest.mark.parametrize(
    ("policy", "stays", "goes"), [("truncate-start", "END", "BEGIN"), ("truncate-end", "BEGIN", "END")]
)
def test_a_prompt_that_is_cut_is_shown_cut(
    folder: Path, raw: tuple[str, ...], policy: str, stays: str, goes: str
) -> None:
    asked = (*raw, "--on-overflow", policy, "--max-tokens", "3")
    dry = shown(folder, *asked, prompt=LONG)
    assert dry.code == 0
    assert stays in dry.out
    assert goes not in dry.out
    shutil.copy(MODELS / "qwen2" / "model.onnx.data", folder)
    run = lmsupply("run", "-m", folder, *asked, stdin=LONG)
    assert notes(dry) == [line for line in notes(run) if "cut at its" in line] != []


def test_a_smaller_context_counts_and_a_larger_one_than_the_models_is_refused(folder: Path) -> None:
    assert shown(folder, "--context", "5").code == 4
    assert shown(folder, "--context", "60").code == 0
    larger = shown(folder, "--context", "513")
    assert larger.code == 2
    assert "more than this model's maximum of 512 tokens" in larger.err


def test_where_nothing_can_be_counted_that_is_said(folder: Path) -> None:
    tokenizer: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    tokenizer["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "["
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    assert shown(folder).err == ""
    dry = shown(folder, prompt=LONG)
    assert dry.code == 0
    assert LONG in dry.out
    assert "whether this prompt fits the context is not known" in dry.err

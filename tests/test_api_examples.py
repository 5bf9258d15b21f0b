"""Each example of docs/api.md is run, and the program that CI type-checks against the wheel."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=[text.split("import ")[1].split("\n")[0] for text in EXAMPLES])
def test_an_example_of_the_page_runs(example: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(example, "docs/api.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 9


def test_a_users_program_runs(capsys: pytest.CaptureFixture[str]) -> None:
    found = runpy.run_path(str(Path(__file__).parent / "data" / "typed_user.py"))
    assert found["text"] in ("yes", "no")
    assert len(found["said"]) == 2
    assert dict(found["rows"])["model"] == "guide"
    assert capsys.readouterr().out.startswith("Hello!")

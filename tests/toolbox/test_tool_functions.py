"""Python functions that are named on the command line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmsupply_cli.errors import UsageError
from lmsupply_cli.toolbox.functions import load_function

SOURCE = """
from lmsupply import ToolSpec
import helper_of_tools_here

def weather(city: str) -> str:
    \"\"\"Forecast.\"\"\"
    return f"sunny in {city}"

async def later(a: int) -> int:
    return a

def untyped(a):
    return a

class Group:
    @staticmethod
    def inner(a: int) -> int:
        return a

described = ToolSpec("other", "", {"type": "object"}, lambda: 1)
silent = ToolSpec("other")
number = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "my_tools_here.py").write_text(SOURCE)
    (tmp_path / "helper_of_tools_here.py").write_text("")
    (tmp_path / "broken_tools_here.py").write_text("1 / 0")
    (tmp_path / "leaving_tools_here.py").write_text("import sys; sys.exit(3)")
    (tmp_path / "needing_tools_here.py").write_text("import no_such_module_here")
    (tmp_path / "json.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield
    for name in [name for name in sys.modules if name.endswith("_tools_here")]:
        del sys.modules[name]


def test_a_function_of_the_current_folder(tmp_path: Path) -> None:
    spec = load_function("my_tools_here:weather")
    assert (spec.name, spec.description) == ("weather", "Forecast.")
    assert spec.function
    assert spec.function(city="Oslo") == "sunny in Oslo"
    assert load_function("my_tools_here:Group.inner").name == "inner"
    assert load_function("my_tools_here:described").name == "other"
    assert load_function("my_tools_here:later").name == "later"
    assert sys.path[0] != str(tmp_path)
    assert sys.path[-1] == str(tmp_path)  # nothing in it stands in for another module


@pytest.mark.parametrize(
    ("name", "message", "hint"),
    [
        ("weather", "takes module:function", "tools:weather"),
        (":weather", "takes module:function", ""),
        ("my_tools_here:", "takes module:function", ""),
        ("./my_tools_here.py:weather", "not the file", "--tool my_tools_here:weather"),
        ("no_such_module_here:x", "no module 'no_such_module_here'", "in the folder of"),
        ("my_tools_here.sub:x", "cannot be imported|no module", ""),
        ("needing_tools_here:x", "needing_tools_here cannot be imported: No module named 'no_such_module_here'", ""),
        ("broken_tools_here:x", "ZeroDivisionError", ""),
        ("leaving_tools_here:x", "SystemExit", ""),
        ("my_tools_here:wether", "no function 'wether'", "did you mean weather"),
        ("my_tools_here:untyped", "has no type hint", ""),
        ("my_tools_here:number", "is no tool", ""),
        ("my_tools_here:silent", "has no function to run", ""),
    ],
)
def test_what_is_wrong_is_named(name: str, message: str, hint: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        load_function(name)
    assert hint in raised.value.hint

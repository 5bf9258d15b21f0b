"""The public face is one list."""

from __future__ import annotations

import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import lmsupply
import lmsupply_cli


def test_the_list_is_sorted_and_every_name_is_there() -> None:
    names = lmsupply_cli.__all__
    assert names == sorted(names)
    for name in names:
        assert getattr(lmsupply_cli, name) is not None
    assert dir(lmsupply_cli) == names


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        lmsupply_cli.nope  # noqa: B018


def test_every_error_has_a_code_and_an_exit_code() -> None:
    from lmsupply_cli import errors

    found = {
        kind.__name__: (kind("x").code, kind.exit_code)
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.LmsupplyError)
    }
    tree = errors.__doc__ or ""
    assert found["ModelNotInstalled"] == ("model_not_installed", 3)
    assert found["UsageError"] == ("usage", 2)
    assert found["DoesNotFit"] == ("does_not_fit", 4)
    for name, (_, code) in found.items():
        assert any(name in line and line.split(name)[1].split()[0] == str(code) for line in tree.splitlines()), name


def test_the_package_alone_imports_nothing_and_switches_telemetry_off() -> None:
    program = (
        "import os, sys, lmsupply_cli\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1' and os.environ['HF_HUB_DISABLE_TELEMETRY'] == '1'\n"
        "print([m for m in ('typer', 'rich', 'numpy', 'onnxruntime_genai', 'lmsupply_cli.runtime') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_library_never_loads_the_front_ends(guide: object) -> None:
    program = (
        "import sys\nfrom lmsupply_cli import load\n"
        "with load('guide') as model:\n    model.generate('hello', max_tokens=2)\n"
        "print([m for m in ('typer', 'rich', 'prompt_toolkit', 'huggingface_hub') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


# what `TextGenerator` is made of is for `load` and the builder to know
INSIDE = {
    "TextModel", "Markers", "MemoryBudget", "MemoryShape", "Speculation", "Manifest", "ModelFolder", "FolderFormat",
    "ContextFit", "DraftPlan", "PromptCache", "LoadKeywords", "GenerationKeywords", "VariantKeywords", "Codec", "CachedPrompt", "Messages", "Matcher",
    "ToolTurn", "ToolFamily", "ModelProcess",
}  # fmt: skip


def named_types() -> Iterator[tuple[str, str]]:
    """Types of lmsupply that signatures and fields of public names speak of, and where."""
    own = {
        found[1]
        for file in Path(lmsupply_cli.__file__).parent.rglob("*.py")
        for found in re.finditer(
            r"^(?:class (?=[A-Z])|(?=[A-Z]\w+ = (?:Literal|\w+ \|)))([A-Za-z]+)", file.read_text(), re.M
        )
    }
    for name in lmsupply_cli.__all__:
        thing: Any = getattr(lmsupply_cli, name)
        parts = {name: thing}
        if inspect.isclass(thing):
            parts |= {f"{name}.{key}": value for key, value in vars(thing).items() if not key.startswith("_")}
            parts[f"{name}.__init__"] = thing.__init__
        for where, part in parts.items():
            part = getattr(part, "fget", None) or getattr(part, "__func__", None) or part
            notes = getattr(inspect.unwrap(part) if callable(part) else part, "__annotations__", None) or {}
            for note in notes.values():
                yield from ((word, where) for word in re.findall(r"[A-Z]\w+", str(note)) if word in own)


def test_what_public_names_speak_of_is_public() -> None:
    found = set(named_types())
    assert ("PoolStats", "ModelPool.stats") in found
    assert ("GenerationEvent", "TextGenerator.stream") in found
    hidden = {(word, where) for word, where in found if word not in {*lmsupply_cli.__all__, *INSIDE}}
    assert {word for word, _ in hidden} <= {"Kind", "Limit", "Tier", "Vendor", "Policy", "Step", "StoppedBy"}, (
        hidden
    )  # plain words, quoted where used


def test_every_public_name_is_on_the_page_and_says_something() -> None:
    page = (Path(__file__).parent.parent / "docs" / "api.md").read_text(encoding="utf-8")
    for name in lmsupply_cli.__all__:
        if name != "__version__":
            assert re.search(rf"^### (class )?`{name}\b.*\n\n\S", page, re.M), name
    assert re.findall(r"^- `[^`]*`$", page, re.M) == []


def test_lmsupply_is_the_public_name() -> None:
    assert lmsupply.__all__ == lmsupply_cli.__all__ == dir(lmsupply)
    assert lmsupply.__version__ == lmsupply_cli.__version__
    assert all(getattr(lmsupply, name) is getattr(lmsupply_cli, name) for name in lmsupply.__all__)
    with pytest.raises(AttributeError, match="module 'lmsupply' has no attribute 'nope'"):
        lmsupply.nope  # noqa: B018
    assert (Path(lmsupply.__file__).parent / "py.typed").is_file()


def test_the_public_name_alone_imports_nothing() -> None:
    program = (
        "import sys, lmsupply\nfrom lmsupply import UsageError\n"
        "print([m for m in ('typer', 'rich', 'numpy', 'onnxruntime_genai', 'lmsupply_cli.generation') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_public_name_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "lmsupply", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith(lmsupply.__version__)


def test_the_wheel_and_the_checkers_know_both_names() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["lmsupply", "lmsupply_cli"]
    assert set(project["tool"]["mypy"]["packages"]) == {"lmsupply", "lmsupply_cli"}

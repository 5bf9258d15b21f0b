"""Python functions as tools, named as `module:function`."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from lmsupply_cli.chat.tools.spec import ToolSpec
from lmsupply_cli.errors import UsageError, did_you_mean


def load_function(name: str) -> ToolSpec:
    """`module:function`, of which the module is looked for in the current folder first. Raises UsageError."""
    module_name, colon, function = name.partition(":")
    if not (colon and module_name and function):
        raise UsageError(f"--tool takes module:function, not {name!r}", hint="such as --tool tools:weather")
    if module_name.endswith(".py") or "/" in module_name or "\\" in module_name:
        raise UsageError(
            f"--tool takes the name of a module, not the file {module_name!r}",
            hint=f"in its folder: --tool {Path(module_name).stem}:{function}",
        )
    found = _member(_imported(module_name), module_name, function)
    spec = ToolSpec.of(found)
    if spec.function is None:
        raise UsageError(f"{name} has no function to run", hint="give a typed function")
    return spec


def _imported(name: str) -> ModuleType:
    try:
        with _current_folder_first():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise UsageError(
                f"there is no module {name!r}", hint=f"start the chat in the folder of {name}.py"
            ) from error
        raise UsageError(f"the module {name} cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        raise UsageError(f"the module {name} cannot be imported: {type(error).__name__}: {error}") from error


@contextmanager
def _current_folder_first() -> Iterator[None]:
    """Later imports look there last, so that a file in it does not stand in for a module of ours."""
    folder = str(Path.cwd())
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        if folder not in sys.path:
            sys.path.append(folder)


def _member(module: ModuleType, module_name: str, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            known = [key for key, one in vars(module).items() if callable(one) and not key.startswith("_")]
            raise UsageError(
                f"the module {module_name} has no function {name!r}",
                hint=did_you_mean(name, known, f"it has: {', '.join(known[:10])}" if known else "it has none"),
            )
        value = getattr(value, part)
    return value

"""Which builds of the engine are installed, read from package metadata: the engine is not imported.

The CPU, CUDA, DirectML and WinML builds all install the module onnxruntime_genai, and onnxruntime
and onnxruntime-gpu the module onnxruntime: side by side they overwrite each other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from lmsupply_cli.files import listed
from lmsupply_cli.providers import CPU, ENGINE_WHEEL, PROVIDERS, RUNTIME_WHEEL

# distribution → the providers it carries: its own, and the CPU as every build does
ENGINE_WHEELS = {ENGINE_WHEEL: (CPU.name,)} | {
    wheel: (row.name, CPU.name) for row in PROVIDERS if row is not CPU for wheel in row.wheels
}
_DIST_INFO = re.compile(r"([^-]+)-([^-]+)\.dist-info")
RUNTIME_WHEELS = tuple(dict.fromkeys((RUNTIME_WHEEL, *(row.runtime for row in PROVIDERS if row.runtime))))
PLUGINS = {row.plugin.wheel: row.name for row in PROVIDERS if row.plugin}
_NAMES = (*ENGINE_WHEELS, *RUNTIME_WHEELS, *PLUGINS)


class EngineWheels(NamedTuple):
    """`installed`: (distribution, version) of every engine build found; `notes`: what is wrong, with its fix."""

    installed: tuple[tuple[str, str], ...]
    providers: tuple[str, ...]
    notes: tuple[str, ...]


def detect_engine_wheels() -> EngineWheels:
    return judge_wheels(_versions())


def judge_wheels(versions: Mapping[str, str]) -> EngineWheels:
    """`versions`: of the distributions that are installed."""
    installed = tuple((name, versions[name]) for name in ENGINE_WHEELS if name in versions)
    providers = [provider for name, _ in installed for provider in ENGINE_WHEELS[name]]
    providers += [name for wheel, name in PLUGINS.items() if wheel in versions]
    notes = []
    if not installed:
        notes.append(f"the engine is not installed: {CPU.fix}")
    for kind, names in (("engine", list(ENGINE_WHEELS)), ("runtime", list(RUNTIME_WHEELS))):
        found = [name for name in names if name in versions]
        if len(found) > 1:
            keep = next((name for name in found if name != names[0]), found[0])
            notes.append(
                f"{' and '.join(found)} overwrite each other: pip uninstall -y {' '.join(found)}, then pip install {keep}"
                + ("" if kind == "runtime" else f"=={versions[keep]}")
            )
    for row in PROVIDERS:
        if row is not CPU and row.runtime and row.wheels[0] in versions and row.runtime not in versions:
            notes.append(
                f"the {row.label} engine needs {row.runtime}: "
                f"pip uninstall -y {RUNTIME_WHEEL}, then pip install {row.runtime}"
            )
    return EngineWheels(installed, tuple(dict.fromkeys(providers)), tuple(notes))


def _versions() -> dict[str, str]:
    """By the names of the folders `NAME-VERSION.dist-info`: importlib.metadata would import the email package."""
    found: dict[str, str] = {}
    for folder in sys.path:
        for path in listed(Path(folder), "*.dist-info"):
            match = _DIST_INFO.fullmatch(path.name)
            distribution = match[1].replace("_", "-").lower() if match else ""
            if match and distribution in _NAMES:
                found.setdefault(distribution, match[2])
    return found

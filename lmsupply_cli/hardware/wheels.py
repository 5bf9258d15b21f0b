"""Which builds of the engine are installed, read from package metadata: the engine is not imported.

The CPU, CUDA, DirectML and WinML builds all install the module onnxruntime_genai, and onnxruntime
and onnxruntime-gpu the module onnxruntime: side by side they overwrite each other.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli.files import listed

# distribution → the providers it carries
ENGINE_WHEELS = {
    "onnxruntime-genai": ("cpu",),
    "onnxruntime-genai-cuda": ("cuda", "cpu"),
    "onnxruntime-genai-directml": ("dml", "cpu"),
    "onnxruntime-genai-winml": ("dml", "cpu"),
}
RUNTIME_WHEELS = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml")
WEBGPU_PLUGIN = "onnxruntime-ep-webgpu"
_DIST_INFO = re.compile(r"([^-]+)-([^-]+)\.dist-info")
_NAMES = (*ENGINE_WHEELS, *RUNTIME_WHEELS, WEBGPU_PLUGIN)


@dataclass(frozen=True, slots=True)
class EngineWheels:
    """`installed`: (distribution, version) of every engine build found; `notes`: what is wrong, with its mending."""

    installed: tuple[tuple[str, str], ...]
    providers: tuple[str, ...]
    notes: tuple[str, ...]


def detect_engine_wheels() -> EngineWheels:
    return judge_wheels(_versions())


def judge_wheels(versions: Mapping[str, str]) -> EngineWheels:
    """`versions`: of the distributions that are installed."""
    installed = tuple((name, versions[name]) for name in ENGINE_WHEELS if name in versions)
    providers = [provider for name, _ in installed for provider in ENGINE_WHEELS[name]]
    if WEBGPU_PLUGIN in versions:
        providers.append("webgpu")
    notes = []
    if not installed:
        notes.append("the engine is not installed: pip install onnxruntime-genai")
    for kind, names in (("engine", list(ENGINE_WHEELS)), ("runtime", list(RUNTIME_WHEELS))):
        found = [name for name in names if name in versions]
        if len(found) > 1:
            keep = next((name for name in found if name != names[0]), found[0])
            notes.append(
                f"{' and '.join(found)} overwrite each other: pip uninstall -y {' '.join(found)}, then pip install {keep}"
                + ("" if kind == "runtime" else f"=={versions[keep]}")
            )
    if "onnxruntime-genai-cuda" in versions and "onnxruntime-gpu" not in versions:
        notes.append(
            "the CUDA engine needs onnxruntime-gpu: pip uninstall -y onnxruntime, then pip install onnxruntime-gpu"
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

"""Which builds of the engine are installed, read from package metadata: the engine is not imported."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata

# distribution → the providers it carries; all of them install one module, onnxruntime_genai
ENGINE_WHEELS = {
    "onnxruntime-genai": ("cpu",),
    "onnxruntime-genai-cuda": ("cuda", "cpu"),
    "onnxruntime-genai-directml": ("dml", "cpu"),
    "onnxruntime-genai-winml": ("dml", "cpu"),
}
WEBGPU_PLUGIN = "onnxruntime-ep-webgpu"


@dataclass(frozen=True, slots=True)
class EngineWheels:
    """`installed`: (distribution, version) of every engine build found; `notes`: what is odd about them."""

    installed: tuple[tuple[str, str], ...]
    providers: tuple[str, ...]
    notes: tuple[str, ...]


def detect_engine_wheels() -> EngineWheels:
    installed = tuple((name, version) for name in ENGINE_WHEELS if (version := _version(name)))
    providers = [p for name, _ in installed for p in ENGINE_WHEELS[name]]
    if _version(WEBGPU_PLUGIN):
        providers.append("webgpu")
    notes = []
    if not installed:
        notes.append("the engine is not installed: pip install onnxruntime-genai")
    if len(installed) > 1:
        names = " and ".join(name for name, _ in installed)
        notes.append(f"{names} overwrite each other: uninstall all of them, then install one")
    return EngineWheels(installed, tuple(dict.fromkeys(providers)), tuple(notes))


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None

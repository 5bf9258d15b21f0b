"""lmsupply: language models on your own machine, with ONNX Runtime GenAI.

    from lmsupply_cli import load

    with load("guide") as model:
        print(model.generate("How do I download a model?"))

Names are imported when they are used: `import lmsupply_cli` alone costs next to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Nothing is sent anywhere: the engine and the Hub client read these when they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from lmsupply_cli._version import __version__

if TYPE_CHECKING:
    from lmsupply_cli.chat.messages import ChatMessage, ChatRole
    from lmsupply_cli.engine.cancel import CancelToken
    from lmsupply_cli.engine.options import GenerationOptions
    from lmsupply_cli.errors import (
        DoesNotFit,
        EngineError,
        HubError,
        LicenceNotAccepted,
        LmsupplyError,
        ModelNotFound,
        ModelNotInstalled,
        UsageError,
    )
    from lmsupply_cli.events import Finished, Notice, PrefillProgress, TextDelta, Timings, Usage
    from lmsupply_cli.runtime.generator import Completion, ModelInfo, TextGenerator
    from lmsupply_cli.runtime.loader import load
    from lmsupply_cli.runtime.session import ChatSession

_HOME = {
    "chat.messages": ("ChatMessage", "ChatRole"),
    "engine.cancel": ("CancelToken",),
    "engine.options": ("GenerationOptions",),
    "errors": (
        "DoesNotFit", "EngineError", "HubError", "LicenceNotAccepted", "LmsupplyError", "ModelNotFound",
        "ModelNotInstalled", "UsageError",
    ),
    "events": ("Finished", "Notice", "PrefillProgress", "TextDelta", "Timings", "Usage"),
    "runtime.generator": ("Completion", "ModelInfo", "TextGenerator"),
    "runtime.loader": ("load",),
    "runtime.session": ("ChatSession",),
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "CancelToken",
    "ChatMessage",
    "ChatRole",
    "ChatSession",
    "Completion",
    "DoesNotFit",
    "EngineError",
    "Finished",
    "GenerationOptions",
    "HubError",
    "LicenceNotAccepted",
    "LmsupplyError",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotInstalled",
    "Notice",
    "PrefillProgress",
    "TextDelta",
    "TextGenerator",
    "Timings",
    "Usage",
    "UsageError",
    "__version__",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

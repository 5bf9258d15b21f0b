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
    from lmsupply_cli.chat.formats import register_chat_format
    from lmsupply_cli.chat.formatter import ChatFormatter
    from lmsupply_cli.chat.messages import ChatMessage, ChatRole
    from lmsupply_cli.engine.cancel import CancelToken
    from lmsupply_cli.engine.guidance import Guidance
    from lmsupply_cli.engine.options import GenerationOptions
    from lmsupply_cli.engine.stops import StopSequenceDetector
    from lmsupply_cli.errors import (
        DoesNotFit,
        EngineError,
        HubError,
        LicenceNotAccepted,
        LmsupplyError,
        ModelNotFound,
        ModelNotInstalled,
        QueueFull,
        QueueTimeout,
        UsageError,
    )
    from lmsupply_cli.events import (
        FileProgress,
        Finished,
        Notice,
        PrefillProgress,
        ProgressListener,
        ReasoningDelta,
        SpeculativeStats,
        TextDelta,
        TextWasReasoning,
        Timings,
        Usage,
    )
    from lmsupply_cli.hardware.detect import detect_hardware
    from lmsupply_cli.hardware.profile import HardwareProfile
    from lmsupply_cli.memory.estimate import MemoryEstimate
    from lmsupply_cli.runtime.budget import MemoryOptions
    from lmsupply_cli.runtime.builder import TextGeneratorBuilder
    from lmsupply_cli.runtime.estimating import estimate_memory
    from lmsupply_cli.runtime.factory import ModelFactory
    from lmsupply_cli.runtime.generator import Completion, ModelInfo, TextGenerator
    from lmsupply_cli.runtime.generator_pool import GeneratorPool
    from lmsupply_cli.runtime.loader import load
    from lmsupply_cli.runtime.model_pool import ModelPool
    from lmsupply_cli.runtime.pulling import pull
    from lmsupply_cli.runtime.session import ChatSession
    from lmsupply_cli.store.locate import LocatedModel
    from lmsupply_cli.store.model_store import ModelStore

_HOME = {
    "chat.formats": ("register_chat_format",),
    "chat.formatter": ("ChatFormatter",),
    "chat.messages": ("ChatMessage", "ChatRole",),
    "engine.cancel": ("CancelToken",),
    "engine.guidance": ("Guidance",),
    "engine.options": ("GenerationOptions",),
    "engine.stops": ("StopSequenceDetector",),
    "errors": ("DoesNotFit", "EngineError", "HubError", "LicenceNotAccepted", "LmsupplyError", "ModelNotFound", "ModelNotInstalled", "QueueFull", "QueueTimeout", "UsageError",),
    "events": ("FileProgress", "Finished", "Notice", "PrefillProgress", "ProgressListener", "ReasoningDelta", "SpeculativeStats", "TextDelta", "TextWasReasoning", "Timings", "Usage",),
    "hardware.detect": ("detect_hardware",),
    "hardware.profile": ("HardwareProfile",),
    "memory.estimate": ("MemoryEstimate",),
    "runtime.budget": ("MemoryOptions",),
    "runtime.builder": ("TextGeneratorBuilder",),
    "runtime.estimating": ("estimate_memory",),
    "runtime.factory": ("ModelFactory",),
    "runtime.generator": ("Completion", "ModelInfo", "TextGenerator",),
    "runtime.generator_pool": ("GeneratorPool",),
    "runtime.loader": ("load",),
    "runtime.model_pool": ("ModelPool",),
    "runtime.pulling": ("pull",),
    "runtime.session": ("ChatSession",),
    "store.locate": ("LocatedModel",),
    "store.model_store": ("ModelStore",),
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "CancelToken",
    "ChatFormatter",
    "ChatMessage",
    "ChatRole",
    "ChatSession",
    "Completion",
    "DoesNotFit",
    "EngineError",
    "FileProgress",
    "Finished",
    "GenerationOptions",
    "GeneratorPool",
    "Guidance",
    "HardwareProfile",
    "HubError",
    "LicenceNotAccepted",
    "LmsupplyError",
    "LocatedModel",
    "MemoryEstimate",
    "MemoryOptions",
    "ModelFactory",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotInstalled",
    "ModelPool",
    "ModelStore",
    "Notice",
    "PrefillProgress",
    "ProgressListener",
    "QueueFull",
    "QueueTimeout",
    "ReasoningDelta",
    "SpeculativeStats",
    "StopSequenceDetector",
    "TextDelta",
    "TextGenerator",
    "TextGeneratorBuilder",
    "TextWasReasoning",
    "Timings",
    "Usage",
    "UsageError",
    "__version__",
    "detect_hardware",
    "estimate_memory",
    "load",
    "pull",
    "register_chat_format",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)

"""lmsupply: language models on your own machine, with ONNX Runtime GenAI.

    from lmsupply import load

    with load("guide") as model:
        print(model.generate("How do I download a model?"))

Names are imported when they are used: `import lmsupply` alone costs next to nothing.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

# Nothing is sent anywhere: the engine and the Hub client read these when they are imported.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from lmsupply_cli._version import __version__

if TYPE_CHECKING:
    from lmsupply_cli.catalogue.entry import CatalogueEntry, License
    from lmsupply_cli.chat.formats import register_chat_format
    from lmsupply_cli.chat.formatter import ChatFormatter, Prompt, PromptFormat
    from lmsupply_cli.chat.messages import ChatMessage, ChatRole
    from lmsupply_cli.chat.tools.spec import ToolRequest, ToolSpec
    from lmsupply_cli.chats.session import ChatSession, PromptCost, SessionListener
    from lmsupply_cli.engine.cancel import CancelToken
    from lmsupply_cli.engine.ending import StopSequenceDetector
    from lmsupply_cli.engine.guidance import Guidance
    from lmsupply_cli.engine.options import GenerationOptions
    from lmsupply_cli.errors import (
        ContextOverflow,
        DoesNotFit,
        EngineError,
        EngineUnavailable,
        HubError,
        LicenseNotAccepted,
        LmsupplyError,
        ModelFilesError,
        ModelNotFound,
        ModelNotInstalled,
        NotImported,
        ProviderUnavailable,
        QueueFull,
        QueueTimeout,
        SettingsError,
        UntrustedModelFiles,
        UsageError,
        WorkerDied,
    )
    from lmsupply_cli.events import (
        FileProgress,
        Finished,
        FinishReason,
        GenerationEvent,
        Notice,
        PrefillProgress,
        ProgressListener,
        ReasoningDelta,
        SpeculativeStats,
        TextDelta,
        TextWasReasoning,
        Timings,
        TokenLogprob,
        ToolCall,
        ToolCallDelta,
        Usage,
    )
    from lmsupply_cli.generation.answers import Generates
    from lmsupply_cli.generation.classification import ChoiceScore, Classification
    from lmsupply_cli.generation.completion import Completion, ModelInfo
    from lmsupply_cli.generation.generator import GeneratorLimits, TextGenerator
    from lmsupply_cli.generation.load import load
    from lmsupply_cli.generation.prompter import Prompter
    from lmsupply_cli.generation.tools import ToolListener, ToolRun
    from lmsupply_cli.hardware.detect import detect_hardware
    from lmsupply_cli.hardware.profile import Cpu, Gpu, HardwareProfile, Memory
    from lmsupply_cli.loading.estimating import estimate_memory
    from lmsupply_cli.loading.importing import import_model
    from lmsupply_cli.loading.options import LoadOptions
    from lmsupply_cli.loading.plan import LoadPlan, plan_load
    from lmsupply_cli.loading.pulling import pull
    from lmsupply_cli.memory.budget import MemoryOptions
    from lmsupply_cli.memory.estimate import MemoryEstimate
    from lmsupply_cli.serving.async_generator import AsyncTextGenerator, load_async
    from lmsupply_cli.serving.builder import TextGeneratorBuilder
    from lmsupply_cli.serving.factory import Lease, ModelFactory
    from lmsupply_cli.serving.generator_pool import GeneratorPool, QueueStats
    from lmsupply_cli.serving.model_pool import LoadedModel, ModelPool, PoolHooks, PoolStats
    from lmsupply_cli.store.locate import LocatedModel
    from lmsupply_cli.store.manifest import ImportForm, ImportSource, SourceFile
    from lmsupply_cli.store.model_store import ModelStore
    from lmsupply_cli.store.verify import FileCheck, ModelCheck

_HOME = {
    "catalogue.entry": ("CatalogueEntry", "License",),
    "chat.formats": ("register_chat_format",),
    "chat.formatter": ("ChatFormatter", "Prompt", "PromptFormat",),
    "chat.messages": ("ChatMessage", "ChatRole",),
    "chat.tools.spec": ("ToolRequest", "ToolSpec",),
    "engine.cancel": ("CancelToken",),
    "engine.guidance": ("Guidance",),
    "engine.options": ("GenerationOptions",),
    "engine.ending": ("StopSequenceDetector",),
    "errors": ("ContextOverflow", "DoesNotFit", "EngineError", "EngineUnavailable", "HubError", "LicenseNotAccepted", "LmsupplyError", "ModelFilesError", "ModelNotFound", "ModelNotInstalled", "NotImported", "ProviderUnavailable", "QueueFull", "QueueTimeout", "SettingsError", "UntrustedModelFiles", "UsageError", "WorkerDied",),
    "events": ("FileProgress", "FinishReason", "Finished", "GenerationEvent", "Notice", "PrefillProgress", "ProgressListener", "ReasoningDelta", "SpeculativeStats", "TextDelta", "TextWasReasoning", "Timings", "TokenLogprob", "ToolCall", "ToolCallDelta", "Usage",),
    "hardware.detect": ("detect_hardware",),
    "hardware.profile": ("Cpu", "Gpu", "HardwareProfile", "Memory",),
    "memory.estimate": ("MemoryEstimate",),
    "memory.budget": ("MemoryOptions",),
    "serving.async_generator": ("AsyncTextGenerator", "load_async",),
    "serving.builder": ("TextGeneratorBuilder",),
    "generation.classification": ("ChoiceScore", "Classification",),
    "generation.completion": ("Completion", "ModelInfo",),
    "generation.load": ("load",),
    "generation.prompter": ("Prompter",),
    "generation.tools": ("ToolListener", "ToolRun",),
    "loading.options": ("LoadOptions",),
    "loading.plan": ("LoadPlan", "plan_load",),
    "loading.estimating": ("estimate_memory",),
    "loading.importing": ("import_model",),
    "serving.factory": ("Lease", "ModelFactory",),
    "generation.answers": ("Generates",),
    "generation.generator": ("GeneratorLimits", "TextGenerator",),
    "serving.generator_pool": ("GeneratorPool", "QueueStats",),
    "serving.model_pool": ("LoadedModel", "ModelPool", "PoolHooks", "PoolStats",),
    "loading.pulling": ("pull",),
    "chats.session": ("ChatSession", "PromptCost", "SessionListener",),
    "store.locate": ("LocatedModel",),
    "store.manifest": ("ImportForm", "ImportSource", "SourceFile",),
    "store.model_store": ("ModelStore",),
    "store.verify": ("FileCheck", "ModelCheck",),
}  # fmt: skip
_MODULE = {name: module for module, names in _HOME.items() for name in names}

__all__ = [
    "AsyncTextGenerator",
    "CancelToken",
    "CatalogueEntry",
    "ChatFormatter",
    "ChatMessage",
    "ChatRole",
    "ChatSession",
    "ChoiceScore",
    "Classification",
    "Completion",
    "ContextOverflow",
    "Cpu",
    "DoesNotFit",
    "EngineError",
    "EngineUnavailable",
    "FileCheck",
    "FileProgress",
    "FinishReason",
    "Finished",
    "Generates",
    "GenerationEvent",
    "GenerationOptions",
    "GeneratorLimits",
    "GeneratorPool",
    "Gpu",
    "Guidance",
    "HardwareProfile",
    "HubError",
    "ImportForm",
    "ImportSource",
    "Lease",
    "License",
    "LicenseNotAccepted",
    "LmsupplyError",
    "LoadOptions",
    "LoadPlan",
    "LoadedModel",
    "LocatedModel",
    "Memory",
    "MemoryEstimate",
    "MemoryOptions",
    "ModelCheck",
    "ModelFactory",
    "ModelFilesError",
    "ModelInfo",
    "ModelNotFound",
    "ModelNotInstalled",
    "ModelPool",
    "ModelStore",
    "NotImported",
    "Notice",
    "PoolHooks",
    "PoolStats",
    "PrefillProgress",
    "ProgressListener",
    "Prompt",
    "PromptCost",
    "PromptFormat",
    "Prompter",
    "ProviderUnavailable",
    "QueueFull",
    "QueueStats",
    "QueueTimeout",
    "ReasoningDelta",
    "SessionListener",
    "SettingsError",
    "SourceFile",
    "SpeculativeStats",
    "StopSequenceDetector",
    "TextDelta",
    "TextGenerator",
    "TextGeneratorBuilder",
    "TextWasReasoning",
    "Timings",
    "TokenLogprob",
    "ToolCall",
    "ToolCallDelta",
    "ToolListener",
    "ToolRequest",
    "ToolRun",
    "ToolSpec",
    "UntrustedModelFiles",
    "Usage",
    "UsageError",
    "WorkerDied",
    "__version__",
    "detect_hardware",
    "estimate_memory",
    "import_model",
    "load",
    "load_async",
    "plan_load",
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

"""Write docs/api.md from the docstrings of the public names; a test fails when it is stale.

python tools/make_api.py
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_args, get_origin

import lmsupply_cli

PAGE = Path(__file__).resolve().parent.parent / "docs" / "api.md"
GROUPS = {
    "Load and generate": (
        "load", "TextGenerator", "GeneratorLimits", "Generates", "TextGeneratorBuilder", "LoadOptions", "LoadPlan", "plan_load", "ChatSession", "Completion", "ModelInfo", "GenerationOptions",
        "Guidance", "Classification", "ChoiceScore", "CancelToken", "SessionListener", "PromptCost", "Prompt", "Prompter",
    ),
    "Messages and formats": ("ChatMessage", "ChatRole", "ChatFormatter", "PromptFormat", "register_chat_format", "StopSequenceDetector"),
    "Events": (
        "PrefillProgress", "TextDelta", "ReasoningDelta", "TextWasReasoning", "TokenLogprob", "Notice", "Finished", "Usage", "Timings",
        "SpeculativeStats", "GenerationEvent", "FinishReason",
    ),
    "Models on this machine": (
        "pull", "ModelStore", "ModelFactory", "Lease", "LocatedModel", "CatalogueEntry", "License", "ModelCheck",
        "FileCheck", "ProgressListener", "FileProgress",
    ),
    "Many callers, several models": ("GeneratorPool", "QueueStats", "ModelPool", "PoolHooks", "PoolStats", "LoadedModel"),
    "Machine and memory": (
        "detect_hardware", "HardwareProfile", "Cpu", "Memory", "Gpu", "estimate_memory", "MemoryEstimate", "MemoryOptions",
    ),
    "Errors": (
        "LmsupplyError", "UsageError", "SettingsError", "ModelNotFound", "ModelNotInstalled", "DoesNotFit", "LicenseNotAccepted",
        "EngineError", "EngineUnavailable", "ProviderUnavailable", "ModelFilesError", "UntrustedModelFiles", "HubError", "QueueFull", "QueueTimeout",
    ),
}  # fmt: skip
HEAD = """# The Python library

Written by `tools/make_api.py` from the docstrings. Everything here is imported from `lmsupply`; names are loaded
when they are used. Nothing needs typer, rich or prompt_toolkit.
"""


def page() -> str:
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts.append(f"\n## {title}\n")
        parts += [entry(name, getattr(lmsupply_cli, name)) for name in names]
    return "".join(parts)


def entry(name: str, thing: Any) -> str:
    if not callable(thing) or get_origin(thing):
        return f"\n### `{name}`\n\n{alias(thing)}\n"
    if not inspect.isclass(thing):
        return f"\n### `{name}{signature(thing)}`\n\n{text(thing)}\n"
    own_init = thing.__dict__.get("__init__")
    shown = "" if own_init is None or issubclass(thing, Exception) or is_protocol(thing) else signature(own_init)
    out = f"\n### class `{name}{shown}`\n\n{text(thing)}\n"
    if own_init is not None and not dataclasses.is_dataclass(thing) and inspect.getdoc(own_init) and own_init.__doc__:
        out += f"\n{text(own_init)}\n"
    for member, value in members(thing).items():
        if member.startswith("_"):
            continue
        if isinstance(value, property):
            out += item(member, value.fget)
        elif isinstance(value, (classmethod, staticmethod)):
            out += item(f"{name}.{member}{signature(value.__func__)}", value.__func__)
        elif inspect.isfunction(value):
            out += item(member + signature(value), value)
    return out


def members(thing: type) -> dict[str, Any]:
    """Its own, then those of its bases of lmsupply that have no page of their own."""
    found = dict(vars(thing))
    for base in thing.__mro__[1:]:
        if base.__module__.startswith("lmsupply_cli.") and base.__name__ not in lmsupply_cli.__all__:
            found |= {name: value for name, value in vars(base).items() if name not in found}
    return found


def alias(thing: Any) -> str:
    """What a name for several types, or for several words, stands for."""
    return "One of " + ", ".join(f"`{getattr(part, '__name__', repr(part))}`" for part in get_args(thing)) + "."


def item(head: str, thing: Any) -> str:
    said = text(thing).replace("\n", " ")
    return f"- `{head}`" + (f": {said}\n" if said else "\n")


def is_protocol(thing: type) -> bool:
    return bool(getattr(thing, "_is_protocol", False))


def signature(thing: Any) -> str:
    """Without self and cls."""
    found = inspect.signature(thing)
    parts, starred = [], False
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred = starred or parameter.kind in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL)
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f" = {value(parameter.default)}"
        kind = "" if parameter.annotation is parameter.empty else f": {parameter.annotation}"
        parts.append(star + parameter.name + kind + default)
    back = "" if found.return_annotation in (found.empty, "None", None) else f" -> {found.return_annotation}"
    return f"({', '.join(parts)}){back}"


def value(default: Any) -> str:
    return "…" if callable(default) else repr(default)


def text(thing: Any) -> str:
    """The docstring; lines that begin with >>> or ... become a block of code."""
    own = thing.__dict__.get("__doc__") if inspect.isclass(thing) else thing.__doc__
    said = inspect.cleandoc(own or "")
    if dataclasses.is_dataclass(thing) and said.startswith(f"{thing.__name__}("):  # made by dataclass
        return "Fields: " + ", ".join(f"`{f.name}: {f.type}`" for f in dataclasses.fields(thing))
    out: list[str] = []
    inside = False
    for line in [*said.splitlines(), ""]:
        code = line.startswith((">>> ", "... "))
        if code != inside:
            out.append("```python" if code else "```")
        if code and not line.startswith((">>> from", ">>> import")) and out[-1].startswith(("from ", "import ")):
            out.append("")  # as the formatter has it
        out.append(line[4:] if code else line)
        inside = code
    return "\n".join(out).strip()


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")

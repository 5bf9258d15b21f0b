"""The engine raises one kind of error for everything: say which it was, by where it happened."""

from __future__ import annotations

from pathlib import Path

from lmsupply_cli.errors import EngineError, LmsupplyError, ModelFilesError, ProviderUnavailable, UsageError
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.providers import CPU, ROWS
from lmsupply_cli.units import cut

_GRAMMAR = "Error creating grammar: "
_COMMIT = ("Error committing tokens", "ParserTooComplex", "Parser Error")
_MEMORY = ("bad_alloc", "could not allocate", "failed to allocate", "out of memory")
_PROVIDER = ("interface not available", "provider is not supported", "has not been built with", "provider requested")


def load_error(
    error: Exception, folder: Path, *, provider: str = "auto", again: str = "copy the folder again"
) -> LmsupplyError:
    """What went wrong while a checked folder was loaded; `provider` as it was asked for, `again` as in ModelFolder."""
    text = _line(error)
    lower = text.lower()
    if any(words in lower for words in _MEMORY):
        return EngineError(f"not enough memory to load {folder}", hint="use a smaller model, or close other programs")
    if provider in ROWS and ROWS[provider].plugin and any(words in lower for words in _PROVIDER):
        return ProviderUnavailable(
            f"`provider={provider}`: the plug-in is installed, but it found no device ({text})",
            hint="it needs a GPU and its driver; `provider=cpu` works everywhere",
        )
    if provider == "auto" and any(words in lower for words in _PROVIDER):
        return ProviderUnavailable(
            f"this folder needs a provider that the installed engine does not support: {text}",
            hint="lmsupply hw shows the providers; `provider=cpu` runs most folders on the CPU",
        )
    if "unknown value" in lower:
        said = text.partition("JSON Error:")[2].strip() or text
        return ModelFilesError(
            f"{folder / CONFIG}: the engine does not know this key, or not with such a value: {said}",
            hint="the folder may be made for a newer engine; lmsupply hw shows which one is installed",
        )
    if "json error:" in lower:
        return ModelFilesError(
            f"{folder / CONFIG}: {text.partition('JSON Error:')[2].strip()}",
            hint="correct it there, or take another copy of the model",
        )
    if provider not in ("auto", CPU.name):
        return ProviderUnavailable(
            f"`provider={provider}` does not work here: {text}",
            hint="lmsupply hw shows what it needs; `provider=cpu` works everywhere",
        )
    return ModelFilesError(f"cannot load {folder}: {text}", hint=again)


def run_error(error: Exception) -> LmsupplyError:
    """What went wrong while text was generated."""
    text = _line(error)
    if any(words in text.lower() for words in _MEMORY):
        return EngineError("the engine ran out of memory", hint="use a smaller `context` or `max_tokens`")
    if text.startswith(_GRAMMAR):
        return UsageError(
            f"the guidance cannot be used: {_reason(error)}", hint="simplify the schema, pattern or grammar"
        )
    if any(words in str(error) for words in _COMMIT):
        return EngineError(
            "this model cannot follow the guidance: for a character in it the vocabulary has no whole token",
            hint="keep enum, const, pattern and property names to ASCII, or use another model",
        )
    return EngineError(f"the engine failed: {text}", hint="`debug` shows the traceback")


def _reason(error: Exception) -> str:
    """Of the engine's words on a grammar, those that say why."""
    lines = [line.strip() for line in str(error).removeprefix(_GRAMMAR).splitlines()]
    said = next((line for line in lines if line.startswith("error: ")), "").removeprefix("error: ")
    first = lines[0] if lines else ""
    if "oneOf" in first:
        return "branches of a oneOf may overlap; anyOf would do"
    if "panic" in first:
        return "it is too large"
    return said or first


def _line(error: Exception) -> str:
    """The first line that says something, shortened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return cut(lines[0] if lines else type(error).__name__, 240)

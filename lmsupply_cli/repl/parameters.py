"""`/set`: lmsupply's names for generation settings, and Ollama's for those who know them."""

from __future__ import annotations

from typing import Any

from lmsupply_cli.chats.session import ChatSession
from lmsupply_cli.config.table import GENERATION_KEYS, SETTINGS
from lmsupply_cli.config.values import as_text, check_value, parse_text
from lmsupply_cli.errors import UsageError, did_you_mean
from lmsupply_cli.generation.answers import ChatGenerator

ALIASES = {
    "temp": "temperature",
    "num_predict": "max_tokens",
    "num_ctx": "context",
    "repeat_penalty": "repetition_penalty",
}
EXCLUDED = {"num_beams", *(key for key in GENERATION_KEYS if SETTINGS[key].json_only)}  # of no use in a chat
PARAMETERS: tuple[str, ...] = (*(k for k in GENERATION_KEYS if k not in EXCLUDED), "context", *ALIASES)


def parameter_key(name: str) -> str:
    """The setting that `name` refers to, by any of its names. Raises UsageError if a chat cannot set it."""
    key = name.lower().replace("-", "_")
    key = ALIASES.get(key, key)
    if key in EXCLUDED:
        raise UsageError(f"a chat cannot use {key}", hint=f"lmsupply run --{key.replace('_', '-')}")
    if key not in PARAMETERS:
        raise UsageError(f"no such parameter: {name}", hint=did_you_mean(key, PARAMETERS, "/set shows the parameters"))
    return key


def parse_parameter(key: str, text: str) -> Any:
    """The value of a parameter as it is typed; None for `default`. Raises UsageError."""
    if text.lower() in ("default", "none", '""', "''"):
        return None
    quoted = len(text) > 2 and text[0] == text[-1] and text[0] in "\"'"
    try:
        if key == "stop" and quoted:  # a comma may be part of it
            return check_value(key, text[1:-1], place="/set")
        return parse_text(key, text, place="/set")
    except UsageError as error:
        raise UsageError(error.message, hint=error.hint or f"/set {key} default resets it") from error


def change_parameter(session: ChatSession[ChatGenerator], key: str, value: Any) -> None:
    """Set it from the next answer on; None restores the model's own value. Raises UsageError, DoesNotFit."""
    generator = session.generator
    if key == "context":
        generator.resize_context(value)
        return
    changed = session.options.replaced(**{key: getattr(generator.options, key) if value is None else value})
    generator.check_options(changed, session.guidance)
    session.options = changed


def parameter_value(session: ChatSession[ChatGenerator], key: str) -> str:
    """As it is shown."""
    values = session.options.as_dict(guided=session.guidance is not None)
    return value_text(session.generator.context_tokens if key == "context" else values[key])


def parameter_rows(session: ChatSession[ChatGenerator], only: str = "") -> list[tuple[str, str]]:
    """Name, value and meaning of every parameter, or of one."""
    keys = [only] if only else [key for key in PARAMETERS if key not in ALIASES]
    return [(key, f"{parameter_value(session, key):<8} {SETTINGS[key].help}") for key in keys]


def value_text(value: object) -> str:
    if isinstance(value, tuple):
        texts = (f"{one[0]}={one[1]:g}" if isinstance(one, tuple) else repr(one) for one in value)
        return ", ".join(texts) or "none"
    return "none" if value is None else as_text(value)

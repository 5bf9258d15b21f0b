"""`/set`: lmsupply's names for generation settings, and Ollama's for those who know them."""

from __future__ import annotations

from typing import Any

from lmsupply_cli.chats.session import ChatSession
from lmsupply_cli.config.table import GENERATION_KEYS, SETTINGS
from lmsupply_cli.config.values import parse_text
from lmsupply_cli.errors import UsageError, did_you_mean
from lmsupply_cli.generation.generator import TextGenerator

ALIASES = {"num_predict": "max_tokens", "num_ctx": "context", "repeat_penalty": "repetition_penalty"}
EXCLUDED = {"num_beams", *(key for key in GENERATION_KEYS if SETTINGS[key].json_only)}  # of no use in a chat
PARAMETERS: tuple[str, ...] = (*(k for k in GENERATION_KEYS if k not in EXCLUDED), "context", *ALIASES)


def change_parameter(session: ChatSession[TextGenerator], name: str, text: str) -> tuple[str, Any]:
    """Set it from the next answer on; `default` or `none` resets it. Returns its key and value. Raises UsageError,
    DoesNotFit."""
    key = ALIASES.get(name.lower(), name.lower().replace("-", "_"))
    if key in EXCLUDED:
        raise UsageError(f"a chat cannot use {key}", hint=f"lmsupply run --{key.replace('_', '-')}")
    if key not in PARAMETERS:
        raise UsageError(f"no such parameter: {name}", hint=did_you_mean(key, PARAMETERS, "/set shows the parameters"))
    generator = session.generator
    if text.lower() in ("default", "none", '""', "''"):
        value = SETTINGS[key].default
        value = generator.fitting_tokens if key == "context" else value
    else:
        value = parse_text(key, text, place="/set")
    if key == "context":
        generator.resize_context(value)
    else:
        changed = session.options.replaced(**{key: value})
        generator.check_options(changed, session.guidance)
        session.options = changed
    return key, value


def parameter_rows(session: ChatSession[TextGenerator]) -> list[tuple[str, str]]:
    values = session.options.as_dict() | {"context": session.generator.context_tokens}
    return [(key, f"{value_text(values[key]):<8} {SETTINGS[key].help}") for key in PARAMETERS if key not in ALIASES]


def value_text(value: object) -> str:
    if isinstance(value, tuple):
        texts = (f"{one[0]}={one[1]:g}" if isinstance(one, tuple) else repr(one) for one in value)
        return ",".join(texts) or "none"
    return "none" if value is None else str(value)

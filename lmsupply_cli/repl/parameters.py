"""`/set parameter`: our names, and Ollama's for those who know them."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING

from lmsupply_cli.config.table import GENERATION_KEYS, SETTINGS
from lmsupply_cli.config.values import parse_text
from lmsupply_cli.errors import UsageError

if TYPE_CHECKING:
    from lmsupply_cli.repl.loop import ChatLoop

ALIASES = {"num_predict": "max_tokens", "num_ctx": "context", "repeat_penalty": "repetition_penalty"}
EXCLUDED = {"num_beams", *(key for key in GENERATION_KEYS if SETTINGS[key].json_only)}  # of no use in a chat
PARAMETERS: tuple[str, ...] = (*(k for k in GENERATION_KEYS if k not in EXCLUDED), "context", *ALIASES)


def set_parameter(loop: ChatLoop, name: str, text: str) -> str:
    """Set it for the answers to come, `default` or `none` as it was at first; what to say of it. Raises UsageError,
    DoesNotFit."""
    key = ALIASES.get(name.lower(), name.lower().replace("-", "_"))
    if key in EXCLUDED:
        raise UsageError(f"a chat cannot use {key}", hint=f"lmsupply run --{key.replace('_', '-')}")
    if key not in PARAMETERS:
        near = get_close_matches(key, PARAMETERS, n=1)
        raise UsageError(
            f"no such parameter: {name}", hint=f"did you mean {near[0]}?" if near else "/set shows the parameters"
        )
    generator = loop.session.generator
    if text.lower() in ("default", "none", '""', "''"):
        value = SETTINGS[key].default
        value = generator.fitting_tokens if key == "context" else value
    else:
        value = parse_text(key, text, place="/set")
    if key == "context":
        generator.resize_context(value)
    else:
        changed = loop.session.options.replaced(**{key: value})
        generator.check_options(changed, loop.session.guidance)
        loop.session.options = changed
    loop.keep_option(key, value)
    shown = _text(value) if isinstance(value, tuple) else value
    return f"{key} is {shown} from the next answer on."


def parameter_rows(loop: ChatLoop) -> list[tuple[str, str]]:
    generator = loop.session.generator
    values = loop.session.options.as_dict() | {"context": generator.context_tokens}
    return [(key, f"{_text(values[key]):<8} {SETTINGS[key].help}") for key in PARAMETERS if key not in ALIASES]


def _text(value: object) -> str:
    if isinstance(value, tuple):
        texts = (f"{one[0]}={one[1]:g}" if isinstance(one, tuple) else repr(one) for one in value)
        return ",".join(texts) or "none"
    return "none" if value is None else str(value)

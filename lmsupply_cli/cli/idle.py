"""Options that have no effect together with others: refused if they contradict each other, else noted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmsupply_cli.chat.formatter import PromptFormat
from lmsupply_cli.config.layers import Settings, Value
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import Notice

_NEUTRAL: Mapping[str, Any] = {"top_p": 1, "top_k": 0, "min_p": 0}


def check_flags(settings: Settings) -> None:
    """Raises UsageError for flags of which one can have no effect, whatever the model."""
    if _flag(settings, "draft_tokens") and settings.get("speculative") == "off":
        raise UsageError("`draft_tokens` has no effect without speculative decoding", hint="add --speculative ngram")
    if _flag(settings, "logprobs") is False and _flag(settings, "top_logprobs"):
        raise UsageError("--no-logprobs and --top-logprobs can't be combined", hint="use one of them")
    if _flag(settings, "do_sample") is False and (temperature := _flag(settings, "temperature")):
        raise UsageError(f"--no-sample and `temperature={temperature:g}` can't be combined", hint="use one of them")


def idle_sampling(values: Mapping[str, Value], options: GenerationOptions) -> list[Notice]:
    """A notice naming the flags that a greedy answer ignores."""
    if not options.greedy or options.num_beams > 1:
        return []
    ignored = ["top_p", "top_k", "min_p"]
    if options.do_sample:
        reason = "at temperature 0"
        ignored.append("do_sample")
    else:
        reason = "when sampling is off"
        ignored += ["temperature"] if options.temperature > 0 else []
    named = [key for key in ignored if values[key].source == "flag" and values[key].value != _NEUTRAL.get(key)]
    if not named:
        return []
    names = " and ".join(f"`{key}`" for key in named)
    return [Notice("no_effect", f"{names} {'has' if len(named) == 1 else 'have'} no effect {reason}")]


def idle_thinking(settings: Settings, format: PromptFormat) -> list[Notice]:
    """A notice if `--think` is given for a model without a thinking mode."""
    wanted = _flag(settings, "think")
    if wanted is None or format.can_think:
        return []
    return [Notice("no_effect", f"`think={wanted}` has no effect: this model has no thinking mode")]


def _flag(settings: Settings, key: str) -> Any:
    """The value given by a flag, or None."""
    found = settings.value(key)
    return found.value if found.source == "flag" else None

"""`lmsupply hw --check`: the guide, for real, through each provider."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.units import format_rate, format_seconds

_QUESTION, _ANSWER = "How do I download a model?", "lmsupply pull"


@dataclass
class ProviderCheck:
    provider: str
    ok: bool
    text: str


def check_providers(names: Sequence[str]) -> list[ProviderCheck]:
    return [_check(name) for name in names]


def _check(name: str) -> ProviderCheck:
    from lmsupply_cli.generation.load import load

    try:
        with load("guide", provider=name) as model:
            answer = model.generate(_QUESTION, temperature=0)
    except LmsupplyError as error:
        return ProviderCheck(name, False, f"{name} fails: {error.message}")
    if _ANSWER not in answer.text:
        return ProviderCheck(name, False, f"{name} runs and answers nonsense: {answer.text!r}")
    rate = format_rate(answer.usage.completion_tokens, answer.timings.decode_s)
    return ProviderCheck(name, True, f"{name} works: loaded in {format_seconds(answer.timings.load_s)}, {rate}")

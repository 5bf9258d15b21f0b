"""Fields that chat completions and completions share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from lmsupply_cli.server.body import MOST_STOPS, Form, Part, string_or_list, told_by
from lmsupply_cli.server.sampling import generation_options

NO_EFFECT = frozenset(
    {
        "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_options",
        "prompt_cache_retention",
    }
)  # fmt: skip
SAMPLING = (
    "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty", "frequency_penalty", "seed", "stop",
    "logit_bias",
)  # fmt: skip


class StreamOptions(Part):
    """`include_usage`: a last chunk with the usage."""

    include_usage: bool = False
    no_effect = frozenset({"include_obfuscation"})


class Sampling(Part):
    """Limits are those of the generation options."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: (
        Annotated[
            Annotated[str, Form("string")] | Annotated[list[str], Field(max_length=MOST_STOPS), Form("list")],
            told_by(string_or_list, "a string or a list of strings"),
        ]
        | None
    ) = None
    logit_bias: dict[str, float] | None = None

    def options(self, more: Mapping[str, Any], *, names: Mapping[str, str]) -> dict[str, Any]:
        """As generation options, with `more` of them. `names`: the field by the option, where they differ. Raises ApiError
        that names the field."""
        return generation_options({name: getattr(self, name) for name in SAMPLING} | dict(more), names=names)

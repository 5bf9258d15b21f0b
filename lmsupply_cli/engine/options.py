"""How text is generated: one frozen value, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from lmsupply_cli.config.table import GENERATION, GENERATION_KEYS, SETTINGS
from lmsupply_cli.config.values import check_value
from lmsupply_cli.errors import UsageError

_LEAST_TEMPERATURE = 1e-6  # below, differences of float32 scores are as good as infinite
_DEFAULT: dict[str, Any] = {s.key: s.default for s in GENERATION}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    "creative": {"temperature": 1.0, "top_p": 0.95, "top_k": 100, "min_p": 0.02},
    "precise": {"temperature": 0.2, "top_p": 0.9, "top_k": 40},
    "greedy": {"temperature": 0.0, "do_sample": False, "repetition_penalty": 1.0},
}


@dataclass(frozen=True, slots=True)
class GenerationOptions:
    """Limits, defaults and meaning are those of `config.table.GENERATION`.

    `max_tokens` and `min_length` count tokens of the completion. At temperature 0, or with
    `do_sample` off, the likeliest token is taken each time. Raises UsageError for a bad value.
    """

    max_tokens: int = _DEFAULT["max_tokens"]
    temperature: float = _DEFAULT["temperature"]
    top_p: float = _DEFAULT["top_p"]
    top_k: int = _DEFAULT["top_k"]
    min_p: float = _DEFAULT["min_p"]
    repetition_penalty: float = _DEFAULT["repetition_penalty"]
    min_length: int = _DEFAULT["min_length"]
    no_repeat_ngram_size: int = _DEFAULT["no_repeat_ngram_size"]
    do_sample: bool = _DEFAULT["do_sample"]
    num_beams: int = _DEFAULT["num_beams"]
    seed: int | None = _DEFAULT["seed"]
    stop: tuple[str, ...] = _DEFAULT["stop"]
    past_present_share_buffer: bool | None = _DEFAULT["past_present_share_buffer"]

    def __post_init__(self) -> None:
        for key in GENERATION_KEYS:
            object.__setattr__(self, key, check_value(key, getattr(self, key)))
        if self.min_length > self.max_tokens:
            raise UsageError(f"--min-length {self.min_length} is more than --max-tokens {self.max_tokens}")

    @property
    def greedy(self) -> bool:
        """Whether the likeliest token is taken, always."""
        return not self.do_sample or self.temperature < _LEAST_TEMPERATURE

    @classmethod
    def preset(cls, name: str) -> GenerationOptions:
        """`creative`, `precise` or `greedy`."""
        return cls(**preset_values(name))

    def replaced(self, **changes: Any) -> GenerationOptions:
        """A copy with `changes`. Raises UsageError for an option that does not exist."""
        for key in changes:
            if key not in SETTINGS or key not in GENERATION_KEYS:
                raise UsageError(f"unknown generation option {key!r}", hint="options: " + ", ".join(GENERATION_KEYS))
        return replace(self, **changes)

    def as_dict(self) -> dict[str, Any]:
        """Every option by its name."""
        return asdict(self)


def preset_values(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}", hint="presets: " + ", ".join(PRESETS))
    return dict(PRESETS[name])

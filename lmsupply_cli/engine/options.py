"""How text is generated: one frozen value, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypedDict

from lmsupply_cli.config.table import GENERATION, GENERATION_KEYS
from lmsupply_cli.config.values import check_value
from lmsupply_cli.errors import UsageError, did_you_mean

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

    `max_tokens` and `min_length` count tokens of the completion. Temperature 0, or `do_sample` off, always picks the most
    likely token. `repetition_penalty` None: `model_penalty`, which is the model's own or 1.1, where answers are sampled
    and free, else 1.0. `logit_bias`: a mapping of token ids to numbers, kept as pairs;
    `top_logprobs` turns `logprobs` on.
    Raises UsageError for a bad value.
    """

    max_tokens: int = _DEFAULT["max_tokens"]
    temperature: float = _DEFAULT["temperature"]
    top_p: float = _DEFAULT["top_p"]
    top_k: int = _DEFAULT["top_k"]
    min_p: float = _DEFAULT["min_p"]
    repetition_penalty: float | None = _DEFAULT["repetition_penalty"]
    presence_penalty: float = _DEFAULT["presence_penalty"]
    frequency_penalty: float = _DEFAULT["frequency_penalty"]
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...] = _DEFAULT["logit_bias"]
    min_length: int = _DEFAULT["min_length"]
    no_repeat_ngram_size: int = _DEFAULT["no_repeat_ngram_size"]
    do_sample: bool = _DEFAULT["do_sample"]
    num_beams: int = _DEFAULT["num_beams"]
    seed: int | None = _DEFAULT["seed"]
    stop: str | tuple[str, ...] = _DEFAULT["stop"]
    logprobs: bool = _DEFAULT["logprobs"]
    top_logprobs: int = _DEFAULT["top_logprobs"]
    past_present_share_buffer: bool | None = _DEFAULT["past_present_share_buffer"]
    model_penalty: float = 1.1

    def __post_init__(self) -> None:
        for key in GENERATION_KEYS:
            object.__setattr__(self, key, check_value(key, getattr(self, key)))
        if self.min_length > self.max_tokens:
            raise UsageError(f"`min_length={self.min_length}` is more than `max_tokens={self.max_tokens}`")
        if self.top_logprobs:
            object.__setattr__(self, "logprobs", True)
        if self.num_beams > 1 and (unsupported := self._beside_beams()):
            raise UsageError(f"beam search cannot be combined with `{unsupported}`", hint="leave one of the two out")

    @property
    def greedy(self) -> bool:
        """Whether the most likely token is always picked."""
        return not self.do_sample or self.temperature < _LEAST_TEMPERATURE

    def penalty(self, *, guided: bool = False) -> float:
        """The repetition penalty in effect."""
        if self.repetition_penalty is not None:
            return self.repetition_penalty
        return 1.0 if guided or self.greedy or self.num_beams > 1 else self.model_penalty

    def _beside_beams(self) -> str:
        """An option that scores single tokens, "" if none is used."""
        used = {
            "presence_penalty": self.presence_penalty, "frequency_penalty": self.frequency_penalty,
            "logit_bias": self.logit_bias, "logprobs": self.logprobs,
        }  # fmt: skip
        return next((name for name, value in used.items() if value), "")

    @classmethod
    def preset(cls, name: str) -> GenerationOptions:
        """`creative`, `precise` or `greedy`."""
        return cls(**preset_values(name))

    def replaced(self, **changes: Any) -> GenerationOptions:
        """A copy with `changes`. Raises UsageError for an option that does not exist."""
        for key in changes:
            if key not in GENERATION_KEYS:
                hint = did_you_mean(key, GENERATION_KEYS, "options: " + ", ".join(GENERATION_KEYS))
                raise UsageError(f"unknown generation option {key!r}", hint=hint)
        return replace(self, **changes)

    def as_dict(self, *, guided: bool = False) -> dict[str, Any]:
        """Every option by its name; the repetition penalty in effect."""
        whole = {key: getattr(self, key) for key in GENERATION_KEYS}
        return whole | {"repetition_penalty": self.penalty(guided=guided)}


class GenerationKeywords(TypedDict, total=False):
    """The options of one call, for type checkers."""

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float | None
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float] | tuple[tuple[int, float], ...]
    min_length: int
    no_repeat_ngram_size: int
    do_sample: bool
    num_beams: int
    seed: int | None
    stop: str | Sequence[str]
    logprobs: bool
    top_logprobs: int
    past_present_share_buffer: bool | None


def check_bias(options: GenerationOptions, vocabulary: int) -> None:
    """Raises UsageError for a biased token that the vocabulary does not have."""
    if beyond := [token for token in dict(options.logit_bias) if token >= vocabulary]:
        raise UsageError(f"`logit_bias` names token {beyond[0]}, but the vocabulary has only {vocabulary:,} tokens").of(
            "logit_bias"
        )


def make_options(values: Mapping[str, Any], model: Mapping[str, Any]) -> GenerationOptions:
    """Options of `values` by key; `model`: what the model's own files say, of which the repetition penalty only holds
    where nothing else decides."""
    own = {"model_penalty": model["repetition_penalty"]} if "repetition_penalty" in model else {}
    return GenerationOptions(**values, **own)


def preset_values(name: str) -> dict[str, Any]:
    if name not in PRESETS:
        raise UsageError(f"unknown preset {name!r}", hint="presets: " + ", ".join(PRESETS))
    return dict(PRESETS[name])

"""Rotary position embeddings: the frequencies of every scaling that the families use, and their cosine and sine tables.

The formulas are those of transformers (`modeling_rope_utils`), with its roundings to float32: a frequency that differs in
its last digit turns by another angle after 100,000 tokens. Papers: linear and dynamic (position interpolation, NTK), YaRN
(2309.00071), LongRoPE (2402.13753), Llama 3.1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.importer.weights import Floats, as_floats

if TYPE_CHECKING:
    from lmsupply_cli.importer.model_config import ModelConfig, Rope

_HINT = "import another version of this model"


@dataclass(frozen=True, slots=True, eq=False)
class Rotary:
    """Angles per token, `frequencies` [rotary / 2], and the factor on cosine and sine.

    `long`, of LongRoPE, replaces it once the text has more than `border` tokens. transformers rotates all of a text with
    one set or the other: where an answer crosses the border it computes the whole cache again, because keys that were
    rotated with one set don't fit queries rotated with the other. A graph cannot do that, and a prompt that arrives in
    chunks would begin with the short set and end with the long one. So the set is chosen by what the cache can hold:
    the long one where its buffer, or the text if that is longer, exceeds the border. A session that can exceed the border
    uses the long set from its first token, as llama.cpp and vLLM do. The results are those of transformers for each
    session within the border and for each text beyond it; only a short text in a long session differs.
    """

    frequencies: Floats
    attention_factor: float = 1.0
    long: Rotary | None = None
    border: int = 0

    def tables(self, start: int, stop: int) -> tuple[Floats, Floats]:
        """Cosine and sine of the positions [start:stop], each [positions, rotary / 2]."""
        positions = np.arange(start, stop, dtype=np.float32)
        angles = np.outer(positions, self.frequencies).astype(np.float64)
        cos, sin = np.cos(angles) * self.attention_factor, np.sin(angles) * self.attention_factor
        return as_floats(cos), as_floats(sin)


def make_rotary(rope: Rope, config: ModelConfig) -> Rotary:
    """`rope` is that of all layers of the model, or of some of them. Raises ModelFilesError."""
    scaling = _Scaling(rope, config)
    compute = _TYPES.get(scaling.type)
    if compute is None:
        raise ModelFilesError(f"the rotary scaling `{rope.type}` is unknown", hint=_HINT)
    with np.errstate(all="ignore"):
        rotary = compute(scaling)
    for part in (rotary, rotary.long or rotary):
        if not np.all(np.isfinite(part.frequencies)) or not math.isfinite(part.attention_factor):
            raise ModelFilesError(f"the rotary scaling `{rope.type}` leads to numbers that are not finite", hint=_HINT)
    return rotary


class _Scaling:
    """A rope_scaling, its values checked where they are read."""

    def __init__(self, rope: Rope, config: ModelConfig) -> None:
        self.values = rope.values
        self.type = _type_of(rope)
        self.theta, self.size, self.context_length = rope.theta, rope.dim, config.context_length
        trained = config.count("original_max_position_embeddings", config.context_length)
        self.original = self.number("original_max_position_embeddings", trained, least=2)

    def number(self, key: str, default: float | None = None, *, least: float = 0.0) -> float:
        """Above 0, and at least `least`. Raises ModelFilesError."""
        value = self.values.get(key)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e30 or value == 0:
            what = "is missing" if value is None else f"is not a number that makes sense: {str(value)[:40]!r}"
            raise ModelFilesError(f"`{key}` of the rotary scaling `{self.type}` {what}", hint=_HINT)
        return float(value)

    def optional(self, key: str) -> float | None:
        return None if self.values.get(key) is None else self.number(key)

    def list(self, key: str) -> Floats:
        """[size / 2], all above 0. Raises ModelFilesError."""
        value = self.values.get(key)
        numbers = isinstance(value, (list, tuple)) and all(type(v) in (int, float) and 0 < v < 1e30 for v in value)
        if value is None or not numbers or len(value) != self.size // 2:
            what = f"is not a list of {self.size // 2} numbers above 0"
            raise ModelFilesError(f"`{key}` of the rotary scaling `{self.type}` {what}", hint=_HINT)
        return np.array(value, np.float32)

    @property
    def wavelengths(self) -> Floats:
        """Tokens per radian, [size / 2]: the powers of theta, in float32."""
        exponents = np.arange(0, self.size, 2, dtype=np.float32) / np.float32(self.size)
        return as_floats(np.float64(self.theta) ** exponents.astype(np.float64))

    @property
    def plain(self) -> Floats:
        return np.float32(1) / self.wavelengths


def _type_of(rope: Rope) -> str:
    """Phi-3 was first published with `su`, and with `yarn` for the same thing."""
    if rope.type in ("su", "yarn") and "long_factor" in rope.values:
        return "longrope"
    return rope.type


def _default(scaling: _Scaling) -> Rotary:
    return Rotary(scaling.plain)


def _linear(scaling: _Scaling) -> Rotary:
    return Rotary(scaling.plain / np.float32(scaling.number("factor")))


def _dynamic(scaling: _Scaling) -> Rotary:
    """transformers changes the base only beyond max_position_embeddings, which a context never exceeds here."""
    scaling.number("factor")
    return Rotary(scaling.plain)


def _factors(scaling: _Scaling) -> Rotary:
    """Divisors per frequency, as the tensor rope_freqs.weight of a GGUF file holds them."""
    return Rotary(scaling.plain / scaling.list("factors"), scaling.number("attention_factor", 1.0))


def _llama3(scaling: _Scaling) -> Rotary:
    """Low frequencies are divided by the factor, high ones stay, those between are interpolated."""
    plain, factor = scaling.plain, np.float32(scaling.number("factor"))
    low, high = scaling.number("low_freq_factor"), scaling.number("high_freq_factor")
    if high <= low:
        raise ModelFilesError(
            "`high_freq_factor` of the rotary scaling `llama3` is not above `low_freq_factor`", hint=_HINT
        )
    wavelengths = np.float32(2 * math.pi) / plain
    smooth = (np.float32(scaling.original) / wavelengths - np.float32(low)) / np.float32(high - low)
    between = (1 - smooth) * plain / factor + smooth * plain
    scaled = np.where(wavelengths > scaling.original / low, plain / factor, between)
    return Rotary(as_floats(np.where(wavelengths < scaling.original / high, plain, scaled)))


def _yarn(scaling: _Scaling) -> Rotary:
    """Frequencies that turn less than `beta_slow` times in the original context are divided by the factor, those that
    turn more than `beta_fast` times stay, with a ramp between."""
    factor = scaling.number("factor", scaling.context_length / scaling.original)
    fast = _turning(scaling, scaling.optional("beta_fast") or 32.0)
    slow = _turning(scaling, scaling.optional("beta_slow") or 1.0)
    if scaling.values.get("truncate", True):
        fast, slow = math.floor(fast), math.ceil(slow)
    first, last = max(fast, 0), min(slow, scaling.size - 1)
    if first == last:
        last += 0.001
    steps = np.arange(scaling.size // 2, dtype=np.float32) - np.float32(first)
    kept = 1 - np.clip(steps / np.float32(last - first), 0, 1)
    wavelengths = scaling.wavelengths
    divided = np.float32(1) / (np.float32(factor) * wavelengths)
    frequencies = divided * (1 - kept) + np.float32(1) / wavelengths * kept
    return Rotary(as_floats(frequencies), _yarn_attention(scaling, factor))


def _turning(scaling: _Scaling, turns: float) -> float:
    """The index of the frequency that turns so often in the original context; a fraction."""
    if scaling.theta == 1:
        raise ModelFilesError("the rotary scaling `yarn` needs a base other than 1", hint=_HINT)
    return scaling.size * math.log(scaling.original / (turns * 2 * math.pi)) / (2 * math.log(scaling.theta))


def _yarn_attention(scaling: _Scaling, factor: float) -> float:
    def mscale(weight: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0

    given, all_dim = scaling.optional("attention_factor"), scaling.values.get("mscale_all_dim")
    if given is not None:
        return given
    if scaling.values.get("mscale") and all_dim:
        return mscale(scaling.number("mscale")) / mscale(scaling.number("mscale_all_dim"))
    return mscale(1.0)


def _longrope(scaling: _Scaling) -> Rotary:
    """Two lists of divisors: of texts within the original context, and of longer ones."""
    factor = scaling.number("factor", scaling.context_length / scaling.original)
    attention = 1.0 if factor <= 1 else math.sqrt(1 + math.log(factor) / math.log(scaling.original))
    attention = scaling.number("attention_factor", attention)
    short, long = (
        Rotary(np.float32(1) / (scaling.list(key) * scaling.wavelengths), attention)
        for key in ("short_factor", "long_factor")
    )
    if scaling.context_length <= scaling.original:
        return short
    return replace(short, long=long, border=int(scaling.original))


_TYPES: Mapping[str, Callable[[_Scaling], Rotary]] = {
    "default": _default, "linear": _linear, "dynamic": _dynamic, "factors": _factors, "llama3": _llama3,
    "yarn": _yarn, "longrope": _longrope,
}  # fmt: skip

"""A config.json of transformers, checked: what every decoder needs, in one spelling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.genai_config import MOST, shown
from lmsupply_cli.importer.defaults import DEFAULTS, WITH_WINDOWS

_MOST_LAYERS = 1024
_MOST_CONTEXT = 1 << 24
_MOST_HEAD_DIM = 512  # twice that of Gemma; the rotary tables grow with it
_HINT = "check the file, or use another source of this model"
_ROPE_KEYS = {"type", "rope_type", "rope_theta", "partial_rotary_factor"}  # that have a field of their own


@dataclass(frozen=True, slots=True)
class Rope:
    """How positions rotate a head. `type` as in transformers: default, linear, dynamic, llama3, yarn, longrope.
    `dim`: how many numbers of a head are rotated. `values`: the other keys of rope_scaling or rope_parameters."""

    type: str
    theta: float
    dim: int
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """`values` holds the keys that only one family has; read them with `number`, `count` and `flag`."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context_length: int
    norm_epsilon: float
    activation: str
    tied: bool
    sliding_window: int  # 0: none
    sliding_layers: tuple[bool, ...]  # which layers only see the window
    rope: Rope
    local_rope: Rope | None  # of the sliding layers, if it is another
    values: Mapping[str, Any]

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number. Raises ModelFilesError if it is something else, or missing without a default."""
        return _number(self.values, key, default)

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number from 1 on."""
        return _count(self.values, key, default)

    def flag(self, key: str, default: bool = False) -> bool:
        return _flag(self.values, key, default)


def parse_model_config(config: Mapping[str, Any]) -> ModelConfig:
    """Raises ModelFilesError, naming the key. Of a multimodal config only the part that is a language model counts."""
    values = language_part(config)
    layers = _count(values, "num_hidden_layers", most=_MOST_LAYERS)
    heads = _count(values, "num_attention_heads")
    kv_heads = _count(values, "num_key_value_heads", heads)
    hidden = _count(values, "hidden_size")
    if heads % kv_heads:
        raise _wrong("num_key_value_heads", kv_heads, f"does not divide num_attention_heads ({heads})")
    if values.get("head_dim") is None and hidden % heads:
        raise _wrong("hidden_size", hidden, f"is not a multiple of num_attention_heads ({heads})")
    head_dim = _count(values, "head_dim", hidden // heads, most=_MOST_HEAD_DIM)
    if head_dim % 2:
        raise _wrong("head_dim", head_dim, "is odd")
    window = _window(values) if model_type(config) in WITH_WINDOWS else 0
    rope, local_rope = _ropes(values, head_dim)
    return ModelConfig(
        model_type=model_type(config),
        vocab_size=_count(values, "vocab_size"),
        hidden_size=hidden,
        intermediate_size=_count(values, "intermediate_size"),
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        context_length=_count(values, "max_position_embeddings", most=_MOST_CONTEXT),
        norm_epsilon=_number(values, "rms_norm_eps", 1e-6),
        activation=_text(values, "hidden_activation", _text(values, "hidden_act", "silu")),
        tied=_flag(values, "tie_word_embeddings", _flag(config, "tie_word_embeddings", False)),
        sliding_window=window,
        sliding_layers=_sliding_layers(values, layers, window),
        rope=rope,
        local_rope=local_rope,
        values=values,
    )


def model_type(config: Mapping[str, Any]) -> str:
    """Of the language model, such as gemma3_text in a config of gemma3."""
    return _text(_stated_part(config), "model_type", _text(config, "model_type", ""))


def language_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """A multimodal config has the language model's keys in `text_config`. What they leave out are transformers' values."""
    return {**DEFAULTS.get(model_type(config), {}), **_stated_part(config)}


def _stated_part(config: Mapping[str, Any]) -> Mapping[str, Any]:
    part = config.get("text_config")
    return part if isinstance(part, Mapping) else config


def _window(values: Mapping[str, Any]) -> int:
    """0 where none is used: qwen2 states one that `use_sliding_window` turns off."""
    if values.get("sliding_window") is None or not _flag(values, "use_sliding_window", True):
        return 0
    return _count(values, "sliding_window")


def _sliding_layers(values: Mapping[str, Any], layers: int, window: int) -> tuple[bool, ...]:
    kinds = values.get("layer_types")
    if not window:
        return (False,) * layers
    if kinds is not None:
        if not isinstance(kinds, list) or len(kinds) != layers:
            raise _wrong("layer_types", kinds, f"is not a list of {layers} names")
        if unknown := next((kind for kind in kinds if kind not in ("full_attention", "sliding_attention")), ""):
            raise _wrong("layer_types", unknown, "is not an attention that is supported")
        return tuple(kind == "sliding_attention" for kind in kinds)
    if "sliding_window_pattern" in values:  # gemma: every so many layers one that sees everything
        pattern = _count(values, "sliding_window_pattern")
        return tuple(bool((layer + 1) % pattern) for layer in range(layers))
    if "max_window_layers" in values:  # qwen: the first ones see everything
        first = _count(values, "max_window_layers", least=0)
        return tuple(layer >= first for layer in range(layers))
    return (True,) * layers


def _ropes(values: Mapping[str, Any], head_dim: int) -> tuple[Rope, Rope | None]:
    """transformers 5 has rope_parameters, by kind of layer where these differ; before it, rope_theta and rope_scaling."""
    parameters = _mapping(values, "rope_parameters")
    if "full_attention" in parameters:
        local = _mapping(parameters, "sliding_attention")
        full = _mapping(parameters, "full_attention")
        return _rope(values, full, head_dim), _rope(values, local, head_dim) if local else None
    rope = _rope(values, parameters or _mapping(values, "rope_scaling"), head_dim)
    if values.get("rope_local_base_freq") is None:
        return rope, None
    return rope, Rope("default", _positive(values, "rope_local_base_freq"), rope.dim, {})


def _rope(values: Mapping[str, Any], parameters: Mapping[str, Any], head_dim: int) -> Rope:
    kind = _text(parameters, "rope_type", _text(parameters, "type", "default"))
    theta = _positive(parameters, "rope_theta", _positive(values, "rope_theta", 10_000.0))
    part = _positive(parameters, "partial_rotary_factor", _positive(values, "partial_rotary_factor", 1.0))
    dim = int(head_dim * min(part, 2.0))
    if not 0 < dim <= head_dim or dim % 2:
        raise _wrong("partial_rotary_factor", part, f"does not fit heads of {head_dim}")
    return Rope(kind, theta, dim, {key: value for key, value in parameters.items() if key not in _ROPE_KEYS})


def _count(values: Mapping[str, Any], key: str, default: int | None = None, *, least: int = 1, most: int = MOST) -> int:
    value = values.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise _wrong(key, value, f"is not a whole number from {least} to {most:,}")
    return value


def _number(values: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = values.get(key)
    value = default if value is None else value
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(_float(value)):
        raise _wrong(key, value, "is not a number")
    return float(value)


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _positive(values: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = _number(values, key, default)
    if value <= 0:
        raise _wrong(key, value, "is not positive")
    return value


def _flag(values: Mapping[str, Any], key: str, default: bool) -> bool:
    value = values.get(key)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise _wrong(key, value, "is neither true nor false")
    return value


def _text(values: Mapping[str, Any], key: str, default: str) -> str:
    value = values.get(key)
    value = default if value is None else value
    if not isinstance(value, str):
        raise _wrong(key, value, "is not a text")
    return value


def _mapping(values: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = values.get(key)
    value = {} if value is None else value
    if not isinstance(value, Mapping):
        raise _wrong(key, value, "is not an object")
    return value


def _wrong(key: str, value: Any, what: str) -> ModelFilesError:
    if value is None:
        return ModelFilesError(f"config.json has no {key}", hint=_HINT)
    return ModelFilesError(f"config.json: {key} {what}: {shown(value)}", hint=_HINT)

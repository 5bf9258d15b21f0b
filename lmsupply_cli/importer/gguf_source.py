"""A model in GGUF, read as if it were a repository of transformers: its config, the names of its tensors, their rows.

The reverse of llama.cpp's conversion, https://github.com/ggml-org/llama.cpp (conversion/*.py); what a file leaves out is
as llama.cpp takes it (src/models/*.cpp). To add an architecture, add a row to `_ARCHITECTURES`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf, isfinite, log, nextafter
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.gguf_blocks import coded, coding_of, floats, is_readable
from lmsupply_cli.importer.gguf_file import GgufFile, GgufTensor, open_gguf_file
from lmsupply_cli.importer.source import TokenizerFacts
from lmsupply_cli.importer.weights import Coded, Coding, Floats, Tensor

_OTHER_FILE = "use another file of this model"
_DAMAGED = "the file is damaged or incomplete; download it again"
_SHOWN = 3  # names of tensors in a message
_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER = re.compile(r"blk\.(0|[1-9]\d{0,4})\.(.+)")
# computed from the metadata when a model is loaded; `_rope_scaling` reads the others
_IGNORED = re.compile(r"(blk\.\d+\.)?(attn_rot_embd|rope_freqs|rope_factors_long|rope_factors_short)(\.weight)?")
_SAMPLING = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p", "penalty_repeat": "repetition_penalty"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class GgufWeight:
    """A tensor under its name in transformers. `head_rows` (0: as they stand): rows of a head whose two halves the file
    interleaves."""

    name: str
    stored: GgufTensor
    head_rows: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.stored.shape

    @property
    def kind(self) -> str:
        return self.stored.kind

    @property
    def size_bytes(self) -> int:
        return self.stored.size_bytes

    @property
    def coding(self) -> Coding | None:
        return coding_of(self.kind)

    def floats(self, start: int = 0, stop: int | None = None) -> Floats:
        if self.head_rows and len(self.shape) == 1:  # a bias: its entries are what rows are to a matrix
            values = floats(self.kind, self.stored.read(start, stop))[:, self._places(0, self.shape[0])]
        else:
            values = floats(self.kind, self._rows(start, stop))
        self._check_finite(values)
        return values

    def coded(self, start: int = 0, stop: int | None = None) -> Coded:
        parts = coded(self.kind, self._rows(start, stop))
        self._check_finite(parts.scales)
        if parts.corrections is not None:
            self._check_finite(parts.corrections)
        return parts

    def _check_finite(self, values: Floats) -> None:
        if values.size and not (isfinite(values.min()) and isfinite(values.max())):
            what = f"the tensor {plain(self.stored.name)} contains NaN or infinity"
            raise ModelFilesError(f"{self.stored.path}: {what}", hint=_DAMAGED)

    def _rows(self, start: int, stop: int | None) -> NDArray[np.uint8]:
        if not self.head_rows:
            return self.stored.read(start, stop)
        start, stop, _ = slice(start, stop).indices(self.stored.rows)
        first = start // self.head_rows * self.head_rows
        last = -(-stop // self.head_rows) * self.head_rows
        return self.stored.read(first, last)[self._places(start, stop) - first]

    def _places(self, start: int, stop: int) -> NDArray[np.int64]:
        """Where rows [start:stop] lie in the file: row j of half h of a head is its row 2 * j + h."""
        head, row = np.divmod(np.arange(start, stop), self.head_rows)
        half, place = np.divmod(row, self.head_rows // 2)
        return np.asarray(head * self.head_rows + 2 * place + half)


@dataclass(frozen=True, slots=True)
class GgufSource:
    """`lmsupply_cli.importer.source.Source` of a GGUF file. `folded_norms`: the norms of Gemma hold 1 + w."""

    file: GgufFile
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    name: str
    license: str
    generation: Mapping[str, Any]
    format: str = "GGUF"
    folded_norms: bool = True

    @property
    def files(self) -> tuple[Path, ...]:
        return self.file.parts

    def write_tokenizer(self, folder: Path) -> TokenizerFacts:
        from lmsupply_cli.importer.tokenizer_gguf import write_tokenizer

        return write_tokenizer(self.file, folder)


def open_gguf(path: Path) -> GgufSource:
    """The model in the GGUF file at `path`, all its parts. Raises ModelFilesError for what is damaged or not supported."""
    file = open_gguf_file(path)
    architecture = _architecture(file)
    reader = _Reader(file, architecture)
    config = reader.config()
    return GgufSource(
        file=file,
        config=config,
        tensors=reader.tensors(),
        name=file.text("general.name", ""),
        license=_license(file),
        generation=_generation(file),
    )


def _license(file: GgufFile) -> str:
    """In lower case; by its name where the model card says "other"."""
    stated = file.text("general.license", "").strip().lower()
    return (file.text("general.license.name", "").strip().lower() or stated) if stated == "other" else stated


def check_architecture(file: GgufFile) -> None:
    """Raises ModelFilesError if the metadata of a file name an architecture that is not supported, or no model."""
    if "general.architecture" in file:
        _architecture(file)


@dataclass(frozen=True, slots=True)
class _Architecture:
    """`blocks`: the tensors of a layer, GGUF's names to those of transformers; `more_config`: what only it has."""

    name: str
    model_type: str
    blocks: Mapping[str, str]
    more_config: Callable[[_Reader], dict[str, Any]] = field(default=lambda reader: {})
    interleaved: bool = False  # rows of Q and K
    activation: str = "silu"


@dataclass(frozen=True, slots=True)
class _Reader:
    file: GgufFile
    architecture: _Architecture

    # ------------------------------------------------------------------ metadata

    def key(self, name: str) -> str:
        return f"{self.architecture.name}.{name}"

    def has(self, name: str) -> bool:
        return self.key(name) in self.file

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number. One that is listed for each layer must be the same for all."""
        key = self.key(name)
        if not isinstance(self.file.metadata.get(key), np.ndarray):
            return self.file.count(key, default)
        values = self.file.numbers(key)
        if values.dtype.kind not in "iu" or not len(values) or (values != values[0]).any() or values[0] < 0:
            self.refuse(f"its layers differ in {key}, which is not supported")
        return int(values[0])

    def number(self, name: str, default: float | None = None) -> float:
        return self.file.number(self.key(name), default)

    def refuse(self, what: str, hint: str = _OTHER_FILE) -> NoReturn:
        raise ModelFilesError(f"{self.file.path}: {what}", hint=hint)

    @property
    def layers(self) -> int:
        layers, there = self.count("block_count"), len(self.file.tensors)
        if layers > there:
            self.refuse(f"it has {there} tensors for {layers} layers", _DAMAGED)
        return layers

    @property
    def heads(self) -> int:
        heads = self.count("attention.head_count")
        if heads == 0:
            self.refuse(f"{self.key('attention.head_count')} is 0")
        return heads

    @property
    def kv_heads(self) -> int:
        return self.count("attention.head_count_kv", self.heads)

    @property
    def head_size(self) -> int:
        size = self.count("attention.key_length", self.count("embedding_length") // self.heads)
        if self.count("attention.value_length", size) != size:
            self.refuse("keys and values have heads of different sizes, which is not supported")
        if size == 0 or size % 2:
            self.refuse(f"its heads have {size} numbers")
        return size

    @property
    def rotated(self) -> int:
        """How many numbers of a head are rotated."""
        size = self.count("rope.dimension_count", self.head_size)
        if not 0 < size <= self.head_size or size % 2:
            self.refuse(f"{self.key('rope.dimension_count')} is {size}, but heads have {self.head_size} numbers")
        return size

    # ------------------------------------------------------------------ config.json

    def config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "model_type": self.architecture.model_type,
            "vocab_size": self._stored("token_embd.weight").rows,
            "hidden_size": self.count("embedding_length"),
            "intermediate_size": self.count("feed_forward_length"),
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.kv_heads,
            "head_dim": self.head_size,
            "max_position_embeddings": self.count("context_length"),
            "rms_norm_eps": self.number("attention.layer_norm_rms_epsilon"),
            "hidden_act": self.architecture.activation,
            "rope_theta": self.number("rope.freq_base", 10_000.0),
            "tie_word_embeddings": "output.weight" not in self.file.tensors,
            "attention_bias": any("blk.0.attn_" in name and name.endswith(".bias") for name in self.file.tensors),
        }
        if self.rotated != self.head_size:
            config["partial_rotary_factor"] = _fraction(self.rotated, self.head_size)
        if scaling := self._rope_scaling():
            config["rope_scaling"] = scaling
        for name in ("bos_token_id", "eos_token_id"):
            token = self.file.metadata.get(f"tokenizer.ggml.{name}")
            if isinstance(token, int) and 0 <= token < config["vocab_size"]:  # others stand for none
                config[name] = token
        return config | self.architecture.more_config(self)

    def window(self, default: int = 0) -> int:
        """0 where all layers see everything, or the window is no shorter than the context."""
        window = self.count("attention.sliding_window", default)
        return window if window < self.count("context_length") else 0

    def layer_types(self, window_of: int) -> list[str]:
        """`window_of`: one layer in so many sees everything, unless the file says otherwise."""
        key = self.key("attention.sliding_window_pattern")
        if isinstance(self.file.metadata.get(key), np.ndarray):
            sliding = [bool(value) for value in self.file.numbers(key)]
            if len(sliding) != self.layers:
                self.refuse(f"{key} has {len(sliding)} entries for {self.layers} layers")
        else:
            every = self.file.count(key, window_of)
            sliding = [every == 0 or layer % every < every - 1 for layer in range(self.layers)]
        return ["sliding_attention" if slides else "full_attention" for slides in sliding]

    def _rope_scaling(self) -> dict[str, Any]:
        """The keys of rope_scaling; empty without scaling. `factors` is what llama.cpp makes of llama3: one divisor for
        each frequency."""
        kind = self.file.text(self.key("rope.scaling.type"), "linear")
        factor = (
            1.0 if kind == "none" else self.number("rope.scaling.factor", self.number("rope.scale_linear", 0.0)) or 1.0
        )
        attention = self.number("rope.scaling.attn_factor", 1.0)
        long, short = self._factors("rope_factors_long"), self._factors("rope_factors_short")
        if long or short:
            return self._longrope(long, short)
        if kind == "yarn":
            return self._yarn(factor, attention)
        if kind not in ("none", "linear"):
            self.refuse(f"its rope scaling is {plain(kind, 40)}, which is not supported")
        factors = self._factors("rope_freqs")
        if not factors and attention == 1:
            return {"rope_type": "linear", "factor": factor} if factor != 1 else {}
        divisors = [value * factor for value in factors or [1.0] * (self.rotated // 2)]
        if attention == 1 and set(divisors) == {1.0}:
            return {}
        return {"rope_type": "factors", "factors": divisors, "attention_factor": attention}

    def _longrope(self, long: list[float], short: list[float]) -> dict[str, Any]:
        if not long or not short:
            self.refuse(f"the tensor rope_factors_{'short' if long else 'long'}.weight is missing")
        context = self.count("context_length")
        original = self.count("rope.scaling.original_context_length", context)
        scaling = {
            "rope_type": "longrope",
            "long_factor": long,
            "short_factor": short,
            "original_max_position_embeddings": original,
        }
        if original:
            scaling["factor"] = context / original
        if self.has("rope.scaling.attn_factor"):
            scaling["attention_factor"] = self.number("rope.scaling.attn_factor")
        return scaling

    def _yarn(self, factor: float, attention: float) -> dict[str, Any]:
        if "rope_freqs.weight" in self.file.tensors or self.number("rope.scaling.yarn_ext_factor", 1.0) not in (
            1.0,
            -1.0,
        ):
            self.refuse("it changes its rope scaling (yarn) in a way that is not supported")
        original = self.count("rope.scaling.original_context_length", self.count("context_length"))
        scaling = {"rope_type": "yarn", "factor": factor, "original_max_position_embeddings": original}
        for name, key in (("beta_fast", "beta_fast"), ("beta_slow", "beta_slow"), ("attn_factor", "attention_factor")):
            if self.has(f"rope.scaling.yarn_{name}"):
                scaling[key] = self.number(f"rope.scaling.yarn_{name}")
        if self.number("rope.scaling.yarn_log_multiplier", 0.0):
            scaling |= {"mscale": 1.0, "mscale_all_dim": self.number("rope.scaling.yarn_log_multiplier")}
        if attention != 1:
            scaling["attention_factor"] = attention * (0.1 * log(factor) + 1 if factor > 1 else 1.0)
        return scaling

    def _factors(self, name: str) -> list[float]:
        """A tensor of divisors, one for each frequency; empty if there is none."""
        stored = self.file.tensors.get(f"{name}.weight")
        if stored is None:
            return []
        if stored.shape != (self.rotated // 2,) or stored.kind != "F32":
            self.refuse(
                f"the tensor {name}.weight is {stored.kind} of shape {list(stored.shape)}, not F32 of [{self.rotated // 2}]"
            )
        values = floats(stored.kind, stored.read())[0]
        if not np.isfinite(values).all() or (values <= 0).any():
            self.refuse(f"the tensor {name}.weight has entries that are not above 0")
        return [float(value) for value in values]

    # ------------------------------------------------------------------ tensors

    def tensors(self) -> dict[str, Tensor]:
        """By the names of transformers. Raises ModelFilesError for tensors that are missing, and for those that have no
        place."""
        found: dict[str, Tensor] = {}
        surplus = []
        for name, stored in self.file.tensors.items():
            if _IGNORED.fullmatch(name):
                continue
            new = self._new_name(name)
            if not new:
                surplus.append(name)
                continue
            self._check_readable(stored)
            found[new] = GgufWeight(new, stored, self._head_rows(name, stored))
        self._check_complete(surplus)
        return found

    def _new_name(self, name: str) -> str:
        """ "" for a tensor that the architecture does not have."""
        base, _, end = name.rpartition(".")
        if end not in ("weight", "bias"):
            return ""
        layer = _LAYER.fullmatch(base)
        if layer is None:
            return f"{_TOP[base]}.{end}" if base in _TOP else ""
        if int(layer[1]) >= self.layers or layer[2] not in self.architecture.blocks:
            return ""
        return f"model.layers.{layer[1]}.{self.architecture.blocks[layer[2]]}.{end}"

    def _head_rows(self, name: str, stored: GgufTensor) -> int:
        """Of Q and K, which llama.cpp keeps interleaved for some architectures."""
        part = name.split(".")[-2]
        if not self.architecture.interleaved or part not in ("attn_q", "attn_k"):
            return 0
        rows = (self.heads if part == "attn_q" else self.kv_heads) * self.head_size
        if stored.shape[0] != rows:
            self.refuse(f"the tensor {plain(name)} has {stored.shape[0]} rows instead of {rows}")
        return self.head_size

    def _check_readable(self, stored: GgufTensor) -> None:
        if not is_readable(stored.kind):
            self.refuse(
                f"the tensor {plain(stored.name)} is in {stored.kind}, which cannot be read",
                "use another quantization of this model",
            )

    def _check_complete(self, surplus: list[str]) -> None:
        there = self.file.tensors
        wanted = ["token_embd.weight", "output_norm.weight"]
        wanted += [f"blk.{n}.{part}.weight" for n in range(self.layers) for part in self.architecture.blocks]
        if missing := [name for name in wanted if name not in there]:
            self.refuse(f"{_these(missing)} missing", _DAMAGED)
        if surplus:
            what = f"{_these(surplus)} not part of the architecture {self.architecture.name}"
            self.refuse(what, "this variant of the architecture is not supported; use another model")

    def _stored(self, name: str) -> GgufTensor:
        if name not in self.file.tensors:
            self.refuse(f"the tensor {name} is missing", _DAMAGED)
        return self.file.tensors[name]


def _these(names: list[str]) -> str:
    """With its verb: `the tensor x is`."""
    shown = ", ".join(plain(name) for name in names[:_SHOWN])
    if len(names) == 1:
        return f"the tensor {shown} is"
    return f"the tensors {shown}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''} are"


def _fraction(part: int, whole: int) -> float:
    """A float that gives `part` again when it is multiplied by `whole` and cut to a whole number."""
    fraction = part / whole
    return fraction if int(whole * fraction) == part else nextafter(fraction, inf)


def _architecture(file: GgufFile) -> _Architecture:
    kind, name = file.text("general.type", "model"), file.text("general.architecture")
    known = ", ".join(sorted(_ARCHITECTURES))
    if kind != "model" or name == "clip":
        what = {"adapter": "an adapter (LoRA)", "imatrix": "an importance matrix"}.get(
            kind, "a part of a multimodal model"
        )
        raise ModelFilesError(
            f"{file.path} is {what}, not a language model", hint="name the file of the language model"
        )
    if name not in _ARCHITECTURES:
        raise ModelFilesError(
            f"{file.path}: the architecture {plain(name, 60)} is not supported",
            hint=f"architectures that can be imported: {known}",
        )
    if name == "llama" and file.count("llama.expert_count", 0):
        return _MIXTRAL
    return _ARCHITECTURES[name]


def _generation(file: GgufFile) -> dict[str, Any]:
    """The sampling values that the author recommends, in the words of generation_config.json."""
    values: dict[str, Any] = {}
    for name, key in _SAMPLING.items():
        if (full := f"general.sampling.{name}") in file:
            values[key] = file.count(full) if key == "top_k" else file.number(full)
    return values


def _used_experts(reader: _Reader) -> tuple[int, int]:
    """How many experts a token uses, and of how many."""
    used, experts = reader.count("expert_used_count"), reader.count("expert_count")
    if not 0 < used <= experts:
        reader.refuse(f"it uses {used} of {experts} experts")
    if reader.number("expert_weights_scale", 1.0) not in (0.0, 1.0):
        reader.refuse("it scales the weights of its experts, which is not supported")
    return used, experts


def _mixtral(reader: _Reader) -> dict[str, Any]:
    used, experts = _used_experts(reader)
    return {"num_local_experts": experts, "num_experts_per_tok": used}


def _qwen3moe(reader: _Reader) -> dict[str, Any]:
    used, experts = _used_experts(reader)
    return {
        "num_experts": experts,
        "num_experts_per_tok": used,
        "moe_intermediate_size": reader.count(
            "expert_feed_forward_length", reader.count("feed_forward_length") // used
        ),
        "norm_topk_prob": True,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _phi3(reader: _Reader) -> dict[str, Any]:
    window = reader.window()
    return {"sliding_window": window} if window else {}


def _query_scale(reader: _Reader, layers_of_27b: int) -> float:
    """The models with 27 billion parameters scale by the hidden size per head instead of the size of heads."""
    return float(
        reader.count("embedding_length") // reader.heads if reader.layers == layers_of_27b else reader.head_size
    )


def _gemma2(reader: _Reader) -> dict[str, Any]:
    config: dict[str, Any] = {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": _query_scale(reader, 46),
        "attn_logit_softcapping": reader.number("attn_logit_softcapping", 50.0),
        "final_logit_softcapping": reader.number("final_logit_softcapping", 30.0),
    }
    if window := reader.window(4096):
        config |= {"sliding_window": window, "layer_types": reader.layer_types(2)}
    return config


def _gemma3(reader: _Reader) -> dict[str, Any]:
    """Layers that see all tokens have their own base, and only these are scaled."""
    config: dict[str, Any] = {
        "hidden_activation": "gelu_pytorch_tanh",
        "query_pre_attn_scalar": _query_scale(reader, 62),
    }
    if softcap := reader.number("final_logit_softcapping", 0.0):
        config["final_logit_softcapping"] = softcap
    if window := reader.count("attention.sliding_window", 0):
        config |= {"sliding_window": window, "layer_types": reader.layer_types(6)}
        config["rope_local_base_freq"] = reader.number("rope.freq_base_swa", 10_000.0)
    return config


_ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
}  # fmt: skip
_HEAD_NORMS = {"attn_q_norm": "self_attn.q_norm", "attn_k_norm": "self_attn.k_norm"}
_MLP_NORM = {"ffn_norm": "post_attention_layernorm"}
_MLP = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_EXPERTS = {"ffn_gate_inp": "mlp.gate"} | {
    f"ffn_{part}_exps": f"mlp.experts.{part}_proj" for part in ("gate", "up", "down")
}
_GEMMA_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_FUSED = {
    "attn_norm": "input_layernorm", "attn_qkv": "self_attn.qkv_proj", "attn_output": "self_attn.o_proj",
    "ffn_up": "mlp.gate_up_proj", "ffn_down": "mlp.down_proj",
}  # fmt: skip
_LLAMA = _ATTENTION | _MLP_NORM | _MLP
# GGUF has the same name for Mixtral and for llama
_MIXTRAL = _Architecture("llama", "mixtral", _ATTENTION | _MLP_NORM | _EXPERTS, _mixtral, interleaved=True)
_ARCHITECTURES = {
    row.name: row
    for row in (
        _Architecture("llama", "llama", _LLAMA, interleaved=True),
        _Architecture("qwen2", "qwen2", _LLAMA),
        _Architecture("qwen3", "qwen3", _LLAMA | _HEAD_NORMS),
        _Architecture("qwen3moe", "qwen3_moe", _ATTENTION | _HEAD_NORMS | _MLP_NORM | _EXPERTS, _qwen3moe),
        _Architecture("phi3", "phi3", _FUSED | _MLP_NORM, _phi3),
        _Architecture("gemma2", "gemma2", _ATTENTION | _GEMMA_NORMS | _MLP, _gemma2, activation="gelu_pytorch_tanh"),
        _Architecture("gemma3", "gemma3_text", _ATTENTION | _HEAD_NORMS | _GEMMA_NORMS | _MLP, _gemma3, activation="gelu_pytorch_tanh"),
    )
}  # fmt: skip

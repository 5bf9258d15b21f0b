"""Small GGUF files: whole ones through the `gguf` package, and hostile ones byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, GGUFValueType
from gguf.quants import quantize
from numpy.typing import NDArray

ALIGNMENT = 32
_TYPES = {"u8": 0, "i8": 1, "u16": 2, "i16": 3, "u32": 4, "i32": 5, "f32": 6, "flag": 7, "text": 8, "list": 9,
          "u64": 10, "i64": 11, "f64": 12}  # fmt: skip
_LETTERS = {"u8": "B", "i8": "b", "u16": "H", "i16": "h", "u32": "I", "i32": "i", "f32": "f", "flag": "B", "u64": "Q",
            "i64": "q", "f64": "d"}  # fmt: skip
# where the float16 scales of a block lie
_SCALES = {"Q4_0": (0,), "Q4_1": (0, 2), "Q5_0": (0,), "Q5_1": (0, 2), "Q8_0": (0,), "Q2_K": (80, 82), "Q3_K": (108,),
           "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "IQ4_NL": (0,), "IQ4_XS": (0,), "IQ2_XXS": (0,), "IQ2_XS": (0,),
           "IQ2_S": (0,), "IQ3_XXS": (0,), "IQ3_S": (0,), "IQ1_S": (0,), "TQ1_0": (52,), "TQ2_0": (64,)}  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """A quantized tensor: `data` [..., row_bytes] of uint8."""

    kind: str
    data: NDArray[np.uint8]


def random_blocks(kind: str, shape: tuple[int, ...], seed: int = 0) -> Blocks:
    """Any codes, with scales of an ordinary size and of both signs. `shape`: of the values, in PyTorch's order."""
    rng = np.random.default_rng(seed)
    block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
    data = rng.integers(0, 256, (*shape[:-1], shape[-1] // block, size), np.uint8)
    for place in _SCALES.get(kind, ()):
        scales = rng.uniform(-0.05, 0.05, data.shape[:-1]).astype(np.float16)
        data[..., place : place + 2] = scales[..., None].view(np.uint8)
    if kind == "MXFP4":  # an exponent
        data[..., 0] = rng.integers(0, 130, data.shape[:-1])
    if kind == "IQ1_M":  # the exponent of a float16, in pieces
        data[..., 55] = data[..., 55] & 0x0F | 0x20
    if kind == "NVFP4":  # four positive floats of 8 bits
        data[..., :4] = rng.integers(0, 0x7F, (*data.shape[:-1], 4))
    return Blocks(kind, data.reshape(*shape[:-1], -1))


def quantized(kind: str, values: NDArray[Any]) -> Blocks:
    """`values` [..., inputs] in a type that the `gguf` package can write: Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, BF16, MXFP4 …"""
    return Blocks(kind, quantize(values.astype(np.float32), GGMLQuantizationType[kind]).view(np.uint8))


def write_gguf(
    path: Path, architecture: str, metadata: Mapping[str, Any], tensors: Mapping[str, NDArray[Any] | Blocks]
) -> Path:
    """A whole file. Keys of `metadata` that begin with "." get the architecture in front; the type of a value follows from
    it: text, bool, int (32 bits, unsigned), float (32 bits), or a list of these. Tensors: float32 and float16 arrays in
    PyTorch's order, or blocks."""
    writer = GGUFWriter(path, architecture)
    for key, value in metadata.items():
        name = architecture + key if key.startswith(".") else key
        kind = GGUFValueType.UINT32 if type(value) is int else GGUFValueType.get_type(value)
        writer.add_key_value(name, value, kind)
    for name, tensor in tensors.items():
        if isinstance(tensor, Blocks):
            writer.add_tensor(name, tensor.data, raw_dtype=GGMLQuantizationType[tensor.kind])
        else:
            writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# byte by byte


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def number(kind: str, value: float) -> bytes:
    return struct.pack(f"<{_LETTERS[kind]}", value)


def key(name: str | bytes, kind: str, value: bytes) -> bytes:
    """An entry of the metadata. `kind`: text, flag, u8 … f64, list; `value`: see `text`, `number`, `listed`."""
    return text(name) + struct.pack("<I", _TYPES[kind]) + value


def listed(kind: str, count: int, values: bytes) -> bytes:
    return struct.pack("<IQ", _TYPES[kind], count) + values


def tensor(name: str | bytes, shape: Iterable[int], kind: int, offset: int) -> bytes:
    """An entry of the table of tensors. `shape`: GGUF's order, inputs first; `kind`: the number of the type."""
    sizes = tuple(shape)
    return text(name) + struct.pack(f"<I{len(sizes)}QIQ", len(sizes), *sizes, kind, offset)


def raw_gguf(
    keys: Iterable[bytes] = (), tensors: Iterable[bytes] = (), data: bytes = b"", *, version: int = 3,
    counts: tuple[int, int] | None = None, magic: bytes = b"GGUF", alignment: int = ALIGNMENT,
) -> bytes:  # fmt: skip
    """A file of these entries, good or bad. `counts`: what the header says of tensors and keys, if not the truth."""
    keys, tensors = tuple(keys), tuple(tensors)
    said = counts or (len(tensors), len(keys))
    header = magic + struct.pack("<IQQ", version, *said) + b"".join(keys) + b"".join(tensors)
    return header + bytes(-len(header) % alignment) + data


# whole models

_ATTENTION = ("attn_q", "attn_k", "attn_v", "attn_output")
_MLP = ("ffn_gate", "ffn_up", "ffn_down")
_HEAD_NORMS = ("attn_q_norm", "attn_k_norm")
_GEMMA_NORMS = ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
_NORMS = ("attn_norm", "ffn_norm")
PARTS = {  # of a layer
    "llama": (*_NORMS, *_ATTENTION, *_MLP),
    "qwen2": (*_NORMS, *_ATTENTION, *_MLP),
    "qwen3": (*_NORMS, *_HEAD_NORMS, *_ATTENTION, *_MLP),
    "qwen3moe": (*_NORMS, *_HEAD_NORMS, *_ATTENTION, "ffn_gate_inp", *(f"{part}_exps" for part in _MLP)),
    "phi3": (*_NORMS, "attn_qkv", "attn_output", "ffn_up", "ffn_down"),
    "gemma2": (*_GEMMA_NORMS, *_ATTENTION, *_MLP),
    "gemma3": (*_GEMMA_NORMS, *_HEAD_NORMS, *_ATTENTION, *_MLP),
}


@dataclass(frozen=True)
class Sizes:
    hidden: int = 64
    inner: int = 96
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head: int = 16
    vocabulary: int = 96
    experts: int = 4
    used_experts: int = 2

    def shape(self, architecture: str, part: str) -> tuple[int, ...]:
        """In PyTorch's order."""
        query, key, inner = self.heads * self.head, self.kv_heads * self.head, self.inner
        shapes: dict[str, tuple[int, ...]] = {
            "attn_q": (query, self.hidden), "attn_k": (key, self.hidden), "attn_v": (key, self.hidden),
            "attn_output": (self.hidden, query), "attn_qkv": (query + 2 * key, self.hidden),
            "attn_q_norm": (self.head,), "attn_k_norm": (self.head,),
            "ffn_gate": (inner, self.hidden), "ffn_up": (inner, self.hidden), "ffn_down": (self.hidden, inner),
            "ffn_gate_inp": (self.experts, self.hidden), "ffn_gate_exps": (self.experts, inner, self.hidden),
            "ffn_up_exps": (self.experts, inner, self.hidden), "ffn_down_exps": (self.experts, self.hidden, inner),
        }  # fmt: skip
        if architecture == "phi3" and part == "ffn_up":
            return (2 * inner, self.hidden)
        return shapes.get(part, (self.hidden,))


def model_metadata(architecture: str, sizes: Sizes = Sizes()) -> dict[str, Any]:
    """As llama.cpp's converter writes it, without a tokenizer. See `write_gguf` for the keys."""
    metadata: dict[str, Any] = {
        "general.name": f"Tiny {architecture}", "general.license": "MIT",
        ".context_length": 256, ".embedding_length": sizes.hidden, ".block_count": sizes.layers,
        ".feed_forward_length": sizes.inner, ".attention.head_count": sizes.heads,
        ".attention.head_count_kv": sizes.kv_heads, ".attention.key_length": sizes.head,
        ".attention.value_length": sizes.head, ".attention.layer_norm_rms_epsilon": 1e-6, ".rope.freq_base": 10_000.0,
    }  # fmt: skip
    if architecture == "qwen3moe":
        metadata |= {".expert_count": sizes.experts, ".expert_used_count": sizes.used_experts, ".expert_feed_forward_length": sizes.inner}  # fmt: skip
    return metadata


def model_tensors(
    architecture: str, sizes: Sizes = Sizes(), *, tied: bool = True, seed: int = 0
) -> dict[str, NDArray[np.float32]]:
    """Random weights by GGUF's names, float32."""
    rng = np.random.default_rng(seed)
    shapes = {"token_embd.weight": (sizes.vocabulary, sizes.hidden), "output_norm.weight": (sizes.hidden,)}
    if not tied:
        shapes["output.weight"] = shapes["token_embd.weight"]
    for layer in range(sizes.layers):
        shapes |= {f"blk.{layer}.{part}.weight": sizes.shape(architecture, part) for part in PARTS[architecture]}
    return {name: rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}

"""How large an import becomes, by what is known before the download: the names of the files, their sizes, and their first
bytes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from lmsupply_cli.genai_config import TOKENIZER
from lmsupply_cli.hub.sources import GGUF, INDEX, SourceVariant
from lmsupply_cli.importer.forms import FLOAT_KINDS, Choice, Wish, choose_form
from lmsupply_cli.importer.weights import Coding

_K_MIX = re.compile(r"(Q[2-6]_K)_(?:XXS|XS|S|M|L|XL)")
_OTHER = 0.1  # of the weights of a mix are of its finer type
_FINER = "Q6_K"
_NAMED = {
    "Q2": "Q2_K", "Q3": "Q3_K", "Q4": "Q4_K", "Q5": "Q5_K", "Q6": "Q6_K", "Q8": "Q8_0", "Q8_K": "Q8_0",
    "Q8_K_XL": "Q8_0", "Q4_0_4_4": "Q4_0", "Q4_0_4_8": "Q4_0", "Q4_0_8_8": "Q4_0", "MXFP4_MOE": "MXFP4",
    "IQ3_M": "IQ3_S", "IQ3_XS": "IQ3_XXS", "IQ2_M": "IQ2_S", "IQ2_XXS": "IQ2_XXS", "FP16": "F16", "FP32": "F32",
}  # fmt: skip
_USUAL = "Q4_K"  # of a file that does not say its quantization
_SENSITIVE = 0.2  # of the weights of an int4 model get 8 bits, about: its vocabulary, v_proj, half of down_proj
_TYPES = 256  # numbers of types in GGML, at most
_TEXT_BYTES = 20_000_000  # of a tokenizer.json of which nothing is known
_TOKEN_BYTES = 140  # in tokenizer.json, with its merges: that of Llama 3 has 134
_ENTRY_BYTES = 16  # of a token or a merge in tokenizer.json, beside its text
_WRITTEN_ANEW = 8  # bytes of tokenizer.json for each of tokenizer.model
_DTYPES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16"}


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """What the first bytes of a source tell. `dtype`: of the floats of safetensors, as GGML names it; `packed`: the coding of
    quantized safetensors, and `float_bytes`: of their weights that are not quantized; `text_bytes`: of the tokenizer as
    it is written (None: unknown)."""

    dtype: str = "BF16"
    packed: Coding | None = None
    float_bytes: int = 0
    text_bytes: int | None = None


class _Part(NamedTuple):
    """Weights of one kind: `size_bytes` in the source, where each takes `bits`."""

    size_bytes: float
    bits: float
    kind: str
    coding: Coding | None


@dataclass(frozen=True, slots=True)
class _Weight:
    """A linear of which only the kind is known, as `choose_form` looks at it."""

    kind: str
    coding: Coding | None
    name: str = "model.layers.0.mlp.up_proj.weight"
    shape: tuple[int, ...] = (4096, 4096)


def written_bytes(source: SourceVariant, wish: Wish, facts: SourceFacts = SourceFacts()) -> int:
    """About what a model imported from `source` takes on the disk."""
    weights = sum(part.size_bytes / part.bits * _written_bits(part, wish) for part in _parts(source, facts))
    return int(weights) + text_bytes(source, facts)


def is_exact(source: SourceVariant) -> bool:
    """Do its weights, or most of them, have an exact form, so that nothing is lost when they are carried over?"""
    kind = kinds_of(source.quantization)[0][0]
    return source.format != GGUF or kind in FLOAT_KINDS or _coding(kind) is not None


def kinds_of(quantization: str) -> tuple[tuple[str, float], ...]:
    """The types of GGML in a file of this quantization, the main one first, and their shares of the weights."""
    name = quantization.removeprefix("UD-")
    if match := _K_MIX.fullmatch(name):
        return (match[1], 1 - _OTHER), (_FINER, _OTHER)
    name = _NAMED.get(name, name)
    return ((name if name in _file_bits() else _USUAL, 1.0),)


def facts_of_gguf(file: Any) -> SourceFacts:
    """`file`: the `GgufFile` of the first bytes."""
    texts = [text for key in ("tokens", "merges") for text in file.texts(f"tokenizer.ggml.{key}")]
    if texts:
        return SourceFacts(text_bytes=sum(len(text.encode()) + _ENTRY_BYTES for text in texts))
    count = file.metadata.get(f"{file.metadata.get('general.architecture')}.vocab_size")
    return SourceFacts(text_bytes=count * _TOKEN_BYTES if type(count) is int and 0 < count < 1_000_000 else None)


def facts_of_config(config: Mapping[str, Any], packed_bits: int) -> SourceFacts:
    """`config`: config.json; `packed_bits`: of each weight in a quantized checkpoint, 0 for floats."""
    stated = config.get("dtype") or config.get("torch_dtype") or _inner(config).get("torch_dtype")
    dtype = _DTYPES.get(str(stated).removeprefix("torch."), "BF16")
    if not packed_bits:
        return SourceFacts(dtype)
    values = config.get("quantization_config")
    group = values.get("group_size") if isinstance(values, dict) else None
    block = group if group in (32, 64, 128) else 128
    tables = 1 if config.get("tie_word_embeddings") else 2
    numbers = [config.get(name) for name in ("vocab_size", "hidden_size")]
    vocabulary = numbers[0] * numbers[1] if all(type(n) is int and n > 0 for n in numbers) else 0  # type: ignore[operator]
    float_bytes = int(tables * vocabulary * _file_bits()[dtype] / 8)
    return SourceFacts(dtype, Coding(packed_bits, block, zero_points=True), float_bytes)


def _inner(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Of a model with images, the config of its language model."""
    found = config.get("text_config")
    return found if isinstance(found, dict) else {}


def _parts(source: SourceVariant, facts: SourceFacts) -> Iterator[_Part]:
    size = sum(file.size_bytes for file in source.weights)
    if source.format == GGUF:
        kinds, bits = kinds_of(source.quantization), _file_bits()
        all_bits = sum(share * bits[kind] for kind, share in kinds)
        for kind, share in kinds:
            yield _Part(size * share * bits[kind] / all_bits, bits[kind], kind, _coding(kind))
        return
    if coding := facts.packed:
        floats = min(facts.float_bytes, size)
        size -= floats
        yield _Part(size, coding.bits + (16 + coding.bits) / coding.block, "packed", coding)
        size = floats
    yield _Part(size, _file_bits()[facts.dtype], facts.dtype, None)


def _written_bits(part: _Part, wish: Wish) -> float:
    """Of a weight, on the average."""
    weight: Any = _Weight(part.kind, part.coding)
    most = _bits(choose_form(weight, wish), wish)
    return (1 - _SENSITIVE) * most + _SENSITIVE * _bits(choose_form(weight, wish, is_vocabulary=True), wish)


def _bits(choice: Choice, wish: Wish) -> float:
    """Codes, and scales and corrections in 32 bits."""
    if choice.coding is None:
        return 16 if wish.float_type == "float16" else 32
    coding = choice.coding
    per_block = 32 + 32 * coding.corrections + coding.bits * coding.zero_points
    return coding.bits + per_block / coding.block


def text_bytes(source: SourceVariant, facts: SourceFacts) -> int:
    """Of the tokenizer and the configs."""
    if source.format == GGUF:
        return _TEXT_BYTES if facts.text_bytes is None else facts.text_bytes
    texts = {
        file.path.rpartition("/")[2]: file.size_bytes
        for file in source.files
        if file not in source.weights and not file.path.endswith(INDEX)
    }
    size = sum(texts.values())
    return size if TOKENIZER in texts else size * _WRITTEN_ANEW


def _coding(kind: str) -> Coding | None:
    from lmsupply_cli.importer.gguf_blocks import coding_of

    return coding_of(kind)


@cache
def _file_bits() -> Mapping[str, float]:
    """Bits of a weight in a GGUF file, by its type."""
    from lmsupply_cli.importer.gguf_file import tensor_type

    types = (tensor_type(number) for number in range(_TYPES))
    return {name: 8 * size / values for name, values, size in types if name}

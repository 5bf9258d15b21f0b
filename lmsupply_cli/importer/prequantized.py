"""Checkpoints that are quantized already: GPTQ, AWQ and compressed-tensors, in the form that their codes have exactly.

Codes are packed into 32-bit words, the first code in the lowest bits, for a weight of `inputs` × `outputs`:

    GPTQ                qweight [inputs / n, outputs], qzeros [groups, outputs / n], scales [groups, outputs], g_idx [inputs]
                        zero = stored + 1 (checkpoint_format gptq) or stored (gptq_v2), modulo 2 ** bits
    AWQ, version gemm   qweight [inputs, outputs / 8], qzeros [groups, outputs / 8], scales [groups, outputs]
                        eight outputs lie in a word in the order 0 2 4 6 1 3 5 7
    pack-quantized      weight_packed [outputs, inputs / n], weight_scale [outputs, groups],
                        weight_zero_point [outputs / n, groups] (absent: 2 ** (bits - 1))

and always `w = scale * (code - zero)`. Sources: the packing code of AutoGPTQ and GPTQModel, AutoAWQ, compressed-tensors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import is_file, read_json
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.safetensors_file import FLOAT_KINDS, StoredTensor
from lmsupply_cli.importer.weights import Coded, Codes, Coding, Floats, Tensor, as_floats

Words = NDArray[np.uint32]
_BLOCKS = (128, 64, 32, 16)  # that the engine runs; a larger group is several blocks with one scale
_SCALES = ("scales", "weight_scale")
_NUMBERS = ("g_idx", "weight_g_idx", "weight_shape")
_AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_ANOTHER = "convert from a version of the model in BF16, F16, GPTQ or AWQ"
_DAMAGED = "the files are damaged, or don't belong together: download them again"


@dataclass(frozen=True, slots=True)
class Method:
    """How a checkpoint was quantized: `name` as users know it; `zero_shift`: what to add to a stored zero point."""

    name: str
    bits: int
    zero_shift: int = 0


def quantization_method(folder: Path, config: Mapping[str, Any]) -> Method | None:
    """From quantization_config of config.json, or the file that older tools wrote beside it; None: not quantized.

    Raises ModelFilesError for a method that isn't supported.
    """
    values = config.get("quantization_config")
    if values is None:
        values = _beside(folder)
    if values is None:
        return None
    if not isinstance(values, dict):
        raise ModelFilesError("quantization_config in config.json is not an object", hint=_DAMAGED)
    name = values.get("quant_method")
    read = _METHODS.get(name) if isinstance(name, str) else None
    if read is None:
        raise _unsupported(f"the quantization method {plain(str(name))}")
    return read(values)


def packed_tensors(
    stored: Mapping[str, StoredTensor], method: Method
) -> tuple[dict[str, Tensor], dict[str, StoredTensor]]:
    """The quantized weights under the name of the weight, and the stored tensors that are no part of one.

    Raises ModelFilesError where the parts of a weight don't belong together.
    """
    suffixes, make = _LAYOUTS[method.name]
    tensors: dict[str, Tensor] = {}
    rest = dict(stored)
    for name in stored:
        if not name.endswith(f".{suffixes[0]}"):
            continue
        module = name.removesuffix(suffixes[0])
        parts = {suffix: rest.pop(module + suffix) for suffix in suffixes if module + suffix in rest}
        for suffix, part in parts.items():
            kinds = FLOAT_KINDS if suffix in _SCALES else {"I64", "I32"} if suffix in _NUMBERS else {"I32", "U32"}
            if part.kind not in kinds:
                raise ModelFilesError(f"{plain(module)}{suffix} is {part.kind}, which doesn't fit", hint=_DAMAGED)
        tensors[f"{module}weight"] = make(f"{module}weight", method, parts)
    if not tensors:
        raise ModelFilesError(
            f"config.json says that the weights are {method.name}, but no tensor is named …{suffixes[0]}", hint=_DAMAGED
        )
    return tensors, rest


def _beside(folder: Path) -> dict[str, Any] | None:
    for name, method in (("quantize_config.json", "gptq"), ("quant_config.json", "awq")):
        if is_file(folder / name):
            values = read_json(folder / name, error=ModelFilesError)
            if not isinstance(values, dict):
                raise ModelFilesError(f"{folder / name} is not a JSON object", hint=_DAMAGED)
            return {"bits": values.get("w_bit"), "quant_method": method} | values
    return None


def _gptq(values: Mapping[str, Any]) -> Method:
    layout = str(values.get("checkpoint_format") or "gptq").lower()
    if layout not in ("gptq", "gptq_v2"):
        raise _unsupported(f"the GPTQ format {plain(layout)}")
    if values.get("is_marlin_format") is True:
        raise _unsupported("the GPTQ format marlin")
    return Method("GPTQ", _bits(values, "GPTQ", (4, 8)), zero_shift=1 if layout == "gptq" else 0)


def _awq(values: Mapping[str, Any]) -> Method:
    version = str(values.get("version") or "gemm").lower()
    if version != "gemm":
        raise _unsupported(f"the AWQ version {plain(version)}")
    return Method("AWQ", _bits(values, "AWQ", (4,)))


def _compressed(values: Mapping[str, Any]) -> Method:
    layout, groups = values.get("format"), values.get("config_groups")
    if layout != "pack-quantized":
        raise _unsupported(f"the compressed-tensors format {plain(str(layout))}")
    schemes = list(groups.values()) if isinstance(groups, dict) else []
    weights = [scheme.get("weights") for scheme in schemes if isinstance(scheme, dict)]
    if len(weights) != 1 or not isinstance(weights[0], dict):
        raise _unsupported("compressed-tensors with several kinds of weights")
    return Method("compressed-tensors", _bits({"bits": weights[0].get("num_bits")}, "compressed-tensors", (4, 8)))


_METHODS: Mapping[str, Callable[[Mapping[str, Any]], Method]] = {
    "gptq": _gptq,
    "awq": _awq,
    "compressed-tensors": _compressed,
}


def _bits(values: Mapping[str, Any], name: str, supported: tuple[int, ...]) -> int:
    bits = values.get("bits")
    if not isinstance(bits, int) or bits not in supported:
        raise _unsupported(f"{name} with {plain(str(bits))} bits")
    return bits


def _unsupported(what: str) -> ModelFilesError:
    return ModelFilesError(f"{what} is not supported", hint=_ANOTHER)


@dataclass(frozen=True, slots=True)
class PackedTensor(ABC):
    """`shape` is (outputs, inputs). `groups`: of inputs in a row. `order` [inputs]: the group of each input, None where
    groups are runs of inputs. `symmetric`: every zero point is 2 ** (bits - 1)."""

    name: str
    method: Method
    shape: tuple[int, int]
    groups: int
    parts: Mapping[str, StoredTensor]
    order: NDArray[np.int64] | None = None
    symmetric: bool = False

    @property
    def kind(self) -> str:
        return f"{self.method.name} {self.method.bits}-bit"

    @property
    def size_bytes(self) -> int:
        return sum(part.size_bytes for part in self.parts.values())

    @property
    def coding(self) -> Coding | None:
        """None also where groups are scattered over the inputs (act-order), or have a size that no block divides."""
        size = self.shape[1] // self.groups
        block = next((block for block in _BLOCKS if size % block == 0), 0)
        if self.order is not None or not block:
            return None
        return Coding(self.method.bits, block, zero_points=not self.symmetric)

    def floats(self, start: int = 0, stop: int | None = None) -> Floats:
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        order = np.arange(self.shape[1]) // (self.shape[1] // self.groups) if self.order is None else self.order
        values = as_floats(self.codes(start, stop))
        values -= self.zeros(start, stop)[:, order]
        values *= self.scales(start, stop)[:, order]
        return values

    def coded(self, start: int = 0, stop: int | None = None) -> Coded:
        if self.coding is None:
            raise ModelFilesError(f"{plain(self.name)} has no exact form of whole blocks", hint="quantize its floats")
        start, stop, _ = slice(start, stop).indices(self.shape[0])
        repeats = self.shape[1] // self.groups // self.coding.block
        zeros = None if self.symmetric else np.repeat(self.zeros(start, stop), repeats, axis=1)
        return Coded(self.codes(start, stop), np.repeat(self.scales(start, stop), repeats, axis=1), zeros)

    @abstractmethod
    def codes(self, start: int, stop: int) -> Codes:
        """[outputs, inputs]"""

    @abstractmethod
    def zeros(self, start: int, stop: int) -> Codes:
        """[outputs, groups]"""

    @abstractmethod
    def scales(self, start: int, stop: int) -> Floats:
        """[outputs, groups]"""


class _GptqTensor(PackedTensor):
    __slots__ = ()

    def codes(self, start: int, stop: int) -> Codes:
        words = _words(self.parts["qweight"].columns(start, stop))
        return _unpacked(np.ascontiguousarray(words.T), self.method.bits)

    def zeros(self, start: int, stop: int) -> Codes:
        per_word = 32 // self.method.bits
        first = start // per_word
        words = _words(self.parts["qzeros"].columns(first, -(-stop // per_word)))
        codes = _unpacked(words, self.method.bits)[:, start - first * per_word :][:, : stop - start]
        mask = (1 << self.method.bits) - 1
        return np.ascontiguousarray((codes + np.uint8(self.method.zero_shift) & np.uint8(mask)).T)

    def scales(self, start: int, stop: int) -> Floats:
        return self.parts["scales"].float_columns(start, stop)


class _AwqTensor(PackedTensor):
    __slots__ = ()

    def codes(self, start: int, stop: int) -> Codes:
        return self._outputs("qweight", start, stop)

    def zeros(self, start: int, stop: int) -> Codes:
        return self._outputs("qzeros", start, stop)

    def scales(self, start: int, stop: int) -> Floats:
        return self.parts["scales"].float_columns(start, stop)

    def _outputs(self, part: str, start: int, stop: int) -> Codes:
        first = start // 8
        words = _words(self.parts[part].columns(first, -(-stop // 8)))
        codes = np.empty((*words.shape, 8), dtype=np.uint8)
        codes[..., _AWQ_ORDER] = _unpacked(words, 4).reshape(codes.shape)
        return np.ascontiguousarray(codes.reshape(len(words), -1)[:, start - first * 8 :][:, : stop - start].T)


class _CompressedTensor(PackedTensor):
    __slots__ = ()

    def codes(self, start: int, stop: int) -> Codes:
        words = _words(self.parts["weight_packed"].rows(start, stop))
        return np.ascontiguousarray(_unpacked(words, self.method.bits)[:, : self.shape[1]])

    def zeros(self, start: int, stop: int) -> Codes:
        part = self.parts.get("weight_zero_point")
        if part is None:
            return np.full((stop - start, self.groups), 1 << (self.method.bits - 1), dtype=np.uint8)
        per_word = 32 // self.method.bits
        first = start // per_word
        words = np.ascontiguousarray(_words(part.rows(first, -(-stop // per_word))).T)
        codes = _unpacked(words, self.method.bits)[:, start - first * per_word :][:, : stop - start]
        return np.ascontiguousarray(codes.T)

    def scales(self, start: int, stop: int) -> Floats:
        return self.parts["weight_scale"].floats(start, stop)


def _words(stored: NDArray[Any]) -> Words:
    """Words, whether they were stored signed or not."""
    words: Words = stored.view("<u4")
    return words


def _unpacked(words: Words, bits: int) -> Codes:
    """[rows, words] → [rows, words · 32 / bits]; `words` is contiguous."""
    octets = words.astype("<u4", copy=False).view(np.uint8)
    if bits == 8:
        return octets
    codes = np.empty((len(octets), octets.shape[1] * 2), dtype=np.uint8)
    codes[:, 0::2] = octets & np.uint8(15)
    codes[:, 1::2] = octets >> np.uint8(4)
    return codes


def _make_gptq(name: str, method: Method, parts: Mapping[str, StoredTensor]) -> PackedTensor:
    rows, outputs = _shape(name, parts, "qweight")
    groups, words = _shape(name, parts, "qzeros")
    if words * 4 == outputs:  # single weights may have more bits than config.json says (`dynamic`)
        method = replace(method, bits=8)
    per_word = 32 // method.bits
    inputs = rows * per_word
    _check(name, parts, {"qzeros": (groups, -(-outputs // per_word)), "scales": (groups, outputs)})
    order = _order(name, parts, "g_idx", inputs, groups)
    return _with_symmetry(_GptqTensor(name, method, (outputs, inputs), groups, parts, order))


def _make_awq(name: str, method: Method, parts: Mapping[str, StoredTensor]) -> PackedTensor:
    inputs, words = _shape(name, parts, "qweight")
    groups, outputs = _shape(name, parts, "scales")
    _check(name, parts, {"qweight": (inputs, -(-outputs // 8)), "qzeros": (groups, words)})
    _order(name, parts, "", inputs, groups)
    return _with_symmetry(_AwqTensor(name, method, (outputs, inputs), groups, parts))


def _make_compressed(name: str, method: Method, parts: Mapping[str, StoredTensor]) -> PackedTensor:
    per_word = 32 // method.bits
    outputs, groups = _shape(name, parts, "weight_scale")
    _check(name, parts, {"weight_shape": (2,)})
    inputs = int(parts["weight_shape"].array()[1])
    _check(name, parts, {"weight_packed": (outputs, -(-inputs // per_word))})
    if "weight_zero_point" in parts:
        _check(name, parts, {"weight_zero_point": (-(-outputs // per_word), groups)})
    order = _order(name, parts, "weight_g_idx", inputs, groups)
    return _with_symmetry(_CompressedTensor(name, method, (outputs, inputs), groups, parts, order))


_LAYOUTS: Mapping[str, tuple[tuple[str, ...], Callable[[str, Method, Mapping[str, StoredTensor]], PackedTensor]]] = {
    "GPTQ": (("qweight", "qzeros", "scales", "g_idx"), _make_gptq),
    "AWQ": (("qweight", "qzeros", "scales"), _make_awq),
    "compressed-tensors": (
        ("weight_packed", "weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx"),
        _make_compressed,
    ),
}


def _with_symmetry(tensor: PackedTensor) -> PackedTensor:
    zeros = tensor.zeros(0, tensor.shape[0])
    return replace(tensor, symmetric=bool((zeros == 1 << (tensor.method.bits - 1)).all()))


def _part(name: str, parts: Mapping[str, StoredTensor], suffix: str) -> StoredTensor:
    if suffix not in parts:
        raise ModelFilesError(f"{plain(name.removesuffix('weight'))}{suffix} is missing", hint=_DAMAGED)
    return parts[suffix]


def _shape(name: str, parts: Mapping[str, StoredTensor], suffix: str) -> tuple[int, int]:
    shape = _part(name, parts, suffix).shape
    if len(shape) != 2 or not all(shape):
        raise _misshapen(name, suffix, shape, "[rows, columns]")
    return shape[0], shape[1]


def _check(name: str, parts: Mapping[str, StoredTensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    for suffix, shape in expected.items():
        part = _part(name, parts, suffix)
        if part.shape != shape:
            raise _misshapen(name, suffix, part.shape, list(shape))


def _misshapen(name: str, suffix: str, shape: tuple[int, ...], expected: object) -> ModelFilesError:
    module = plain(name.removesuffix("weight"))
    return ModelFilesError(f"{module}{suffix} has the shape {list(shape)} instead of {expected}", hint=_DAMAGED)


def _order(
    name: str, parts: Mapping[str, StoredTensor], suffix: str, inputs: int, groups: int
) -> NDArray[np.int64] | None:
    """The group of each input; None where groups are runs of inputs, as they are without the tensor `suffix`."""
    if inputs % groups:
        raise ModelFilesError(f"{inputs} inputs of {plain(name)} don't divide into {groups} groups", hint=_DAMAGED)
    if suffix not in parts:
        return None
    _check(name, parts, {suffix: (inputs,)})
    order = np.asarray(parts[suffix].array(), dtype=np.int64)
    if order.min() < 0 or order.max() >= groups:
        raise ModelFilesError(f"{suffix} of {plain(name)} names groups that don't exist", hint=_DAMAGED)
    return None if (order == np.arange(inputs) // (inputs // groups)).all() else order

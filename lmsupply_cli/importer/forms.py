"""What the user wants of the weights, and what each weight becomes: decided before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

from lmsupply_cli.importer.quantize import bits_for, coding_for
from lmsupply_cli.importer.weights import Coding, Tensor

PRECISIONS = ("exact", "int4", "int8", "fp16", "fp32")
FLOAT_KINDS = ("F64", "F32", "F16", "BF16")
_SMALLEST_BLOCK = 16  # of MatMulNBits and GatherBlockQuantized
_SAFE_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Wish:
    """`precision`: one of PRECISIONS; "exact" carries the source's own codes over, and keeps its floats. `block_size`, 32,
    64 or 128, is that of weights that are quantized here; `anew`: so are those of linears that have codes already."""

    precision: str = "exact"
    block_size: int = 32
    anew: bool = False

    @property
    def float_type(self) -> str:
        """Of the activations, norms, and weights that stay floats."""
        return "float16" if self.precision == "fp16" else "float32"


@dataclass(frozen=True, slots=True)
class Form:
    """What a weight became: `kind` in the source, `form` in words, `size_bytes` as written (0: its bytes are another's)."""

    name: str
    kind: str
    form: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class WeightPlan:
    """What will be written: forms of all weights, and the bytes of model.onnx and model.onnx.data."""

    forms: tuple[Form, ...]
    size_bytes: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Choice:
    """How weights are stored: in `coding`, carried over (`exact`) or quantized here, or as floats (None)."""

    coding: Coding | None
    exact: bool = False

    def words(self, float_type: str) -> str:
        """As the user reads it, such as "4 bits, block 32, exact with corrections"."""
        if self.coding is None:
            return "fp16" if float_type == "float16" else "fp32"
        parts = [f"{self.coding.bits} bits", f"block {self.coding.block}"]
        if self.exact:
            parts.append("exact with corrections" if self.coding.corrections else "exact")
        else:
            parts.append("quantized")
        return ", ".join(parts)


def choose_form(tensor: Tensor, wish: Wish, layers: int = 0, *, is_vocabulary: bool = False) -> Choice:
    """In an int4 model of `layers` layers, sensitive linears get 8 bits (`bits_for`; 0: none), and so do embeddings and
    heads (`is_vocabulary`): they are a small part of a model, and every token passes them."""
    if wish.precision in ("fp16", "fp32"):
        return Choice(None)
    coding = None if wish.anew and not is_vocabulary else runnable(tensor.coding)
    bits = 8
    if wish.precision == "int4" and not is_vocabulary:
        bits = bits_for(tensor.name, layers, tensor.shape[-1]) if layers else 4
    if coding is not None and coding.bits <= bits:
        return Choice(coding, exact=True)
    if wish.precision == "exact" and tensor.kind in FLOAT_KINDS:
        return Choice(None)
    block = _SAFE_BLOCK if is_vocabulary or wish.precision == "exact" else wish.block_size
    return _quantized(bits, block, tensor.shape[-1])


def runnable(coding: Coding | None) -> Coding | None:
    """None for one that the engine cannot run: MatMulNBits takes blocks of a power of two from 16 on."""
    if coding is None or coding.block < _SMALLEST_BLOCK or coding.block & (coding.block - 1):
        return None
    return coding


def _quantized(bits: int, block: int, inputs: int) -> Choice:
    """In blocks of `block`, or of the largest smaller size that divides the inputs; else floats."""
    while block >= _SMALLEST_BLOCK and inputs % block:
        block //= 2
    return Choice(coding_for(bits, block)) if block >= _SMALLEST_BLOCK else Choice(None)

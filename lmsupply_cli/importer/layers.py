"""The blocks that decoders are made of: embedding, linear, norm, attention, MLP.

Operators: MatMulNBits (`y = x · (scale * (code - zero))`, 4 and 8 bits, accuracy level 4: activations in 8 bits),
GatherBlockQuantized, GroupQueryAttention and the simplified layer norms of ONNX Runtime. A correction per block, which
MatMulNBits lacks, is applied to the sums of the blocks of x: `sum(c_b * x_i) = c_b * sum(x_i)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.foreign import plain
from lmsupply_cli.importer.forms import Choice, Form, Wish, choose_form
from lmsupply_cli.importer.graph import MICROSOFT, Graph, Progress, Stored
from lmsupply_cli.importer.quantize import quantize_rows
from lmsupply_cli.importer.weights import Coded, Codes, Coding, Floats, Tensor, row_chunks, rows_of

_HINT = "the file may be damaged, or a variant of this architecture that is not supported"
ACCURACY_LEVEL = 4
_ROTARY_MULTIPLE = 16  # of GroupQueryAttention
_ROTARY_ROWS = 4096  # of a table at a time
_FLOAT16_END = 65520  # what is below is rounded to the largest float16, 65504
_INT32 = 6  # TensorProto.INT32

RotaryRows = Callable[[int, int], tuple[Floats, Floats]]  # rows [start:stop] of cosines and sines


@dataclass(frozen=True, slots=True)
class Attention:
    """Of one layer. `window` 0: every token sees all before it. With one, its cache holds no more than the window, which
    genai_config.json has to say."""

    heads: int
    kv_heads: int
    head_dim: int
    scale: float
    window: int = 0
    softcap: float = 0.0


@dataclass(frozen=True, slots=True)
class Rotation:
    """Names of the tables [positions, rotated / 2], and of the `positions` [b, s] of the tokens in them, if these are not
    simply the places in the text."""

    cos: str
    sin: str
    positions: str = ""


@dataclass(frozen=True, slots=True)
class Matrix:
    """Rows [rows, inputs] in initializers whose names begin with `name`. `is_gathered`: an embedding, which is also stored
    row after row where a linear has columns (floats and corrections)."""

    name: str
    rows: int
    inputs: int
    choice: Choice
    is_gathered: bool
    weight: Stored  # the codes, or the floats

    @property
    def has_zero_points(self) -> bool:
        return self.choice.coding is not None and self.choice.coding.zero_points

    @property
    def has_corrections(self) -> bool:
        return self.choice.coding is not None and self.choice.coding.corrections


class Blocks:
    """Adds blocks to `graph`. A name of a block is the prefix of its nodes and initializers; blocks take and return
    names of values. `tensors`, of a model with `layers` layers, is read by `take`, which remembers what was used."""

    def __init__(self, graph: Graph, tensors: Mapping[str, Tensor], wish: Wish, layers: int) -> None:
        self.graph = graph
        self.wish = wish
        self.layers = layers
        self.forms: list[Form] = []
        self.used: set[str] = set()
        self._tensors = tensors
        self._sums: dict[tuple[str, int], str] = {}

    # ------------------------------------------------------------------ weights

    def has(self, name: str) -> bool:
        return name in self._tensors

    def take(self, name: str, *shape: int) -> Tensor:
        """Raises ModelFilesError if it is missing or has another shape."""
        tensor = self._tensors.get(name)
        if tensor is None:
            raise ModelFilesError(f"the tensor {name} is missing", hint=_HINT)
        if tensor.shape != shape:
            has, wanted = (" × ".join(map(str, sizes)) for sizes in (tensor.shape, shape))
            raise ModelFilesError(f"the tensor {name} is {has}; the config says {wanted}", hint=_HINT)
        self.used.add(name)
        return tensor

    def vector(self, tensors: Sequence[Tensor], plus: float = 0.0) -> str:
        """Vectors one after another, as an initializer of floats. `plus` is added to each number."""
        name, size = tensors[0].name, sum(tensor.shape[0] for tensor in tensors)
        region = self.graph.stored(name, self.graph.dtype, (size,))

        def fill(progress: Progress) -> None:
            for tensor in tensors:
                region.write(fitting(tensor.floats().reshape(-1) + np.float32(plus), self.graph.dtype, tensor))
                progress(tensor.size_bytes)

        self.graph.later(fill)
        self.record(tensors, Choice(None).words(self.graph.dtype), region.size_bytes)
        return name

    # ------------------------------------------------------------------ linear and embedding

    def linear(self, x: str, tensors: Sequence[Tensor], name: str, biases: Sequence[Tensor] = ()) -> str:
        """x [b, s, inputs] → [b, s, outputs of all `tensors`], stored as one matrix. They are `alike`."""
        return self.product(x, self.matrix(tensors, f"{name}.weight"), name, self.vector(biases) if biases else "")

    def float_linear(self, x: str, tensor: Tensor, name: str) -> str:
        """A linear that stays floats, whatever the user wants."""
        return self.product(x, self.matrix([tensor], f"{name}.weight", choice=Choice(None)), name)

    def alike(self, tensors: Sequence[Tensor]) -> bool:
        """Whether they get the same form, so that they fit in one matrix."""
        return len({choose_form(tensor, self.wish, self.layers) for tensor in tensors}) == 1

    def split(self, x: str, sizes: Sequence[int], names: Sequence[str]) -> list[str]:
        """Along the last axis."""
        return self.graph.nodes("Split", [x, self.graph.ints(*sizes)], names, axis=-1)

    def embedding(self, ids: str, tensor: Tensor, name: str) -> tuple[str, Matrix]:
        """ids [..] → [.., inputs], and the matrix, which a tied head reads too."""
        matrix = self.matrix([tensor], f"{name}.weight", is_vocabulary=True, is_gathered=True)
        coding, stored = matrix.choice.coding, matrix.name
        if coding is None:
            return self.graph.node("Gather", [stored, ids], name), matrix
        inputs = [f"{stored}.codes", ids, f"{stored}.scales"]
        if matrix.has_zero_points:
            inputs.append(f"{stored}.zero_points")
        looked_up = f"{name}.codes" if matrix.has_corrections else name
        y = self.graph.node(
            "GatherBlockQuantized", inputs, looked_up, domain=MICROSOFT,
            bits=coding.bits, block_size=coding.block, gather_axis=0, quantize_axis=1,
        )  # fmt: skip
        if not matrix.has_corrections:
            return y, matrix
        rows = self.graph.node("Gather", [f"{stored}.corrections", ids], f"{name}.corrections")
        axis = self.graph.node("Unsqueeze", [rows, self.graph.ints(-1)], f"{name}.column")
        blocks = self.graph.node("Reshape", [y, self._blocked(matrix.inputs, coding.block)], f"{name}.blocks")
        sums = self.graph.node("Add", [blocks, axis], f"{name}.corrected")
        return self.graph.node("Reshape", [sums, self.graph.ints(0, 0, matrix.inputs)], name), matrix

    def head(self, x: str, tensor: Tensor, name: str) -> str:
        """The logits by weights of their own."""
        return self.product(x, self.matrix([tensor], f"{name}.weight", is_vocabulary=True), name)

    def tied_head(self, x: str, matrix: Matrix, name: str) -> str:
        """The logits by the bytes of an embedding."""
        coding = matrix.choice.coding
        if coding is not None:
            shape = (matrix.rows, matrix.inputs // coding.block, coding.block * coding.bits // 8)
            self.graph.alias(f"{matrix.name}.blocks", matrix.weight, shape)
            return self.product(x, matrix, name)
        flat = self.graph.node("Reshape", [x, self.graph.ints(-1, matrix.inputs)], f"{name}.rows")
        product = self.graph.node("Gemm", [flat, matrix.name], f"{name}.product", transB=1)
        sizes = self.graph.node("Shape", [x], f"{name}.input_shape", end=2)
        full = self.graph.node("Concat", [sizes, self.graph.ints(matrix.rows)], f"{name}.shape", axis=0)
        return self.graph.node("Reshape", [product, full], name)

    def matrix(
        self,
        tensors: Sequence[Tensor],
        name: str,
        *,
        choice: Choice | None = None,
        is_vocabulary: bool = False,
        is_gathered: bool = False,
    ) -> Matrix:
        """Reserve initializers for the rows of `tensors`, one after another, and plan how they are filled."""
        choice = choice or choose_form(tensors[0], self.wish, self.layers, is_vocabulary=is_vocabulary)
        rows, inputs, before = sum(map(rows_of, tensors)), tensors[0].shape[-1], self.graph.data_bytes
        dtype = self.graph.dtype
        if choice.coding is not None:
            matrix = self._coded(tensors, name, choice, choice.coding, is_gathered)
        else:
            weight = self.graph.stored(name, dtype, (rows, inputs) if is_gathered else (inputs, rows))
            self.graph.later(_floats_job(tensors, dtype, weight.write if is_gathered else weight.write_columns))
            matrix = Matrix(name, rows, inputs, choice, is_gathered, weight)
        self.record(tensors, choice.words(dtype), self.graph.data_bytes - before)
        return matrix

    def _coded(self, tensors: Sequence[Tensor], name: str, choice: Choice, coding: Coding, is_gathered: bool) -> Matrix:
        rows, inputs, dtype = sum(map(rows_of, tensors)), tensors[0].shape[-1], self.graph.dtype
        blocks = inputs // coding.block
        size = coding.block * coding.bits // 8  # GatherBlockQuantized wants no axis for the blocks
        shape = (rows, blocks * size) if is_gathered else (rows, blocks, size)
        codes = self.graph.stored(f"{name}.codes", "uint8", shape)
        scales = self.graph.stored(f"{name}.scales", dtype, (rows, blocks))
        zeros = corrections = None
        if coding.zero_points:
            zeros = self.graph.stored(f"{name}.zero_points", "uint8", (rows, packed_size(blocks, coding.bits)))
        if coding.corrections:
            sides = (rows, blocks) if is_gathered else (blocks, rows)
            corrections = self.graph.stored(f"{name}.corrections", dtype, sides)

        def put(part: Coded) -> None:
            codes.write(pack(part.codes, coding.bits))
            scales.write(part.scales)
            if zeros is not None and part.zero_points is not None:
                zeros.write(pack(part.zero_points, coding.bits))
            if corrections is not None and part.corrections is not None:
                (corrections.write if is_gathered else corrections.write_columns)(part.corrections)

        self.graph.later(_codes_job(tensors, choice, coding, put))
        return Matrix(name, rows, inputs, choice, is_gathered, codes)

    def product(self, x: str, matrix: Matrix, name: str, bias: str = "") -> str:
        """x [b, s, inputs] → [b, s, rows], plus `bias` [rows]."""
        coding, stored = matrix.choice.coding, matrix.name
        if coding is None:
            y = self.graph.node("MatMul", [x, stored], f"{name}.product" if bias else name)
            return self.graph.node("Add", [y, bias], name) if bias else y
        zero_points = f"{stored}.zero_points" if matrix.has_zero_points else ""
        codes = f"{stored}.blocks" if matrix.is_gathered else f"{stored}.codes"
        inputs = [x, codes, f"{stored}.scales", zero_points, "", bias]
        while not inputs[-1]:
            inputs.pop()
        y = self.graph.node(
            "MatMulNBits", inputs, f"{name}.codes" if matrix.has_corrections else name, domain=MICROSOFT,
            K=matrix.inputs, N=matrix.rows, bits=coding.bits, block_size=coding.block, accuracy_level=ACCURACY_LEVEL,
        )  # fmt: skip
        if not matrix.has_corrections:
            return y
        columns = f"{stored}.corrections"
        if matrix.is_gathered:
            columns = self.graph.node("Transpose", [columns], f"{name}.columns", perm=[1, 0])
        sums = self.block_sums(x, matrix.inputs, coding.block)
        return self.graph.node("Add", [y, self.graph.node("MatMul", [sums, columns], f"{name}.shift")], name)

    def block_sums(self, x: str, inputs: int, block: int) -> str:
        """x [b, s, inputs] → the sums of its blocks [b, s, inputs / block]; computed once for all that read x."""
        key = (x, block)
        if key not in self._sums:
            shaped = self.graph.node("Reshape", [x, self._blocked(inputs, block)], f"{x}.blocks_of_{block}")
            self._sums[key] = self.graph.node(
                "ReduceSum", [shaped, self.graph.ints(3)], f"{x}.sums_of_{block}", keepdims=0
            )
        return self._sums[key]

    def _blocked(self, inputs: int, block: int) -> str:
        return self.graph.ints(0, 0, inputs // block, block)

    # ------------------------------------------------------------------ norm, attention, MLP

    def norm(self, x: str, weight: str, name: str, epsilon: float) -> str:
        """Root mean square norm of the last axis."""
        return self.graph.node(
            "SimplifiedLayerNormalization", [x, weight], name, axis=-1, epsilon=epsilon, stash_type=1
        )

    def skip_norm(self, x: str, skip: str, weight: str, name: str, epsilon: float) -> tuple[str, str]:
        """The norm of x + skip, and x + skip."""
        normed, _, _, total = self.graph.nodes(
            "SkipSimplifiedLayerNormalization", [x, skip, weight], [name, "", "", f"{name}.sum"], domain=MICROSOFT,
            epsilon=epsilon,
        )  # fmt: skip
        return normed, total

    def head_norm(self, x: str, weight: str, name: str, heads: int, head_dim: int, epsilon: float) -> str:
        """The norm of each head of x [b, s, heads · head_dim]."""
        apart = self.graph.node("Reshape", [x, self.graph.ints(0, 0, heads, head_dim)], f"{name}.heads")
        normed = self.norm(apart, weight, f"{name}.normed", epsilon)
        return self.graph.node("Reshape", [normed, self.graph.ints(0, 0, heads * head_dim)], name)

    def attention(self, qkv: Sequence[str], layer: int, shape: Attention, rotation: Rotation, name: str) -> str:
        """Rotates queries and keys, appends to the cache, attends. `qkv`: three values, or one that holds all three."""
        query, key, value = (*qkv, "", "")[:3]
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        for names, length, declare in ((past, "past_length", self.graph.input), (present, "length", self.graph.output)):
            for each in names:
                declare(each, self.graph.dtype, ["batch", shape.kv_heads, length, shape.head_dim])
        inputs = [query, key, value, *past, "lengths", "total_length", rotation.cos, rotation.sin]
        if rotation.positions:
            inputs.append(rotation.positions)
        return self.graph.nodes(
            "GroupQueryAttention", inputs, [name, *present],
            domain=MICROSOFT, num_heads=shape.heads, kv_num_heads=shape.kv_heads, scale=shape.scale, do_rotary=1,
            rotary_interleaved=0, local_window_size=shape.window or -1, sliding_window_cache=int(shape.window > 0),
            softcap=shape.softcap,
        )[0]  # fmt: skip

    def lengths(self, mask: str) -> None:
        """What GroupQueryAttention wants to know: tokens per row less one, and the longest row, from the mask [b, total]."""
        graph = self.graph
        counts = graph.node("ReduceSum", [mask, graph.ints(1)], "token_counts", keepdims=0)
        last = graph.node("Sub", [counts, graph.ints(1)], "last_positions")
        graph.node("Cast", [last], "lengths", to=_INT32)
        shape = graph.node("Shape", [mask], "mask_shape", start=1, end=2)
        total = graph.node("Squeeze", [shape, graph.ints(0)], "mask_length")
        graph.node("Cast", [total], "total_length", to=_INT32)

    def rotary_tables(self, name: str, values: RotaryRows, length: int, dim: int) -> Rotation:
        """Initializers [length, dim / 2] of cosines and sines, which `values` computes when the graph is written."""
        if dim % _ROTARY_MULTIPLE:
            raise ModelFilesError(
                f"{dim} rotated numbers per head are not supported",
                hint=f"the engine rotates multiples of {_ROTARY_MULTIPLE}; use another model",
            )
        regions = [self.graph.stored(f"{name}.{part}", self.graph.dtype, (length, dim // 2)) for part in ("cos", "sin")]

        def fill(_: Progress) -> None:
            for start in range(0, length, _ROTARY_ROWS):
                for region, table in zip(regions, values(start, min(length, start + _ROTARY_ROWS)), strict=True):
                    region.write(table)

        self.graph.later(fill)
        return Rotation(f"{name}.cos", f"{name}.sin")

    def activation(self, x: str, kind: str, name: str) -> str:
        """Raises ModelFilesError if `kind` is unknown."""
        if kind in ("silu", "swish"):
            gate = self.graph.node("Sigmoid", [x], f"{name}.sigmoid")
            return self.graph.node("Mul", [x, gate], name)
        if kind in ("gelu_pytorch_tanh", "gelu_new", "gelu_fast"):
            return self.graph.node("Gelu", [x], name, approximate="tanh")
        if kind == "gelu":
            return self.graph.node("Gelu", [x], name, approximate="none")
        raise ModelFilesError(f"the activation {kind[:40]} is not supported", hint=_HINT)

    def record(self, tensors: Sequence[Tensor], form: str, size_bytes: int) -> None:
        """One form for each tensor; the bytes are shared out by their number of weights."""
        total = sum(rows_of(tensor) * tensor.shape[-1] for tensor in tensors)
        for tensor in tensors:
            part = size_bytes * rows_of(tensor) * tensor.shape[-1] // total
            self.forms.append(Form(tensor.name, tensor.kind, form, part))


def pack(codes: Codes, bits: int) -> Codes:
    """[rows, n] one code a byte → [rows, bytes], the first code in the lowest bits; a row ends at a whole byte."""
    if bits == 8:
        return codes
    per_byte = 8 // bits
    if rest := -codes.shape[1] % per_byte:
        codes = np.pad(codes, ((0, 0), (0, rest)))
    packed: NDArray[np.uint8] = codes[:, 0::per_byte].copy()
    for at in range(1, per_byte):
        packed |= codes[:, at::per_byte] << np.uint8(bits * at)
    return packed


def packed_size(count: int, bits: int) -> int:
    return -(-count * bits // 8)


def fitting(values: Floats, dtype: str, tensor: Tensor) -> Floats:
    """`values` of `tensor`, if they can be written as `dtype`. Raises ModelFilesError."""
    if dtype == "float16" and values.size and max(values.max(), -values.min()) >= _FLOAT16_END:
        raise ModelFilesError(f"the tensor {plain(tensor.name)} has values beyond fp16", hint="use fp32")
    return values


def _floats_job(tensors: Sequence[Tensor], dtype: str, put: Callable[[Floats], None]) -> Callable[[Progress], None]:
    def fill(progress: Progress) -> None:
        for tensor in tensors:
            for start, stop in row_chunks(tensor):
                put(fitting(tensor.floats(start, stop), dtype, tensor))
                progress(_read_bytes(tensor, start, stop))

    return fill


def _codes_job(
    tensors: Sequence[Tensor], choice: Choice, coding: Coding, put: Callable[[Coded], None]
) -> Callable[[Progress], None]:
    def fill(progress: Progress) -> None:
        for tensor in tensors:
            for start, stop in row_chunks(tensor):
                if choice.exact:
                    put(widened(tensor.coded(start, stop), tensor.coding, coding))
                else:
                    put(quantize_rows(tensor.floats(start, stop), coding))
                progress(_read_bytes(tensor, start, stop))

    return fill


def widened(coded: Coded, source: Coding | None, coding: Coding) -> Coded:
    """The same numbers in more bits: codes and zero points move together."""
    if source is None or source.bits == coding.bits:
        return coded
    if coded.zero_points is not None:
        return coded
    return Coded(coded.codes + np.uint8(coding.zero - source.zero), coded.scales, None, coded.corrections)


def _read_bytes(tensor: Tensor, start: int, stop: int) -> int:
    rows = rows_of(tensor)
    return tensor.size_bytes * stop // rows - tensor.size_bytes * start // rows

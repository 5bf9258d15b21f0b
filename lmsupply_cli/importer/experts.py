"""A mixture of experts: a router, and the gated MLPs of which each token passes a few.

Operators of ONNX Runtime: MoE for floats, QMoE for codes of 4 or 8 bits. On the CPU both want the rows of gate and up
interleaved in one weight; QMoE wants the same bits and the same blocks in all weights, and knows no corrections.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lmsupply_cli.importer.forms import Choice, Wish, choose_form
from lmsupply_cli.importer.graph import MICROSOFT, Progress, Stored
from lmsupply_cli.importer.layers import ACCURACY_LEVEL, Blocks, fitting, pack, packed_size, widened
from lmsupply_cli.importer.quantize import coding_for, quantize_rows
from lmsupply_cli.importer.weights import Coded, Coding, Tensor, row_chunks, rows_of

_BLOCK = 32


@dataclass(frozen=True, slots=True)
class Experts:
    """`router` [experts, hidden]; `gate` and `up` [experts, size, hidden], `down` [experts, hidden, size]. Each token
    passes `active` experts, whose weights add up to 1 if `is_normalized`."""

    router: Tensor
    gate: Tensor
    up: Tensor
    down: Tensor
    active: int
    is_normalized: bool


def add_experts(blocks: Blocks, x: str, experts: Experts, name: str) -> str:
    """x [b, s, hidden] → [b, s, hidden]. The router stays in floats: an error there chooses other experts."""
    graph = blocks.graph
    routed = blocks.float_linear(x, experts.router, f"{name}.router")
    scores = graph.node("Reshape", [routed, graph.ints(-1, experts.router.shape[0])], f"{name}.scores")
    attributes = {
        "k": experts.active, "normalize_routing_weights": int(experts.is_normalized), "activation_type": "swiglu",
        "swiglu_fusion": 1, "activation_alpha": 1.0, "activation_beta": 0.0,
    }  # fmt: skip
    choices = _choices([experts.gate, experts.up, experts.down], blocks.wish)
    if choices is None:
        inputs = [x, scores, _floats(blocks, [experts.gate, experts.up], f"{name}.gate_up"), ""]
        return graph.node(
            "MoE", [*inputs, _floats(blocks, [experts.down], f"{name}.down")], name, domain=MICROSOFT, **attributes
        )
    gate, up, down = choices
    first = _Codes(blocks, [experts.gate, experts.up], [gate, up], f"{name}.gate_up")
    second = _Codes(blocks, [experts.down], [down], f"{name}.down")
    inputs = [
        x, scores, first.codes, first.scales, "", second.codes, second.scales, "", "", "", "", first.zero_points,
        second.zero_points, "",
    ]  # fmt: skip
    if not experts.is_normalized:  # QMoE would take the scores as they are
        inputs.append(graph.node("Softmax", [scores], f"{name}.shares", axis=-1))
    while not inputs[-1]:
        inputs.pop()
    coding = first.coding
    return graph.node(
        "QMoE", inputs, name, domain=MICROSOFT, expert_weight_bits=coding.bits, block_size=coding.block,
        accuracy_level=ACCURACY_LEVEL, weights_prepacked=0, **attributes,
    )  # fmt: skip


def _choices(tensors: Sequence[Tensor], wish: Wish) -> list[Choice] | None:
    """A form for each, all of the same bits and blocks: exact where the source's codes fit in; None is floats."""
    found = [_without_corrections(tensor, choose_form(tensor, wish), wish) for tensor in tensors]
    codings = [choice.coding for choice in found if choice.coding is not None]
    if len(codings) < len(tensors):
        return None
    bits, block = max(coding.bits for coding in codings), min(coding.block for coding in codings)
    return [replace(choice, coding=_refined(choice, bits, block)) for choice in found]


def _without_corrections(tensor: Tensor, choice: Choice, wish: Wish) -> Choice:
    if choice.coding is None or not choice.coding.corrections:
        return choice
    block = _BLOCK if wish.precision == "exact" else wish.block_size
    while tensor.shape[-1] % block:
        block //= 2
    return Choice(coding_for(4 if wish.precision == "int4" else 8, block))


def _refined(choice: Choice, bits: int, block: int) -> Coding:
    """The same codes in more bits and smaller blocks, or what the quantizer makes of them."""
    if choice.exact and choice.coding is not None:
        return replace(choice.coding, bits=bits, block=block)
    return coding_for(bits, block)


def _floats(blocks: Blocks, tensors: Sequence[Tensor], name: str) -> str:
    """Reserve [experts, rows of all, inputs], rows interleaved."""
    graph, (experts, rows, inputs) = blocks.graph, tensors[0].shape
    region = graph.stored(f"{name}.weight", graph.dtype, (experts, rows * len(tensors), inputs))

    def fill(progress: Progress) -> None:
        for start, stop in row_chunks(tensors[0]):
            parts = [fitting(tensor.floats(start, stop), graph.dtype, tensor) for tensor in tensors]
            region.write(np.stack(parts, axis=1))
            progress(_read_bytes(tensors, start, stop))

    graph.later(fill)
    blocks.record(tensors, Choice(None).words(graph.dtype), region.size_bytes)
    return f"{name}.weight"


class _Codes:
    """Reserved initializers of one weight of all experts, the rows of `tensors` interleaved."""

    def __init__(self, blocks: Blocks, tensors: Sequence[Tensor], choices: Sequence[Choice], name: str) -> None:
        codings = [choice.coding for choice in choices if choice.coding is not None]
        has_zero_points = any(coding.zero_points for coding in codings)
        self.coding = replace(codings[0], zero_points=has_zero_points)
        self.codes, self.scales = f"{name}.codes", f"{name}.scales"
        self.zero_points = f"{name}.zero_points" if has_zero_points else ""
        self._tensors, self._choices = tensors, choices
        self._regions = self._reserve(blocks)
        blocks.graph.later(self._fill)
        size = sum(region.size_bytes for region in self._regions)
        for tensor, choice in zip(tensors, choices, strict=True):
            blocks.record([tensor], choice.words(blocks.graph.dtype), size // len(tensors))

    def _reserve(self, blocks: Blocks) -> list[Stored]:
        bits, (experts, rows, inputs) = self.coding.bits, self._tensors[0].shape
        sides, per_row = (experts, rows * len(self._tensors)), inputs // self.coding.block
        regions = [
            blocks.graph.stored(self.codes, "uint8", (*sides, inputs * bits // 8)),
            blocks.graph.stored(self.scales, blocks.graph.dtype, (*sides, per_row)),
        ]
        if self.zero_points:
            regions.append(blocks.graph.stored(self.zero_points, "uint8", (*sides, packed_size(per_row, bits))))
        return regions

    def _fill(self, progress: Progress) -> None:
        codes, scales, *zero_points = self._regions
        for start, stop in row_chunks(self._tensors[0]):
            parts = [
                _coded(tensor, choice, self.coding, (start, stop))
                for tensor, choice in zip(self._tensors, self._choices, strict=True)
            ]
            codes.write(np.stack([pack(part.codes, self.coding.bits) for part in parts], axis=1))
            scales.write(np.stack([part.scales for part in parts], axis=1))
            for region in zero_points:
                zeros = [part.zero_points for part in parts if part.zero_points is not None]
                region.write(np.stack([pack(each, self.coding.bits) for each in zeros], axis=1))
            progress(_read_bytes(self._tensors, start, stop))


def _coded(tensor: Tensor, choice: Choice, coding: Coding, rows: tuple[int, int]) -> Coded:
    """Rows of `tensor` in the form `coding`."""
    if choice.exact and tensor.coding is not None:
        times = tensor.coding.block // coding.block
        coded = widened(tensor.coded(*rows), tensor.coding, coding)
        zeros = None if coded.zero_points is None else coded.zero_points.repeat(times, axis=1)
        coded = Coded(coded.codes, coded.scales.repeat(times, axis=1), zeros)
    else:
        coded = quantize_rows(tensor.floats(*rows), coding_for(coding.bits, coding.block))
    if coding.zero_points and coded.zero_points is None:
        return replace(coded, zero_points=np.full(coded.scales.shape, coding.zero, np.uint8))
    return coded


def _read_bytes(tensors: Sequence[Tensor], start: int, stop: int) -> int:
    sizes = [(tensor.size_bytes, rows_of(tensor)) for tensor in tensors]
    return sum(size * stop // rows - size * start // rows for size, rows in sizes)

"""Phi 3, 3.5 and 4: fused weights, partly rotated heads, and LongRoPE for 128k tokens."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lmsupply_cli.importer.architectures.base import Decoder
from lmsupply_cli.importer.layers import RotaryRows, Rotation
from lmsupply_cli.importer.rope import Rotary, make_rotary
from lmsupply_cli.importer.weights import Floats


class Phi3(Decoder):
    """Queries, keys and values are one weight, and so are gate and up.

    LongRoPE rotates with one of two sets of frequencies (see Rotary). Both lie in one table: `border` rows of the short
    set, then the long set for the whole context. Positions point to the rows of the set that holds.
    """

    model_type = "phi3"

    def qkv(self, layer: int, x: str) -> tuple[str, ...]:
        name = f"{self.attention_prefix(layer)}.qkv_proj.weight"
        weight = self.tensor(name, self.query_size + 2 * self.kv_size, self.config.hidden_size)
        return (self.linear(x, [weight], f"layer.{layer}.attention.qkv"),)

    def mlp(self, layer: int, x: str) -> str:
        name, size = f"layer.{layer}.mlp", self.config.intermediate_size
        weight = self.tensor(f"model.layers.{layer}.mlp.gate_up_proj.weight", 2 * size, self.config.hidden_size)
        both = self.linear(x, [weight], f"{name}.gate_up")
        gate, up = self.blocks.split(both, [size, size], [f"{name}.gate", f"{name}.up"])
        return self.down(layer, self.gated(layer, gate, up))

    def rotation(self, layer: int) -> Rotation:
        name, length, dim = "rotary", self.context_length, self.config.rope.dim
        if name not in self._tables:
            rotary = make_rotary(self.config.rope, self.config)
            border = rotary.border
            if rotary.long is None or border >= length:
                tables = self.blocks.rotary_tables(name, rotary.tables, length, dim)
            else:
                tables = self.blocks.rotary_tables(name, _both_sets(rotary), border + length, dim)
                tables = replace(tables, positions=self._table_rows(border))
            self._tables[name] = tables
        return self._tables[name]

    def _table_rows(self, border: int) -> str:
        """The row of the table for each token [b, s]. A first prompt that is padded on the right begins at place 0."""
        graph = self.graph
        whole = next((layer for layer in range(self.config.layers) if not self.window(layer)), 0)
        buffer = graph.node("Shape", [f"past_key_values.{whole}.key"], "buffer_length", start=2, end=3)
        text = graph.node("Shape", ["attention_mask"], "text_length", start=1, end=2)
        is_long = graph.node("Greater", [graph.node("Max", [buffer, text], "room"), graph.ints(border)], "is_long")
        first_row = graph.node("Where", [is_long, graph.ints(border), graph.ints(0)], "first_row")
        new = graph.node("Shape", ["input_ids"], "new_tokens", start=1, end=2)
        before = graph.node("Max", [graph.node("Sub", ["token_counts", new], "padded_before"), graph.ints(0)], "before")
        start = graph.node(
            "Unsqueeze", [graph.node("Add", [before, first_row], "start_row"), graph.ints(1)], "start_rows"
        )
        first, step = (graph.constant(f"int64.{value}.scalar", np.array(value, np.int64)) for value in (0, 1))
        places = graph.node("Range", [first, graph.node("Squeeze", [new], "new_count"), step], "new_places")
        return graph.node("Add", [start, places], "table_rows")


def _both_sets(rotary: Rotary) -> RotaryRows:
    long, border = rotary.long, rotary.border
    assert long is not None

    def rows(start: int, stop: int) -> tuple[Floats, Floats]:
        parts = (
            rotary.tables(min(start, border), min(stop, border)),
            long.tables(max(start - border, 0), max(stop - border, 0)),
        )
        cos, sin = (np.concatenate(tables) for tables in zip(*parts, strict=True))
        return cos, sin

    return rows

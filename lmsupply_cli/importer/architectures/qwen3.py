"""Qwen 3: each head of queries and keys is normed before it is rotated."""

from __future__ import annotations

from lmsupply_cli.importer.architectures.base import Decoder


class Qwen3(Decoder):
    """As the base, with norms of heads."""

    model_type = "qwen3"

    def normed_qkv(self, layer: int, qkv: tuple[str, ...]) -> tuple[str, ...]:
        return self.norm_heads(layer, qkv)

"""Qwen 3: each head of queries and keys is normed before it is rotated."""

from __future__ import annotations

from lmsupply_cli.importer.architectures.base import Decoder


class Qwen3(Decoder):
    """The norm has one weight per number of a head, shared by all heads."""

    model_type = "qwen3"

    def normed_qkv(self, layer: int, qkv: tuple[str, ...]) -> tuple[str, ...]:
        query, key, value = self.apart(layer, qkv)
        config, prefix, name = self.config, self.attention_prefix(layer), f"layer.{layer}.attention"
        normed = [
            self.blocks.head_norm(
                x,
                self.norm_weight(f"{prefix}.{part}_norm.weight", config.head_dim),
                f"{name}.{part}_norm",
                heads,
                config.head_dim,
                config.norm_epsilon,
            )
            for x, part, heads in ((query, "q", config.heads), (key, "k", config.kv_heads))
        ]
        return (*normed, value)

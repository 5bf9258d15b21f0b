"""The figures of a model that its memory depends on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.memory.graph import GraphWeights, read_graph


@dataclass(frozen=True, slots=True)
class MemoryShape:
    """`cache_number_bytes`: of one number in the KV cache, 4 on CPU builds and 2 on GPU builds.

    `weights`: None where the graph could not be read; then `file_bytes` must do.
    """

    layers: int
    kv_heads: int
    head_size: int
    hidden_size: int
    vocabulary: int
    context_length: int
    cache_number_bytes: int
    file_bytes: int
    weights: GraphWeights | None = None

    def cache_bytes(self, tokens: int) -> int:
        """2 · layers · kv_heads · head_size · tokens · bytes a number: keys and values."""
        return 2 * self.layers * self.kv_heads * self.head_size * self.cache_number_bytes * tokens


def read_shape(folder: ModelFolder, *, provider: str = "cpu") -> MemoryShape | None:
    """None where the config does not tell the sizes."""
    decoder, model = folder.decoder, folder.model
    keys = ("num_hidden_layers", "num_key_value_heads", "head_size", "hidden_size")
    sizes = [_size(decoder, key) for key in keys]
    if any(size is None for size in sizes):
        return None
    layers, kv_heads, head_size, hidden_size = (size or 0 for size in sizes)
    try:
        weights = read_graph(folder.path / folder.graphs[0]) if len(folder.graphs) == 1 else None
    except (OSError, ValueError):
        weights = None
    return MemoryShape(
        layers=layers,
        kv_heads=kv_heads,
        head_size=head_size,
        hidden_size=hidden_size,
        vocabulary=model["vocab_size"],
        context_length=model["context_length"],
        cache_number_bytes=4 if provider in ("auto", "cpu") else 2,
        file_bytes=sum(f.stat().st_size for f in folder.path.iterdir() if f.is_file()),
        weights=weights,
    )


def _size(values: dict[str, Any], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) and value > 0 else None

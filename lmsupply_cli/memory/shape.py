"""The figures of a model that its memory depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    """Of a folder; None where the config does not tell the sizes."""
    size = sum(f.stat().st_size for f in folder.path.iterdir() if f.is_file())
    shape = shape_by_config(folder.model, size, provider=provider)
    if shape is None or len(folder.graphs) != 1:
        return shape
    try:
        return replace(shape, weights=read_graph(folder.path / folder.graphs[0]))
    except (OSError, ValueError):
        return shape


def shape_by_config(model: dict[str, Any], file_bytes: int, *, provider: str = "cpu") -> MemoryShape | None:
    """From the `model` of a genai_config and the size of the files, as they are known before a pull."""
    decoder = model.get("decoder")
    decoder = decoder if isinstance(decoder, dict) else {}
    sizes = [_size(decoder, key) for key in ("num_hidden_layers", "num_key_value_heads", "head_size", "hidden_size")]
    sizes += [_size(model, key) for key in ("vocab_size", "context_length")]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    layers, kv_heads, head_size, hidden_size, vocabulary, context_length = known
    number = 4 if provider in ("auto", "cpu") else 2
    return MemoryShape(layers, kv_heads, head_size, hidden_size, vocabulary, context_length, number, file_bytes)


def _size(values: dict[str, Any], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) and value > 0 else None

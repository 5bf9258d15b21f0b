"""The figures of a model that its memory depends on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.onnx_graph import GraphWeights, read_graph
from lmsupply_cli.files import folder_bytes, size_of
from lmsupply_cli.genai_config import MOST, TOKENIZER


@dataclass(frozen=True, slots=True)
class MemoryShape:
    """`cache_number_bytes`: of one number in the KV cache.

    `window`: tokens that each of `window_layers` layers keeps; the other layers keep the whole context.
    `weights`: None where the graph could not be read; then `file_bytes` must do. `guided`: answers follow a
    guidance, whose tables are counted.
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
    window: int = 0
    window_layers: int = 0
    tokenizer_file_bytes: int = 0
    guided: bool = False

    def without_window(self) -> MemoryShape:
        """As it is where draft tokens must be rewound: every layer keeps the whole context."""
        return replace(self, window_layers=0)

    @property
    def longrope_threshold(self) -> int:
        """As in the engine's ModelShape; the first chunk of a longer prompt has one token more."""
        return self.weights.longrope_threshold if self.weights else 0

    def cache_bytes(self, tokens: int) -> int:
        """2 · kv_heads · head_size · bytes a number · tokens, summed over the layers: keys and values.

        The engine allocates it for all `tokens` of the context, and for no fewer than the window.
        """
        tokens = max(tokens, self.window)
        kept = (self.layers - self.window_layers) * tokens + self.window_layers * self.window
        return 2 * self.kv_heads * self.head_size * self.cache_number_bytes * kept


def read_shape(folder: ModelFolder, *, provider: str = "auto") -> MemoryShape | None:
    """Of a folder on a provider ("auto": the one that it declares); None where the config does not tell the sizes."""
    provider = folder.provider if provider == "auto" else provider
    size = folder_bytes(folder.path, below=False)
    shape = shape_by_config(folder.model, size, provider=provider)
    if shape is not None:
        shape = replace(shape, tokenizer_file_bytes=max(0, size_of(folder.path / TOKENIZER)))
    if shape is None or len(folder.graphs) != 1:
        return shape
    inputs = folder.decoder.get("inputs")
    named = inputs.get("past_key_names") if isinstance(inputs, dict) else None
    try:
        weights = read_graph(
            folder.path / folder.graphs[0], cache_input=str(named or "past_key_values.%d.key").replace("%d", "0")
        )
    except (OSError, ValueError):
        return shape
    return replace(shape, weights=weights, cache_number_bytes=weights.cache_number_bytes or shape.cache_number_bytes)


def shape_by_config(model: dict[str, Any], file_bytes: int, *, provider: str = "cpu") -> MemoryShape | None:
    """From the `model` of a genai_config and the size of the files, as they are known before a pull.

    The type of the KV cache is the usual one then: 4 bytes on CPU builds, 2 on GPU builds.
    """
    decoder = model.get("decoder")
    decoder = decoder if isinstance(decoder, dict) else {}
    sizes = [_size(decoder, key) for key in ("num_hidden_layers", "num_key_value_heads", "head_size", "hidden_size")]
    sizes += [_size(model, key) for key in ("vocab_size", "context_length")]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes):
        return None
    layers, kv_heads, head_size, hidden_size, vocabulary, context_length = known
    window, window_layers = _window(decoder, layers)
    return MemoryShape(
        layers=layers,
        kv_heads=kv_heads,
        head_size=head_size,
        hidden_size=hidden_size,
        vocabulary=vocabulary,
        context_length=context_length,
        cache_number_bytes=4 if provider in ("auto", "cpu") else 2,
        file_bytes=file_bytes,
        window=window,
        window_layers=window_layers,
    )


def _window(decoder: dict[str, Any], layers: int) -> tuple[int, int]:
    """(tokens, how many layers): only the layers that are listed keep no more than the window."""
    window = decoder.get("sliding_window")
    size = _size(window, "window_size") if isinstance(window, dict) else None
    listed = window.get("layers") if isinstance(window, dict) else None
    if size is None or not isinstance(listed, list):
        return 0, 0
    return size, min(layers, len(listed))


def _size(values: dict[str, Any], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) and 0 < value <= MOST else None

"""How much memory a model takes, term by term. Constants measured with onnxruntime-genai 0.18 on the CPU.

weights   the products are packed anew when they are loaded: 1.36 bytes for each in the file. Tables that are
          looked up in stay in the file's pages and come in as they are touched; tied ones are there twice,
          once packed and once as they are. While it loads, the largest tensor is there a second time.
cache     2 · layers · kv_heads · head_size · 4 bytes a token (2 on GPU builds), for the whole context.
work      one chunk of the prefill: its logits, and activations of about 24 numbers for each of hidden_size. With
          longrope a long context begins with one large chunk.
tokenizer its tables, and with a guidance those of llguidance, for each token of the vocabulary.
process   Python, the engine and its libraries.

`benchmarks/memory.py` prints estimate and measurement side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from lmsupply_cli.engine.base import PREFILL_CHUNK
from lmsupply_cli.memory.rough import PACKED, PROCESS_BYTES

if TYPE_CHECKING:
    from lmsupply_cli.memory.shape import MemoryShape

TOKENIZER, GUIDANCE = 350, 380  # bytes for each token of the vocabulary
_TOKENIZER_BYTES = 2_000_000
_PARSING = 12  # bytes for each of tokenizer.json while it is read
_ACTIVATIONS = 24


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Bytes. `parsing_bytes` are only there while the tokenizer loads, which comes first, `loading_bytes` while the
    weights load, `logits_bytes` while a prompt is read; `tokenizer_bytes` include the tables of a guidance where one is
    used."""

    process_bytes: int
    weights_bytes: int
    loading_bytes: int
    cache_bytes: int
    work_bytes: int
    logits_bytes: int
    tokenizer_bytes: int = 0
    parsing_bytes: int = 0

    @property
    def steady_bytes(self) -> int:
        """While answers are generated."""
        return self.process_bytes + self.tokenizer_bytes + self.weights_bytes + self.cache_bytes + self.work_bytes

    @property
    def peak_bytes(self) -> int:
        """The peak, while the model loads or processes a prompt."""
        loading = self.process_bytes + self.tokenizer_bytes + self.weights_bytes + self.loading_bytes
        return max(self.process_bytes + self.parsing_bytes, loading, self.steady_bytes + self.logits_bytes)


def guidance_bytes(shape: MemoryShape) -> int:
    """The tables of llguidance, which the first guided answer makes."""
    return GUIDANCE * shape.vocabulary


def estimate_memory(shape: MemoryShape, context_tokens: int, *, chunk_tokens: int | None = None) -> MemoryEstimate:
    """`chunk_tokens` are read at once; by default as the prefill does."""
    if chunk_tokens is None:
        beyond = 0 < shape.longrope_threshold < context_tokens
        chunk_tokens = max(PREFILL_CHUNK, shape.longrope_threshold + 1 if beyond else 0)
    weights = shape.weights
    if weights is None:  # by the files alone: as if all were products
        held, loading = int(PACKED * shape.file_bytes), 0
    else:
        held = int(PACKED * weights.product_bytes) + weights.tied_bytes + weights.other_bytes
        loading = weights.largest_bytes
    return MemoryEstimate(
        process_bytes=PROCESS_BYTES,
        weights_bytes=held,
        loading_bytes=loading,
        cache_bytes=shape.cache_bytes(context_tokens),
        work_bytes=chunk_tokens * shape.hidden_size * 4 * _ACTIVATIONS,
        logits_bytes=chunk_tokens * shape.vocabulary * 4,
        parsing_bytes=_PARSING * shape.tokenizer_file_bytes,
        tokenizer_bytes=_TOKENIZER_BYTES
        + TOKENIZER * shape.vocabulary
        + (guidance_bytes(shape) if shape.guided else 0),
    )

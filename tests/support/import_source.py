"""A source in memory: a config and arrays, as a GGUF file or a folder of safetensors would offer them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lmsupply_cli.importer.source import TokenizerFacts
from lmsupply_cli.importer.weights import Coded, Coding, Floats


@dataclass
class MemoryTensor:
    """`values` of any shape; with `coding` and `codes` (of all rows) it is a coded tensor, whose floats are theirs."""

    name: str
    values: np.ndarray[Any, Any]
    kind: str = "F32"
    coding: Coding | None = None
    codes: Coded | None = None
    largest_read: int = 0

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    @property
    def size_bytes(self) -> int:
        return self.values.nbytes

    def floats(self, start: int = 0, stop: int | None = None) -> Floats:
        rows = self.values.reshape(-1, self.values.shape[-1])[start:stop].astype(np.float32)
        self.largest_read = max(self.largest_read, len(rows))
        return rows

    def coded(self, start: int = 0, stop: int | None = None) -> Coded:
        assert self.codes is not None
        parts = [self.codes.codes, self.codes.scales, self.codes.zero_points, self.codes.corrections]
        codes, scales, zeros, corrections = (None if part is None else part[start:stop] for part in parts)
        assert codes is not None
        assert scales is not None
        return Coded(codes, scales, zeros, corrections)


@dataclass
class MemorySource:
    config: Mapping[str, Any]
    tensors: Mapping[str, MemoryTensor]
    generation: Mapping[str, Any] = field(default_factory=dict)
    format: str = "safetensors"
    name: str = "test"
    license: str = ""
    files: tuple[Path, ...] = ()
    folded_norms: bool = False
    facts: TokenizerFacts = field(default_factory=lambda: TokenizerFacts(1, (2,), None))

    def write_tokenizer(self, folder: Path) -> TokenizerFacts:
        return self.facts


def coded_tensor(name: str, coded: Coded, coding: Coding, kind: str = "Q4_K") -> MemoryTensor:
    """Two-dimensional, with the floats that the codes stand for."""
    return MemoryTensor(name, coded.floats(coding), kind, coding, coded)


def random_coded(rng: np.random.Generator, shape: tuple[int, int], coding: Coding, spread: float = 0.1) -> Coded:
    """Rows whose weights are spread about 0."""
    rows, blocks = shape[0], shape[1] // coding.block
    codes = rng.integers(0, 1 << coding.bits, shape, dtype=np.uint8)
    scales = (spread / (1 << coding.bits) * rng.uniform(0.5, 2, (rows, blocks))).astype(np.float32)
    zeros = rng.integers(0, 1 << coding.bits, (rows, blocks), dtype=np.uint8) if coding.zero_points else None
    shift = rng.normal(0, spread / 4, (rows, blocks)).astype(np.float32) if coding.corrections else None
    return Coded(codes, scales, zeros, shift)

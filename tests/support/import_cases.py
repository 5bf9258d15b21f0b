"""Tiny random models whose logits transformers computed: `tools/make_import_cases.py` writes them, tests read them.

A case is CASES/NAME.json (config, shapes of the tensors, token ids) and CASES/NAME.npy (logits). The weights are not
stored: both sides draw the same ones, by name, from whole numbers of a generator whose stream never changes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from support.import_source import MemorySource, MemoryTensor

CASES = Path(__file__).resolve().parent.parent / "importer" / "cases"
_SPREAD = 0.3  # of weights about 0; strong enough that each block matters


@dataclass(frozen=True)
class Case:
    config: Mapping[str, Any]
    shapes: Mapping[str, Sequence[int]]
    ids: tuple[int, ...]
    logits: np.ndarray[Any, Any]  # [tokens, vocabulary]

    @property
    def source(self) -> MemorySource:
        tensors = {name: MemoryTensor(name, weights(name, shape)) for name, shape in self.shapes.items()}
        return MemorySource(self.config, tensors)


def weights(name: str, shape: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Uniform about 0, and about 1 for norms."""
    draw = np.random.RandomState(zlib.crc32(name.encode())).randint(-128, 129, size=tuple(shape))
    values = (draw / 128 * _SPREAD).astype(np.float32)
    return values + np.float32(1) if "norm" in name else values


def case_names() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.npy"))


def read_case(name: str) -> Case:
    data = json.loads((CASES / f"{name}.json").read_text())
    return Case(data["config"], data["shapes"], tuple(data["ids"]), np.load(CASES / f"{name}.npy"))


def write_case(name: str, case: Case) -> None:
    data = {"config": case.config, "shapes": case.shapes, "ids": case.ids}
    (CASES / f"{name}.json").write_text(json.dumps(data) + "\n")
    np.save(CASES / f"{name}.npy", case.logits.astype(np.float32))

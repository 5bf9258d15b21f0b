"""Runs an imported folder in the engine and gives the logits of all tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx


class EngineRun:
    """A folder with the cache of one text of at most `capacity` tokens.

    `in_floats`: MatMulNBits computes with the activations as they are instead of rounding them to 8 bits, so that codes
    can be compared with the floats that they stand for; this changes the folder.
    """

    def __init__(self, folder: Path, *, in_floats: bool = False, capacity: int = 64) -> None:
        if in_floats:
            path = folder / "model.onnx"
            path.write_bytes(_in_floats(path.read_bytes()))
        self._engine = _engine()
        self._model: Any = self._engine.Model(str(folder))
        self._capacity = capacity
        self.restart()

    def restart(self) -> None:
        params = self._engine.GeneratorParams(self._model)
        params.set_search_options(max_length=self._capacity)
        self._generator: Any = self._engine.Generator(self._model, params)

    def feed(self, ids: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The logits [tokens, vocabulary] of the next tokens."""
        self._generator.append_tokens(np.array(ids, np.int32))
        return np.array(self._generator.get_output("logits"))[0].astype(np.float32)


def _engine() -> Any:
    import lmsupply_cli  # keeps the engine from reporting what it runs

    assert lmsupply_cli
    import onnxruntime_genai

    return onnxruntime_genai


def _in_floats(data: bytes) -> bytes:
    model = onnx.load_from_string(data)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 1
    return model.SerializeToString()

"""Runs an imported graph token by token or at once, with onnxruntime alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime


class GraphRun:
    """A model.onnx with the cache of one text. A warning of onnxruntime about the graph is an error."""

    def __init__(self, folder: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(str(folder / "model.onnx"), options)
        self.rewind()

    def rewind(self) -> None:
        self.length = 0
        self._past = {
            each.name: np.zeros((1, each.shape[1], 0, each.shape[3]), _dtype(each.type))
            for each in self.session.get_inputs()
            if each.name.startswith("past")
        }

    def feed(self, ids: Sequence[int]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """The logits [tokens, vocabulary] of the next tokens."""
        self.length += len(ids)
        given = {"input_ids": np.array([ids], np.int64), "attention_mask": np.ones((1, self.length), np.int64)}
        names = ["logits", *(name.replace("past_key_values", "present") for name in self._past)]
        logits, *present = self.session.run(names, {**given, **self._past})
        self._past = dict(zip(self._past, present, strict=True))
        return np.asarray(logits)[0].astype(np.float32)


def _dtype(name: str) -> type[np.floating[Any]]:
    return {"tensor(float)": np.float32, "tensor(float16)": np.float16}[name]

"""The real model: its imports, a repository of safetensors made from its GGUF file, and how likely it finds a text."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file
from support.cli import Result, lmsupply

from lmsupply_cli.engine.base import PREFILL_CHUNK, TextModel
from lmsupply_cli.importer.plan import open_source


class Imports:
    """The model in its forms, each imported once, by the command. int8 and int4 are quantized from a repository of
    safetensors in F16, made of the same weights: the codes of the GGUF file would be carried over."""

    def __init__(self, gguf: Path, folder: Path) -> None:
        self.gguf, self.home = gguf, folder / "home"
        self._repository = folder / "smollm2"
        self.folder = functools.cache(self._folder)

    def lmsupply(self, *arguments: str | Path, **more: Any) -> Result:
        return lmsupply(*arguments, **{"LMSUPPLY_HOME": str(self.home)} | more)

    def _folder(self, form: str) -> Path:
        quantized = form in ("int4", "int8")
        if quantized and not self._repository.exists():
            write_repository(self.gguf, self._repository)
        source = self._repository if quantized else self.gguf
        done = self.lmsupply("add", source, form, "--precision", form, "--json")
        assert done.code == 0, done.err
        return Path(done.json_lines[-1]["path"])


def write_repository(gguf: Path, folder: Path) -> None:
    """config.json, tokenizer.json and weights in F16."""
    source = open_source(gguf)
    folder.mkdir()
    source.write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(dict(source.config)))
    tensors = {
        name: tensor.floats().reshape(tensor.shape).astype(np.float16) for name, tensor in source.tensors.items()
    }
    save_file(tensors, folder / "model.safetensors")


def log_probabilities(model: TextModel, ids: Sequence[int]) -> np.ndarray:
    """[tokens, vocabulary] of what follows each token."""
    decoder = model.new_decoder(capacity_tokens=len(ids) + 1)
    rows = []
    for at in range(0, len(ids), PREFILL_CHUNK):
        part = ids[at : at + PREFILL_CHUNK]
        decoder.append(part)
        logits = decoder.wide_logits(len(part)).astype(np.float32)
        logits -= logits.max(axis=-1, keepdims=True)
        rows.append(logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True)))
    decoder.close()
    return np.concatenate(rows)

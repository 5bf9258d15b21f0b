"""Files of safetensors, written byte by byte: good ones, and with `header` any others."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

KINDS = {"<f4": "F32", "<f2": "F16", "<i4": "I32", "<i8": "I64", "<f8": "F64", "|u1": "U8", "<u4": "U32"}


def bf16(values: Any) -> tuple[str, np.ndarray]:
    """`values` as BF16, cut off."""
    return "BF16", (np.asarray(values, dtype=np.float32).view(np.uint32) >> 16).astype(np.uint16)


def write_safetensors(path: Path, tensors: Mapping[str, Any]) -> None:
    """`tensors`: arrays, or (kind, array) where numpy has no such type."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    for name, value in tensors.items():
        kind, array = value if isinstance(value, tuple) else (KINDS[value.dtype.str], value)
        content = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": kind,
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    write_raw(path, json.dumps(header).encode(), data)


def write_raw(path: Path, header: bytes, data: bytes, header_bytes: int | None = None) -> None:
    """`header_bytes`: what the file claims, if it isn't the truth."""
    size = len(header) if header_bytes is None else header_bytes
    path.write_bytes(size.to_bytes(8, "little") + header + data)


def write_model(folder: Path, tensors: Mapping[str, Any], **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    write_safetensors(folder / "model.safetensors", tensors)
    return folder

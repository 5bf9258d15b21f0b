"""Are the libraries here that the CUDA engine loads? Looked for by name; none is loaded."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from lmsupply_cli.files import is_file, listed

# what onnxruntime-gpu links with; any one name of a row will do
NEEDED: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cuDNN 9", ("libcudnn.so.9", "cudnn64_9.dll")),
    ("cuBLAS", ("libcublasLt.so.12", "libcublasLt.so.13", "cublasLt64_12.dll", "cublasLt64_13.dll")),
    ("the CUDA runtime", ("libcudart.so.12", "libcudart.so.13", "cudart64_12.dll", "cudart64_13.dll")),
)
_SYSTEM = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/local/cuda/lib64",
    "/usr/lib/wsl/lib",
)


def missing_libraries(is_there: Callable[[str], bool] | None = None) -> list[str]:
    """Names of what is missing, for people."""
    there = is_there or _finder(_folders())
    return [name for name, files in NEEDED if not any(there(file) for file in files)]


def _finder(folders: Iterable[Path]) -> Callable[[str], bool]:
    known = list(folders)
    return lambda name: any(is_file(folder / name) for folder in known)


def _folders() -> list[Path]:
    """Where the loader looks, and where pip puts NVIDIA's packages (onnxruntime finds them there)."""
    paths = [
        *os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep),
        *os.environ.get("PATH", "").split(os.pathsep),
        *_SYSTEM,
    ]
    found = [Path(path) for path in paths if path]
    for site in map(Path, sys.path):
        found += [folder for kind in ("lib", "bin") for folder in listed(site, f"nvidia/*/{kind}")]
    return found

"""For a worker: the tokenizer of a folder, in a process that may hang or die."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from lmsupply_cli.engine.genai import import_engine
from lmsupply_cli.engine.tokenizer import CannotLoad, encode_with, load_library
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.genai_config import TOKENIZER


@lru_cache(maxsize=1)
def _encoder(folder: str, library: str) -> Callable[[str], list[int]]:
    if library == "engine":
        engine = import_engine().Tokenizer(folder)
        return lambda text: [int(i) for i in engine.encode(text)]
    loaded = load_library(Path(folder) / TOKENIZER)
    return lambda text: encode_with(loaded, text)


def handle(request: dict[str, Any], limit_bytes: int) -> dict[str, Any]:
    """The ids of the text of `request`, or what the library says."""
    try:
        encode = _encoder(request["folder"], request["library"])
        return {"answer": {"ids": encode(request["text"]) if request["text"] else []}}
    except (CannotLoad, LmsupplyError, RuntimeError, ValueError) as error:
        return {"answer": {"error": str(error)}}

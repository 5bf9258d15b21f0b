"""For a worker: the engine's tokenizer of a folder, in a process that may hang or die."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from lmsupply_cli.engine.genai import import_engine


@lru_cache(maxsize=1)
def _tokenizer(folder: str) -> Any:
    return import_engine().Tokenizer(folder)


def handle(request: dict[str, Any], limit_bytes: int) -> dict[str, Any]:
    """The ids of the text of `request`, or what the engine says."""
    try:
        tokenizer = _tokenizer(request["folder"])
        return {"answer": {"ids": [int(i) for i in tokenizer.encode(request["text"])] if request["text"] else []}}
    except (RuntimeError, ValueError) as error:
        return {"answer": {"error": str(error)}}

"""What a model's own files say about sampling.

generation_config.json outranks the `search` block of genai_config.json. A block in which
every value is the builder's neutral default says nothing. One that departs from them was
written by somebody, and its values hold, with two exceptions that only ever are placeholders:
`top_k` of 1 beside `do_sample`, and `do_sample` false.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lmsupply_cli.config.values import check_value
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.errors import LmsupplyError

_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "temperature": (1.0,),
    "top_p": (1.0,),
    "top_k": (1, 50),
    "repetition_penalty": (1.0,),
    "min_p": (0.0,),
}
_KEYS = (*_NEUTRAL, "no_repeat_ngram_size")


def model_options(folder: ModelFolder) -> dict[str, Any]:
    """Sampling values that the folder itself asks for."""
    return _speaks(folder.search) | _speaks(folder.read_json("generation_config.json"))


def _speaks(block: Mapping[str, Any]) -> dict[str, Any]:
    said = {key: block[key] for key in _KEYS if block.get(key) is not None}
    if all(said[key] in _NEUTRAL[key] for key in said if key in _NEUTRAL):
        said = {}
    if said.get("top_k") == 1:
        del said["top_k"]
    return {key: value for key, value in said.items() if _valid(key, value)}


def _valid(key: str, value: Any) -> bool:
    try:
        check_value(key, value, place="model")
    except LmsupplyError:
        return False
    return True

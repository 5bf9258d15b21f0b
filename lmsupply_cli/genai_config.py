"""What the JSON files of a model folder may look like, and what a genai_config.json names.

Each file is checked once, against a table of types by key, when it comes in; what reads the value later needs no
guards. The types and limits are those of the engine (0.18), which takes no null, no whole number beyond 32 bits, and
no text for a number. Keys that are not in a table are the engine's business.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.files import parse_json
from lmsupply_cli.foreign import plain

CONFIG = "genai_config.json"
TOKENIZER = "tokenizer.json"
TOKENIZER_CONFIG = "tokenizer_config.json"
GENERATION_CONFIG = "generation_config.json"
MOST = 2**31 - 1  # the engine's whole numbers have 32 bits


class Kind(NamedTuple):
    """`says` follows "is not"."""

    says: str
    fits: Callable[[Any], bool]


def _whole(least: int, most: int = MOST) -> Callable[[Any], bool]:
    return lambda v: isinstance(v, int) and not isinstance(v, bool) and least <= v <= most


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) < 10**300 and math.isfinite(value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) < 1024 and (not value or value.isprintable())


TEXT = Kind("a text", lambda v: isinstance(v, str))
NAME = Kind("a file name", _is_name)
FLAG = Kind("true or false", lambda v: isinstance(v, bool))
NUMBER = Kind("a number", _is_number)
ID = Kind("a whole number of 32 bits", _whole(-MOST - 1))
COUNT = Kind(f"a whole number from 1 to {MOST:,}", _whole(1))
SMALL = Kind("a whole number up to 1,024", _whole(-1, 1024))
OBJECT = Kind("an object", lambda v: isinstance(v, dict))
IDS = Kind("a token id or a list of them", lambda v: all(map(ID.fits, v)) if isinstance(v, list) else ID.fits(v))
NAMES = Kind("an object or a list", lambda v: isinstance(v, (dict, list)))
OPTION = Kind("a text", lambda v: isinstance(v, (str, dict)))
SPECIAL = Kind("a text or an object with a text as content",
               lambda v: v is None or isinstance(v, str) or (isinstance(v, dict) and isinstance(v.get("content", ""), str)))  # fmt: skip


def _or_null(kind: Kind) -> Kind:
    return Kind(kind.says, lambda v: v is None or kind.fits(v))


class ListOf(NamedTuple):
    rows: Any


_OPTIONS: Mapping[str, Any] = {"*": TEXT}
_SESSION: Mapping[str, Any] = {
    "log_id": TEXT, "enable_profiling": TEXT, "custom_ops_library": TEXT, "graph_optimization_level": TEXT,
    "intra_op_num_threads": SMALL, "inter_op_num_threads": SMALL, "log_severity_level": SMALL,
    "log_verbosity_level": ID, "enable_cpu_mem_arena": FLAG, "enable_mem_pattern": FLAG,
    "provider_options": ListOf({"*": {"*": OPTION}}), "*": TEXT,
}  # fmt: skip
_PART: dict[str, Any] = {
    "filename": NAME, "session_options": _SESSION, "run_options": _OPTIONS, "inputs": NAMES, "outputs": NAMES,
    "num_hidden_layers": COUNT, "num_key_value_heads": COUNT, "num_attention_heads": COUNT, "head_size": COUNT,
    "hidden_size": COUNT, "sliding_window": {"window_size": ID, "layers": ListOf(ID)},
}  # fmt: skip
_PART["pipeline"] = ListOf({"*": _PART})
_CONFIG: Mapping[str, Any] = {
    "model": {
        "type": TEXT, "context_length": COUNT, "vocab_size": COUNT, "eos_token_id": IDS, "bos_token_id": ID,
        "pad_token_id": ID, "decoder": _PART, "*": _PART,
    },
    "search": {
        "do_sample": FLAG, "early_stopping": FLAG, "past_present_share_buffer": FLAG, "temperature": NUMBER,
        "top_p": NUMBER, "repetition_penalty": NUMBER, "length_penalty": NUMBER, "diversity_penalty": NUMBER,
        "top_k": ID, "max_length": ID, "min_length": ID, "num_beams": ID, "num_return_sequences": ID,
        "no_repeat_ngram_size": ID,
    },
}  # fmt: skip
TABLES: Mapping[str, Mapping[str, Any]] = {
    CONFIG: _CONFIG,
    TOKENIZER: {
        "added_tokens": _or_null(Kind("a list", lambda v: isinstance(v, list))),
        "model": OBJECT,
    },
    TOKENIZER_CONFIG: {
        "tokenizer_class": TEXT, "chat_template": TEXT, "bos_token": SPECIAL, "eos_token": SPECIAL, "unk_token": SPECIAL,
        "clean_up_tokenization_spaces": FLAG,
        "model_max_length": Kind("a number", lambda v: isinstance(v, (int, float)) and not isinstance(v, bool)),
        "added_tokens_decoder": Kind("an object with token ids as keys",
                                     lambda v: not isinstance(v, dict) or all(k.isascii() and k.isdecimal() for k in v)),
    },
    GENERATION_CONFIG: {
        "eos_token_id": _or_null(IDS), "temperature": _or_null(NUMBER), "top_p": _or_null(NUMBER),
        "top_k": _or_null(ID), "min_p": _or_null(NUMBER), "repetition_penalty": _or_null(NUMBER),
        "no_repeat_ngram_size": _or_null(ID), "do_sample": _or_null(FLAG),
    },
}  # fmt: skip
_ADDED_TOKEN: Mapping[str, Any] = {"id": ID, "content": TEXT, "special": FLAG}


def file_problem(name: str, value: Any) -> str:
    """What is wrong with the parsed file `name`, with its key; "" where its table finds nothing."""
    if not isinstance(value, dict):
        return "it is not an object" if name != CONFIG else "it has no model.type, so it is no GenAI config"
    if name == CONFIG:
        return _config_problem(value)
    if found := _wrong(value, TABLES[name], ""):
        return found
    return _wrong(value.get("added_tokens") or [], ListOf(_ADDED_TOKEN), "added_tokens") if name == TOKENIZER else ""


def _config_problem(config: dict[str, Any]) -> str:
    model = config.get("model")
    if not isinstance(model, dict) or "type" not in model:
        return "it has no model.type, so it is no GenAI config"
    if found := _wrong(config, _CONFIG, ""):
        return found
    for key in ("context_length", "vocab_size"):
        if key not in model:
            return f"model.{key} is missing"
    size = model["vocab_size"]
    beyond = next((i for i in token_ids(model.get("eos_token_id")) if not 0 <= i < size), None)
    if beyond is not None:
        return f"model.eos_token_id names token {beyond}, but the vocabulary has {size:,}"
    return "" if graph_names(config) else "it names no model file"


def _wrong(value: Any, table: Any, place: str) -> str:
    """The first thing that does not fit, as "KEY is not …: VALUE"."""
    if isinstance(table, Kind):
        return "" if table.fits(value) else f"{place} is not {table.says}: {shown(value)}"
    if isinstance(table, ListOf):
        if not isinstance(value, list):
            return f"{place} is not a list: {shown(value)}"
        return next((w for at, row in enumerate(value) if (w := _wrong(row, table.rows, f"{place}[{at}]"))), "")
    if not isinstance(value, dict):
        return f"{place} is not an object: {shown(value)}"
    for key, inner in value.items():
        rule = table.get(key)
        if rule is None and (rule := table.get("*")) is _PART and not isinstance(inner, dict):
            continue  # of a model's own keys those that are no part of it
        if rule is not None and (found := _wrong(inner, rule, f"{place}.{key}".lstrip("."))):
            return found
    return ""


def shown(value: Any) -> str:
    """A foreign value in a message: as JSON, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except ValueError:  # a number of more digits than Python writes
        return "a very long number"
    return plain(text, 60)


def object_of(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Of a config that was not checked; {} for anything else."""
    value = values.get(key)
    return value if isinstance(value, dict) else {}


def count_of(values: Mapping[str, Any], key: str) -> int | None:
    """Of a config that was not checked; None for anything else."""
    value = values.get(key)
    return value if isinstance(value, int) and 0 < value <= MOST else None


def parse_config(text: str) -> dict[str, Any]:
    """A genai_config.json as far as it is an object; {} for anything else."""
    try:
        value = parse_json(text, CONFIG)
    except LmsupplyError:
        return {}
    return value if isinstance(value, dict) else {}


def strings(value: Any, place: str = "", key: str = "") -> Iterator[tuple[str, str, Any]]:
    """(place, key, value) of each value that is no object and no list, whatever the shape."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from strings(inner, f"{place}.{name}" if place else str(name), str(name))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from strings(inner, f"{place}[{at}]", key)
    else:
        yield place, key, value


def named_files(config: Mapping[str, Any]) -> list[str]:
    """Every file that a config names: graphs, and what stands beside them. Of any shape."""
    found = [value for _, key, value in strings(config.get("model")) if _names_file(key) and isinstance(value, str)]
    return list(dict.fromkeys(name for name in found if name))


def graph_names(config: Mapping[str, Any]) -> list[str]:
    """The ONNX files that a config names, also in pipelines. Of any shape."""
    found = [
        value
        for _, key, value in strings(config.get("model"))
        if key.endswith("filename") and key not in ("config_filename", "adapter_filename") and isinstance(value, str)
    ]
    return list(dict.fromkeys(name for name in found if name))


def _names_file(key: str) -> bool:
    return key.endswith("filename") or key == "data_file"


def declared_provider(config: Mapping[str, Any]) -> str:
    """The execution provider that the decoder declares, in small letters; "" for none. Of any shape."""
    value: Any = config
    for key in ("model", "decoder", "session_options", "provider_options"):
        value = value.get(key) if isinstance(value, dict) else None
    rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []
    name = next((str(name) for row in rows for name in row), "")
    return name.lower().removesuffix("executionprovider")


def token_ids(value: Any) -> list[int]:
    """Of an entry that is an id or several."""
    return [i for i in (value if isinstance(value, list) else [value]) if isinstance(i, int)]


_BEFORE_MODEL = {"truncation", "padding", "added_tokens", "normalizer", "pre_tokenizer", "post_processor", "decoder"}
_END = re.compile(rb"\}\s*\}\s*\Z")
_TRIES = 8  # places where "model" may stand in a text before it is the key


def tokenizer_head(data: bytes) -> bytes:
    """A tokenizer.json with an empty `model`, where that is its last key, as the library that defines the format writes
    it: its vocabulary takes a second to parse, and only who encodes needs it. Anything else comes back as it is."""
    if not _END.search(data, max(0, len(data) - 1000)):
        return data
    at = -1
    for _ in range(_TRIES):
        at = data.find(b'"model"', at + 1)
        if at < 0 or not re.match(rb"\s*:\s*\{", data[at + 7 : at + 100]):
            continue
        head = data[:at]
        if _is_head(head):
            return head + b'"model": {}}'
    return data


def _is_head(head: bytes) -> bool:
    """Whether this is the beginning of an object, with all the keys that come before the model, and a comma."""
    try:
        text = head.decode("utf-8-sig").rstrip()
        value = json.loads(text.removesuffix(",") + "}") if text.endswith(",") else None
    except (ValueError, RecursionError):
        return False
    return isinstance(value, dict) and value.keys() >= _BEFORE_MODEL

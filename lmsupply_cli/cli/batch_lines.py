"""The prompts of a batch: text, JSON lines or a JSON array (of our own rows or OpenAI's batch requests), CSV."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lmsupply_cli.chat.files import read_text
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.cli.inputs import read_stdin
from lmsupply_cli.config.table import GENERATION_KEYS, SETTINGS
from lmsupply_cli.config.values import parse_text
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import LmsupplyError, UsageError, did_you_mean
from lmsupply_cli.files import expanded, parse_json, size_of
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.units import cut

STDIN = Path("-")
_STREAM_BYTES = 256_000_000
_JSON = (".jsonl", ".json", ".ndjson")
_CSV = {".csv": ",", ".tsv": "\t"}
_FORM = 'such as {"prompt": "hello"} or {"messages": [{"role": "user", "content": "hello"}]}'


@dataclass(frozen=True, slots=True)
class Line:
    """One prompt. `place`: where it stands, such as "line 3"; `digest`: of what stands there, to recognize it; `model`:
    what an OpenAI request names; `error`: why it cannot be answered."""

    index: int
    place: str
    id: Any
    digest: str
    messages: tuple[ChatMessage, ...] = ()
    options: Mapping[str, Any] | None = None
    guidance: Guidance | None = None
    model: str = ""
    error: LmsupplyError | None = None


@dataclass(slots=True)
class _Record:
    """What a row requests, as far as it was read."""

    id: Any = None
    messages: list[ChatMessage] | None = None
    options: dict[str, Any] | None = None
    guidance: Guidance | None = None
    model: str = ""


def read_lines(source: Path, terminal: Terminal, *, system: str | None, takes_options: bool = True) -> list[Line]:
    """The prompts of `source`, or of stdin for "-". `takes_options`: a row may have generation options and a
    response_format. Raises UsageError; what is wrong in one row is its `error`."""
    if source == STDIN:
        name, text = "stdin", read_stdin(terminal, limit_bytes=_STREAM_BYTES)
    else:
        name, text = str(source), read_text(source, limit_bytes=_limit(source))
    found: list[Line] = []
    for place, raw, read in _rows(text, _form(source), name):
        digest = hashlib.sha256(raw.encode()).hexdigest()[:12]
        found.append(_line(len(found), place, digest, read, system=system, takes_options=takes_options))
    if not found:
        raise UsageError(f"there is no prompt in {name}", hint=f"add a line {_FORM}")
    return found


def _limit(path: Path) -> int:
    """A file may be of any size; what has no size of its own, a pipe or a device, need not have an end."""
    return max(_STREAM_BYTES, size_of(expanded(path)))


def _form(source: Path) -> str:
    """ "json", "csv" or "text" by the name; "" where the content has to tell: in a pipe."""
    suffix = source.suffix.lower()
    if suffix in _JSON:
        return "json"
    if suffix in _CSV:
        return suffix
    return "" if source == STDIN or size_of(expanded(source)) < 0 else "text"


_Read = Callable[[_Record, bool], None]  # fills the record; raises UsageError
_Row = tuple[str, str, _Read]


def _rows(text: str, form: str, name: str) -> Iterator[_Row]:
    """(place, what stands there, how it is read)."""
    if form in _CSV:
        yield from _csv_rows(text, name, _CSV[form])
        return
    if form != "text" and text.lstrip()[:1] in ("[", "{") and (values := _whole(text)) is not None:
        for number, value in enumerate(values, 1):
            yield f"item {number}", json.dumps(value), _reader(value)
        return
    as_json = form == "json" or (not form and _is_object(text.lstrip().split("\n", 1)[0]))
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"line {number}", line, _json_reader(line) if as_json else _text_reader(line)


def _whole(text: str) -> list[Any] | None:
    """The items of a JSON array, or the one object that spans several lines; None if it is JSON lines."""
    first = text.lstrip().split("\n", 1)[0]
    if first.startswith("{") and _is_object(first):
        return None
    try:
        value = parse_json(text, "the file", error=UsageError)
    except UsageError:
        return None
    return value if isinstance(value, list) else [value]


def _is_object(line: str) -> bool:
    try:
        return isinstance(parse_json(line, "the line", error=UsageError), dict)
    except UsageError:
        return False


def _text_reader(line: str) -> _Read:
    def read(record: _Record, _: bool) -> None:
        record.messages = [ChatMessage.user(line.strip())]

    return read


def _json_reader(line: str) -> _Read:
    def read(record: _Record, takes_options: bool) -> None:
        _read_row(record, parse_json(line, "the line", error=UsageError), takes_options)

    return read


def _reader(value: Any) -> _Read:
    return lambda record, takes_options: _read_row(record, value, takes_options)


def _line(index: int, place: str, digest: str, read: _Read, *, system: str | None, takes_options: bool) -> Line:
    record = _Record()
    try:
        read(record, takes_options)
        messages = record.messages or []
        if system and messages[0].role != "system":
            messages.insert(0, ChatMessage.system(system))
        for message in messages:
            check_text(message.content)
        if record.guidance:
            check_guidance(record.guidance)
    except LmsupplyError as error:
        return Line(index, place, record.id, digest, model=record.model, error=_of_a_file(error))
    return Line(index, place, record.id, digest, tuple(messages), record.options, record.guidance, record.model)


def _of_a_file(error: LmsupplyError) -> LmsupplyError:
    """Its messages name keys; in backquotes they would be shown as flags."""
    return type(error)(error.message.replace("`", ""), hint=error.hint.replace("`", ""))


def _read_row(record: _Record, row: Any, takes_options: bool) -> None:
    if not isinstance(row, dict):
        raise UsageError("expected a JSON object", hint=_FORM)
    if "body" in row or "custom_id" in row:
        _read_request(record, row, takes_options)
        return
    record.id = _id(row.get("id"))
    given = {key: value for key, value in row.items() if value is not None}
    record.messages = _messages(given)
    options = given.get("options", {})
    if not isinstance(options, dict):
        raise UsageError("options must be a JSON object")
    beside = {key: value for key, value in given.items() if key not in ("prompt", "messages", "id", "options")}
    record.options = _options(beside | options, takes_options)


def _id(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError as error:
        raise UsageError("the id is not a JSON value") from error
    return value


def _messages(row: Mapping[str, Any]) -> list[ChatMessage]:
    prompt, messages = row.get("prompt"), row.get("messages")
    if isinstance(prompt, str) and messages is None:
        if not prompt.strip():
            raise UsageError("the prompt is empty")
        return [ChatMessage.user(prompt)]
    if prompt is None and isinstance(messages, list) and all(isinstance(m, dict) for m in messages):
        return as_messages([_message(m) for m in messages])
    raise UsageError("expected `prompt` (a string) or `messages` (a list)", hint=_FORM)


def _message(message: Mapping[str, Any]) -> dict[str, Any]:
    """With the text of its parts, and the newer name of the system role."""
    found = dict(message)
    if found.get("role") == "developer":
        found["role"] = "system"
    content = found.get("content")
    if isinstance(content, list):
        if not all(isinstance(p, dict) and p.get("type") == "text" and isinstance(p.get("text"), str) for p in content):
            raise UsageError("only text is supported in the content of a message")
        found["content"] = "\n".join(part["text"] for part in content)
    return found


def _options(given: Mapping[str, Any], takes_options: bool) -> dict[str, Any]:
    """Generation options, checked. Raises UsageError."""
    known = GENERATION_KEYS if takes_options else ()
    for key in given:
        if key not in known:
            keys = "keys: prompt or messages, id" + (", and options: " + ", ".join(known) if known else "")
            hint = did_you_mean(key, (*known, "prompt", "messages", "id"), keys)
            raise UsageError(f"unknown key {key!r}", hint=hint)
    found = {key: _plain(key, value) for key, value in given.items() if value is not None}
    GenerationOptions().replaced(**found)
    return found


def _plain(key: str, value: Any) -> Any:
    """As data tools write it: 5.0 is 5."""
    if SETTINGS[key].kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    return tuple(value) if isinstance(value, list) else value


_REQUEST = ("custom_id", "method", "url", "body")
_ANY = ("user", "metadata", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention")
_NOTHING: Mapping[str, tuple[Any, ...]] = {  # values of these keys that request nothing
    "n": (1,), "stream": (False,), "stream_options": (), "store": (False,), "tools": ([],), "functions": ([],),
    "tool_choice": ("none", "auto"), "function_call": ("none", "auto"), "parallel_tool_calls": (True, False),
    "modalities": (["text"],), "best_of": (1,), "echo": (False,),
}  # fmt: skip


def _read_request(record: _Record, row: Mapping[str, Any], takes_options: bool) -> None:
    """A request of OpenAI's batch format."""
    record.id = _id(row.get("custom_id"))
    body = _body(row)
    record.model = body["model"] if isinstance(body.get("model"), str) else ""
    if not isinstance(body.get("messages"), list):
        raise UsageError("body.messages must be a list of messages")
    record.messages = _messages({"messages": body["messages"]})
    options: dict[str, Any] = {}
    for key, value in body.items():
        if key in ("messages", "model", *_ANY) or any(value == one for one in _NOTHING.get(key, ())):
            continue
        if key == "response_format" and (takes_options or value == {"type": "text"}):
            record.guidance = _response_format(value)
        elif key == "max_completion_tokens" and takes_options:
            options["max_tokens"] = value
        elif key in GENERATION_KEYS and takes_options:
            options.setdefault(key, value)
        else:
            raise UsageError(
                f"body.{key} is not supported" + (f" with the value {cut(repr(value), 60)}" if key in _NOTHING else "")
            )
    record.options = _options(options, takes_options)


def _body(row: Mapping[str, Any]) -> dict[str, Any]:
    """Without null values."""
    if unknown := [key for key in row if key not in _REQUEST]:
        raise UsageError(
            f"unknown key {unknown[0]!r}",
            hint=did_you_mean(unknown[0], _REQUEST, "keys of a batch request: " + ", ".join(_REQUEST)),
        )
    if row.get("method") not in (None, "POST"):
        raise UsageError("method must be POST")
    if row.get("url") not in (None, "/v1/chat/completions"):
        raise UsageError("url must be /v1/chat/completions", hint=f"it is {row['url']!r}")
    body = row.get("body")
    if not isinstance(body, dict):
        raise UsageError("body must be a JSON object with messages")
    return {key: value for key, value in body.items() if value is not None}


def _response_format(value: Any) -> Guidance | None:
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "text":
        return None
    if kind == "json_object":
        return Guidance.json()
    if kind == "json_schema":
        named = value.get("json_schema")
        schema = named.get("schema") if isinstance(named, dict) else None
        if isinstance(schema, dict):
            return Guidance.json_schema(schema)
        raise UsageError("response_format.json_schema.schema must be a JSON schema")
    raise UsageError("response_format.type must be text, json_object or json_schema")


def _csv_rows(text: str, name: str, delimiter: str) -> Iterator[_Row]:
    """A header names the columns: prompt, perhaps id and options."""
    csv.field_size_limit(_STREAM_BYTES)
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        header = [column.strip() for column in next(rows, [])]
        _check_header(header, name)
        for row in rows:
            if any(cell.strip() for cell in row):
                cells = dict(zip(header, row, strict=False))
                yield f"line {rows.line_num}", json.dumps(cells), _csv_reader(cells, len(header), len(row))
    except csv.Error as error:
        raise UsageError(f"{name} is not valid CSV: {error} (line {rows.line_num})") from error


def _check_header(header: list[str], name: str) -> None:
    if "prompt" not in header:
        raise UsageError(f"{name} has no column named prompt", hint="its first line must name the columns")
    for number, column in enumerate(header):
        if column in header[:number]:
            raise UsageError(f"{name} has two columns named {column!r}")
        if column not in ("prompt", "id", *GENERATION_KEYS):
            raise UsageError(f"{name}: unknown column {column!r}", hint="columns: prompt, id, and generation options")


def _csv_reader(cells: Mapping[str, str], columns: int, given: int) -> _Read:
    def read(record: _Record, takes_options: bool) -> None:
        record.id = cells.get("id") or None
        if given > columns:
            raise UsageError(f"the row has {given} cells, but the header has {columns}")
        record.messages = _messages({"prompt": cells.get("prompt", "")})
        texts = {key: text for key, text in cells.items() if key not in ("prompt", "id") and text.strip()}
        if takes_options:
            record.options = _options({key: _cell(key, text) for key, text in texts.items()}, takes_options)
        else:
            _options(texts, takes_options)

    return read


def _cell(key: str, text: str) -> Any:
    """A stop sequence is a text with commas of its own; a number may be written as 5.0."""
    kind = SETTINGS[key].kind
    if kind == "list":
        return (text,)
    if kind == "int":
        try:
            return _plain(key, float(text)) if "." in text else int(text)
        except ValueError:
            pass
    try:
        return parse_text(key, text, place=key)
    except UsageError as error:
        raise UsageError(error.message.removeprefix(f"{key}: "), hint=error.hint) from error

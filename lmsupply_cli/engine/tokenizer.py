"""The model's own tokenizer: text to ids and back with Hugging Face `tokenizers`, from the folder's tokenizer.json.

The only importer of that library. A tokenizer.json with a regular expression that is not known to
finish in time runs in a worker process, which can be killed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.detokenizer import ByteDetokenizer, Detokenizer, WindowDetokenizer
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.pattern_guard import PatternGuard
from lmsupply_cli.engine.patterns import unknown_pattern
from lmsupply_cli.engine.token_bytes import read_decoding_rules
from lmsupply_cli.errors import EngineError, LmsupplyError, ModelFilesError
from lmsupply_cli.files import JSON_BYTES, parse_json, read_bytes
from lmsupply_cli.genai_config import TOKENIZER
from lmsupply_cli.units import shortened

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library


_UNKNOWN_PART = re.compile(r"untagged enum (?:Py)?(\w+?)(?:Wrapper|Untagged)\b")


class Tokenizer(Protocol):
    """Text to ids and back. Close it, unless its creator does."""

    hidden_ids: frozenset[int]  # control tokens that are not shown
    token_by_token: bool  # whether `token_bytes` are what `decode` makes of each token
    note: str  # what a user should know about it, "" for nothing

    def encode(self, text: str) -> list[int]:
        """Token ids; the text of an added token becomes that token. Raises UsageError, ModelFilesError."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ids; an incomplete character becomes U+FFFD."""

    def new_detokenizer(self, *, continues: bool = False) -> Detokenizer:
        """For ids that arrive one by one; `continues`: a space at the start counts."""

    def token_bytes(self, token: int) -> bytes | None:
        """What one token stands for; None for a control token and for an id without one."""

    def close(self) -> None:
        """Free it; a second call does nothing."""


class CannotLoad(Exception):
    """The library does not take this tokenizer.json; the text says why."""


class ModelTokenizer:
    """A Tokenizer by the library."""

    note = ""

    def __init__(self, folder: ModelFolder, *, visible: Collection[str] = ()) -> None:
        """`visible`: control strings that are shown, where others are not. Raises CannotLoad, ModelFilesError."""
        self.hidden_ids = hidden_ids(folder, visible)
        self._special = frozenset(row["id"] for row in folder.added_tokens if row.get("special"))
        pattern = unknown_pattern(folder.patterns)
        self._guard = PatternGuard(folder.path, pattern, library="tokenizers") if pattern else None
        self._library: Library | None = load_library(folder.path / TOKENIZER, encodes=not pattern)
        self._rules = read_decoding_rules(folder.decoding)
        self.token_by_token = self._rules is not None

    def encode(self, text: str) -> list[int]:
        check_text(text)
        library = self._open()
        if not text:
            return []
        return self._guard.encode(text) if self._guard else encode_with(library, text)

    def decode(self, ids: Sequence[int]) -> str:
        shown = [token for token in ids if token not in self.hidden_ids]
        with translated():
            return str(self._open().decode(shown, skip_special_tokens=False))

    def new_detokenizer(self, *, continues: bool = False) -> Detokenizer:
        library = self._open()
        if self._rules is None:
            return WindowDetokenizer(self.decode, self.hidden_ids)
        return ByteDetokenizer(self._rules, library.id_to_token, self.hidden_ids, continues=continues)

    def token_bytes(self, token: int) -> bytes | None:
        written = self._open().id_to_token(token)
        if written is None or token in self._special:
            return None
        if self._rules is None:
            return self.decode([token]).encode()
        return self._rules.bytes_of(written)

    def close(self) -> None:
        self._library = None
        if self._guard:
            self._guard.close()

    def _open(self) -> Library:
        if self._library is None:
            raise EngineError("the model is closed", hint="load it again")
        return self._library


def load_tokenizer(folder: ModelFolder, *, visible: Collection[str] = ()) -> Tokenizer:
    """By the library or, where it does not take the file, by the engine. Raises ModelFilesError, EngineUnavailable."""
    try:
        return ModelTokenizer(folder, visible=visible)
    except CannotLoad as cannot:
        from lmsupply_cli.engine.genai_tokenizer import engine_tokenizer

        return engine_tokenizer(folder, visible=visible, because=str(cannot))


def hidden_ids(folder: ModelFolder, visible: Collection[str]) -> frozenset[int]:
    """Special tokens are not shown, but for those that mark the parts of an answer."""
    return frozenset(row["id"] for row in folder.added_tokens if row.get("special") and row["content"] not in visible)


def load_library(path: Path, *, encodes: bool = True) -> Library:
    """The library's tokenizer of a tokenizer.json; not `encodes`: only to decode, without its patterns. Raises
    CannotLoad, ModelFilesError."""
    from tokenizers import Tokenizer as Library

    data = read_bytes(path, limit_bytes=JSON_BYTES, error=ModelFilesError)
    if not encodes:
        whole = parse_json(data, f"{path} is damaged: it", error=ModelFilesError)
        data = json.dumps(whole | {"normalizer": None, "pre_tokenizer": None}).encode("utf-8", "surrogatepass")
    try:
        with translated():
            made = Library.from_buffer(data)
            made.no_truncation()  # a prompt is never cut silently
            made.no_padding()
    except ModelFilesError as error:
        raise CannotLoad(error.message) from error
    return made


def encode_with(library: Library, text: str) -> list[int]:
    with translated():
        return library.encode(text, add_special_tokens=False).ids


@contextmanager
def translated() -> Iterator[None]:
    """The library raises bare Exception, and a panic of its Rust code as a BaseException of its own."""
    try:
        yield
    except (LmsupplyError, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise  # Ctrl-C, SIGTERM and their like
        raise ModelFilesError(f"tokenizer.json fails: {_in_one_line(error)}", hint="use another model") from error


def _in_one_line(error: BaseException) -> str:
    if found := _UNKNOWN_PART.search(" ".join(str(error).split())):
        return f"its {found[1].lower()} is of an unknown kind"
    if "untagged enum MergeType" in str(error):
        return "its merges are malformed"
    text = re.sub(r"^Cannot instantiate Tokenizer from buffer: | at line \d+ column \d+$", "", str(error))
    return shortened(text, 200)

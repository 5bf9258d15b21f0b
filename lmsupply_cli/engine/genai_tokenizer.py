"""The engine's own tokenizer, for a tokenizer.json that the `tokenizers` library does not take.

Its tokens may differ from those that the model was trained on, which a note says.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.detokenizer import Detokenizer, WindowDetokenizer
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.genai_errors import load_error, run_error
from lmsupply_cli.engine.pattern_guard import PatternGuard
from lmsupply_cli.engine.patterns import unknown_pattern
from lmsupply_cli.engine.tokenizer import hidden_ids
from lmsupply_cli.errors import EngineError, ModelFilesError


class GenaiTokenizer:
    """A Tokenizer by the engine."""

    token_by_token = False

    def __init__(
        self, folder: ModelFolder, make: Callable[[], Any], *, visible: Collection[str] = (), note: str = ""
    ) -> None:
        """`make` gives the engine's tokenizer; `visible`: control strings that are shown, where others are not. Raises
        ModelFilesError for one that does not load in time, and what `make` raises."""
        self.note = note
        self.hidden_ids = hidden_ids(folder, visible)
        self._special = frozenset(row["id"] for row in folder.added_tokens if row.get("special"))
        self._added = {row["id"]: "" if row["id"] in self.hidden_ids else row["content"] for row in folder.added_tokens}
        pattern = unknown_pattern(folder.patterns)
        self._guard = PatternGuard(folder.path, pattern, library="engine") if pattern else None
        self._tokenizer: Any = make()

    def encode(self, text: str) -> list[int]:
        check_text(text)
        if not text:
            return []
        tokenizer = self._open()
        if self._guard:
            return self._guard.encode(text)
        try:
            return [i for i in map(int, tokenizer.encode(text)) if i >= 0]  # -1: a byte without a token
        except (RuntimeError, UnicodeError) as error:
            raise run_error(error) from error

    def decode(self, ids: Sequence[int]) -> str:
        """Added tokens are decoded here: the engine shows them as U+FFFD or not at all."""
        out, plain = "", []
        for token in ids:
            if (text := self._added.get(token)) is None:
                plain.append(token)
                continue
            out += self._decode_plain(plain) + text
            plain = []
        return out + self._decode_plain(plain)

    def new_detokenizer(self, *, continues: bool = False) -> Detokenizer:
        return WindowDetokenizer(self.decode, self.hidden_ids)

    def token_bytes(self, token: int) -> bytes | None:
        return None if token in self._special else self.decode([token]).encode()

    def _decode_plain(self, ids: list[int]) -> str:
        if not ids:
            return ""
        import numpy as np

        try:
            return str(self._open().decode(np.asarray(ids, dtype=np.int32)))
        except (RuntimeError, UnicodeError) as error:
            raise run_error(error) from error

    def close(self) -> None:
        self._tokenizer = None
        if self._guard:
            self._guard.close()

    def _open(self) -> Any:
        if self._tokenizer is None:
            raise EngineError("the model is closed", hint="load it again")
        return self._tokenizer


def engine_tokenizer(folder: ModelFolder, *, visible: Collection[str], because: str) -> GenaiTokenizer:
    """Raises ModelFilesError, EngineUnavailable."""
    note = f"using the engine's tokenizer, whose tokens may differ from the model's: {because}"
    try:
        return GenaiTokenizer(folder, lambda: _engines(folder), visible=visible, note=note)
    except (RuntimeError, ValueError) as error:
        raise ModelFilesError(f"cannot load {folder.path}: {because}", hint=folder.again) from error
    except MemoryError as error:
        raise load_error(error, folder.path) from error


def _engines(folder: ModelFolder) -> Any:
    from lmsupply_cli.engine.genai import import_engine

    return import_engine().Tokenizer(str(folder.path))

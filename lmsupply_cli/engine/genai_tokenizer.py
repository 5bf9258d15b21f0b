"""The engine's tokenizer: text to ids and back, also without its model.

Where the tokenizer.json has a regular expression that the engine may not read in time, or at all, the text is read in
a worker, which can be ended.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.genai_errors import load_error, run_error
from lmsupply_cli.engine.patterns import unknown_pattern
from lmsupply_cli.errors import EngineError, ModelFilesError
from lmsupply_cli.files import absolute
from lmsupply_cli.worker import Worker, WorkerFailed

LIMIT_S = 10.0
_CHARACTERS_PER_S = 100_000  # `std::regex` reads ten times as many
_MEMORY_BYTES, _ANSWER_BYTES = 4 << 30, 1 << 30


class GenaiTokenizer:
    """Close it, or leave that to who made it."""

    def __init__(self, folder: ModelFolder, make: Callable[[], Any], *, visible: Collection[str] = ()) -> None:
        """`make` gives the engine's tokenizer; `visible`: control strings that are shown, where others are not. Raises
        ModelFilesError for one that does not load in time, and what `make` raises."""
        # control tokens are not shown
        self._added = {
            row["id"]: "" if row.get("special") and row["content"] not in visible else row["content"]
            for row in folder.added_tokens
        }
        self.hidden_ids = frozenset(token for token, text in self._added.items() if not text)
        pattern = unknown_pattern(folder.patterns)
        self._guard = _Guard(folder.path, pattern) if pattern else None
        self._tokenizer: Any = make()

    def encode(self, text: str) -> list[int]:
        check_text(text)
        if not text:
            return []
        tokenizer = self._open()
        if self._guard:
            return self._guard.encode(text)
        try:
            return [int(i) for i in tokenizer.encode(text)]
        except (RuntimeError, UnicodeError) as error:
            raise run_error(error) from error

    def decode(self, ids: Sequence[int]) -> str:
        """Added tokens are decoded here: the engine shows them as U+FFFD or not at all."""
        out, plain = "", []
        for token in ids:
            if (text := self._added.get(token)) is None:
                plain.append(token)
                continue
            out += self.decode_plain(plain) + text
            plain = []
        return out + self.decode_plain(plain)

    def decode_plain(self, ids: list[int]) -> str:
        """Without regard to added tokens."""
        if not ids:
            return ""
        import numpy as np

        try:
            return str(self._open().decode(np.asarray(ids, dtype=np.int32)))
        except (RuntimeError, UnicodeError) as error:
            raise run_error(error) from error

    def close(self) -> None:
        """Free it; a second call does nothing."""
        self._tokenizer = None
        if self._guard:
            self._guard.close()

    def _open(self) -> Any:
        if self._tokenizer is None:
            raise EngineError("the model is closed", hint="load it again")
        return self._tokenizer


def load_tokenizer(folder: ModelFolder, *, visible: Collection[str] = ()) -> GenaiTokenizer:
    """A folder's tokenizer without its model. Raises ModelFilesError, EngineUnavailable."""
    from lmsupply_cli.engine.genai import import_engine

    engine = import_engine()
    try:
        return GenaiTokenizer(folder, lambda: engine.Tokenizer(str(folder.path)), visible=visible)
    except (RuntimeError, MemoryError, ValueError) as error:
        raise load_error(error, folder.path) from error


class _Guard:
    """Reads text in a worker."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder = absolute(folder)
        self._pattern = pattern if len(pattern) <= 60 else f"{pattern[:59]}…"
        handler = Path(__file__).with_name("tokenizer_process.py")
        self._worker = Worker(handler, limit_s=LIMIT_S, memory_bytes=_MEMORY_BYTES, answer_bytes=_ANSWER_BYTES)
        self._ask("")

    def encode(self, text: str) -> list[int]:
        ids: list[int] = self._ask(text)["ids"]
        return ids

    def close(self) -> None:
        self._worker.close()

    def _ask(self, text: str) -> dict[str, Any]:
        """An empty text only loads the tokenizer."""
        limit_s = self._worker.limit_s + len(text) / _CHARACTERS_PER_S
        try:
            answer: dict[str, Any] = self._worker.ask({"folder": str(self._folder), "text": text}, limit_s=limit_s)
        except WorkerFailed as failure:
            what = "on this text" if text else "when it is loaded"
            raise ModelFilesError(
                f"{self._folder / 'tokenizer.json'}: the engine fails at its pattern {self._pattern!r} {what}: {failure}",
                hint="use another model" if not text else "use a shorter or other text, or another model",
            ) from failure
        if "error" in answer:
            raise load_error(RuntimeError(answer["error"]), self._folder)
        return answer

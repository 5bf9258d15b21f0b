"""Text that meets a regular expression of unknown cost is encoded in a worker, which can be ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from lmsupply_cli.errors import ModelFilesError
from lmsupply_cli.files import absolute
from lmsupply_cli.genai_config import TOKENIZER
from lmsupply_cli.units import cut
from lmsupply_cli.worker import Worker, WorkerFailed

LIMIT_S = 10.0
_CHARACTERS_PER_S = 100_000  # ten times as many are usual
_MEMORY_BYTES, _ANSWER_BYTES = 4 << 30, 1 << 30


class PatternGuard:
    """Encodes with one library in a worker. Close it."""

    def __init__(self, folder: Path, pattern: str, *, library: Literal["tokenizers", "engine"]) -> None:
        """`pattern`: the expression in doubt. Raises ModelFilesError if the tokenizer does not load in time."""
        self._folder, self._library = absolute(folder), library
        self._pattern = cut(pattern, 60)
        handler = Path(__file__).with_name("tokenizer_process.py")
        self._worker = Worker(handler, limit_s=LIMIT_S, memory_bytes=_MEMORY_BYTES, answer_bytes=_ANSWER_BYTES)
        self._ask("")

    def encode(self, text: str) -> list[int]:
        """Raises ModelFilesError."""
        ids: list[int] = self._ask(text)["ids"]
        return ids

    def close(self) -> None:
        self._worker.close()

    def _ask(self, text: str) -> dict[str, Any]:
        """An empty text only loads the tokenizer."""
        limit_s = self._worker.limit_s + len(text) / _CHARACTERS_PER_S
        request = {"folder": str(self._folder), "library": self._library, "text": text}
        try:
            answer: dict[str, Any] = self._worker.ask(request, limit_s=limit_s)
        except WorkerFailed as failure:
            what = "on this text" if text else "when it is loaded"
            raise ModelFilesError(
                f"{self._folder / TOKENIZER}: its pattern {self._pattern!r} fails {what}: {failure}",
                hint="use another model" if not text else "use a shorter or different text, or another model",
            ) from failure
        if "error" in answer:
            raise ModelFilesError(f"{self._folder}: {answer['error']}", hint="use another model")
        return answer

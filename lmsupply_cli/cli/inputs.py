"""The prompt: arguments, files and stdin, joined by blank lines in this order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli.chat.files import LIMIT_BYTES, decode_text, read_text
from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import read_limited
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.locate import is_ref


@dataclass(frozen=True, slots=True)
class Asked:
    """`model`: as the user named it, None where they did not."""

    model: str | None
    prompt: str


def read_asked(
    words: Sequence[str],
    *,
    model: str | None,
    files: Sequence[Path],
    terminal: Terminal,
    no_stdin: bool,
    root: Path,
    command: str = "run",
) -> Asked:
    """Split the positional arguments into model and prompt, and join what belongs to the prompt.

    The first word is the model only when it can be one and a prompt follows, in words, files
    or stdin. Raises UsageError.
    """
    piped = "" if no_stdin else read_stdin(terminal)
    texts = [read_text(path) for path in files]
    rest = list(words)
    more = len(rest) > 1 or bool(texts) or bool(piped.strip())
    if model is None and rest and more and is_ref(rest[0], root):
        model = rest.pop(0)
    parts = [" ".join(rest), *texts, piped]
    prompt = "\n\n".join(part.strip("\r\n") for part in parts if part.strip())
    if not prompt:
        raise UsageError("there is no prompt", hint=f'give one: lmsupply {command} "your question", or pipe it in')
    return Asked(model, prompt)


def read_stdin(terminal: Terminal) -> str:
    """All of stdin when it is not a terminal."""
    if terminal.stdin is None or terminal.stdin_tty:
        return ""
    binary = getattr(terminal.stdin, "buffer", None)
    data = read_limited(binary, LIMIT_BYTES) if binary else terminal.stdin.read(LIMIT_BYTES + 1).encode()
    return decode_text(data, "stdin")

"""Chats on disk: one file of JSON lines each, written as the chat goes.

A line is one change, so that a crash loses at most the line that was being written:

    {"type": "session", "schema": 1, "created": TIME, "model": REF}      first line
    {"type": "message", "role": …, "content": …, "reasoning"?, "partial"?}
    {"type": "keep", "count": N}                                         only the first N messages stay
    {"type": "said", "text": …, "reasoning": …, "new"?}                  more of an answer, until its message comes
    {"type": "set", "key": …, "value": …}                                a generation option
    {"type": "format", "kind": …, "text": …}                             what answers follow, a Guidance; without: free
    {"type": "model", "ref": …}
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any, get_args

from lmsupply_cli.chat.messages import ChatMessage, ChatRole, as_call
from lmsupply_cli.chats.session import SessionListener
from lmsupply_cli.engine.guidance import Guidance, Kind
from lmsupply_cli.errors import FileError, LmsupplyError, UsageError
from lmsupply_cli.events import ToolCall
from lmsupply_cli.files import is_absent, listed, our_io_error, parse_json, read_bytes, size_of
from lmsupply_cli.locks import Busy, is_held, locked
from lmsupply_cli.units import count

SCHEMA = 1
_CHAT_BYTES = 256_000_000
_NAME = re.compile(r"\w[\w .-]{0,63}")
_SUFFIX = ".jsonl"
_SAID_S = 0.25  # between two lines of an answer that grows


@dataclass
class SavedChat:
    """What a file holds. `options` are those that were set in the chat."""

    name: str
    path: Path
    model: str
    messages: list[ChatMessage] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    guidance: Guidance | None = None
    changed: float = 0.0

    @property
    def title(self) -> str:
        """The beginning of what was first asked."""
        first = next((m.content for m in self.messages if m.role is ChatRole.USER), "")
        return " ".join(first.split())

    def holds(self, text: str) -> bool:
        wanted = text.casefold()
        return wanted in self.name.casefold() or any(wanted in m.content.casefold() for m in self.messages)


@dataclass(frozen=True, slots=True)
class FoundChats:
    """`skipped`: a line for each file that cannot be read."""

    chats: list[SavedChat]
    skipped: list[str]


class Archive:
    """The saved chats of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, text: str = "") -> FoundChats:
        """The latest first; with `text`, those that contain it, in any case."""
        chats, skipped = [], []
        for path in listed(self.folder, f"*{_SUFFIX}"):
            try:
                chat = read_chat(path)
            except LmsupplyError as error:
                skipped.append(error.message)
                continue
            if chat.holds(text):
                chats.append(chat)
        return FoundChats(sorted(chats, key=lambda chat: chat.changed, reverse=True), skipped)

    def latest(self) -> SavedChat | None:
        """The most recently changed chat that can be read."""
        for name in self.names():
            with suppress(LmsupplyError):
                return read_chat(self.path(name))
        return None

    def load(self, name: str) -> SavedChat:
        """Raises UsageError."""
        path = self.path(name)
        if is_absent(path):
            latest = ", ".join(self.names()[:5])
            raise UsageError(
                f"there is no chat named {name!r}",
                hint=f"the most recent: {latest}" if latest else "no chats are saved yet",
            )
        return read_chat(path)

    def rename(self, old: str, new: str) -> None:
        self.load(old)
        self.refuse_open(old)
        path = self.new_path(new)
        with our_io_error(path):
            self.path(old).rename(path)

    def delete(self, name: str) -> None:
        self.load(name)
        self.refuse_open(name)
        with our_io_error(self.path(name), verb="remove"):
            self.path(name).unlink()

    def names(self) -> list[str]:
        """Of the files, the latest first."""
        paths = sorted(listed(self.folder, f"*{_SUFFIX}"), key=changed_s, reverse=True)
        return [path.name.removesuffix(_SUFFIX) for path in paths]

    def named(self, text: str, listed: Sequence[str] = ()) -> str:
        """The name of a chat; a number counts in `listed`, by default from the chat used last. Raises UsageError."""
        names = self.names()
        if text in names or not text.isdecimal():
            return text
        listed = listed or names
        if not 1 <= int(text) <= len(listed):
            number = f"there is no chat number {text}, {count(len(listed), 'chat')} listed"
            raise UsageError(number, hint="/sessions in a chat lists them")
        return listed[int(text) - 1]

    def is_open(self, name: str) -> bool:
        """Another chat is writing it."""
        return is_held(self.lock_path(name))

    def path(self, name: str) -> Path:
        """Raises UsageError for a name that is invalid."""
        if not _NAME.fullmatch(name):
            raise UsageError(
                f"{name!r} is not a valid chat name",
                hint="use at most 64 letters, digits, spaces, dots and dashes",
            )
        return self.folder / (name + _SUFFIX)

    def lock_path(self, name: str) -> Path:
        return self.path(name).with_suffix(".lock")

    def new_path(self, name: str) -> Path:
        """As `path`, also for a name that is taken."""
        path = self.path(name)
        if not is_absent(path):
            raise UsageError(f"there is a chat named {name!r} already", hint="take another name")
        return path

    def refuse_open(self, name: str) -> None:
        """Raises UsageError if a chat is writing it."""
        if self.is_open(name):
            raise UsageError(f"the chat {name!r} is open", hint="leave it first, or /save it under another name")


class Recorder(SessionListener):
    """Writes one chat; nothing until there is something to keep. One process at a time."""

    def __init__(
        self, archive: Archive, name: str = "", *, model: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.name = name or new_name()
        self._archive, self._model, self._clock = archive, model, clock
        self._file: IO[str] | None = None
        self._lock = ExitStack()
        self._written: list[ChatMessage] = []
        self._options: dict[str, Any] = {}
        self._guidance: Guidance | None = None
        self._last_said = 0.0
        self._said = ("", "")

    def lock(self) -> None:
        """Raises UsageError if another chat has it open, FileError."""
        with our_io_error(self._archive.path(self.name)):
            self._archive.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._lock.enter_context(locked(self._archive.lock_path(self.name)))
        except Busy:
            raise UsageError(
                f"the chat {self.name!r} is open in another window", hint="leave it there first, or begin a new one"
            ) from None

    def unlock(self) -> None:
        self._lock.close()

    def resume(self, chat: SavedChat) -> None:
        """Write to the file of `chat` from here on. Raises UsageError if it is open elsewhere."""
        self.close()
        self.name, self._model = chat.name, chat.model
        self.lock()
        self._file = self._open()
        self._written, self._options, self._guidance = list(chat.messages), dict(chat.options), chat.guidance
        self._write({"type": "keep", "count": len(self._written)})  # ends a line that was cut, drops what it said
        for message in self._written[-1:]:
            if message.partial:
                self._write({"type": "keep", "count": len(self._written) - 1})
                self._write(_row(message))

    def messages(self, messages: Sequence[ChatMessage]) -> None:
        common = 0
        for old, new in zip(self._written, messages, strict=False):
            if old != new:
                break
            common += 1
        if common == len(self._written) == len(messages):
            return
        if not self._begin(messages):
            return
        if common < len(self._written):
            self._write({"type": "keep", "count": common})
        for message in messages[common:]:
            self._write(_row(message))
        self._written, self._said = list(messages), ("", "")
        self._sync()

    def said(self, text: str, reasoning: str) -> None:
        if self._file is not None and self._clock() - self._last_said >= _SAID_S:
            self._last_said = self._clock()
            known_text, known_reasoning = self._said
            goes_on = text.startswith(known_text) and reasoning.startswith(known_reasoning)
            if not goes_on:
                known_text = known_reasoning = ""
            row = {"type": "said", "text": text[len(known_text) :], "reasoning": reasoning[len(known_reasoning) :]}
            self._write(row if goes_on and any(self._said) else row | {"new": True})
            self._said = (text, reasoning)

    def set_option(self, key: str, value: Any) -> None:
        self._options[key] = value
        if self._file is not None:
            self._write({"type": "set", "key": key, "value": value})

    def set_format(self, guidance: Guidance | None) -> None:
        if guidance == self._guidance:
            return
        self._guidance = guidance
        if self._file is not None:
            self._write(_format_row(guidance))

    def set_model(self, ref: str) -> None:
        changed, self._model = ref != self._model, ref
        if changed and self._file is not None:
            self._write({"type": "model", "ref": ref})

    def rename(self, name: str) -> None:
        """Raises UsageError for a name that is taken or none."""
        if name == self.name:
            return
        path = self._archive.new_path(name)
        if self._file is None:
            self.name = name
            return
        self._file.close()
        self._file = None
        self.unlock()
        try:
            with our_io_error(path):
                self._archive.path(self.name).rename(path)
            self.name = name
        finally:
            self.lock()
            self._file = self._open()

    def close(self) -> None:
        """Nothing is raised: what could not be written is not written now either."""
        if self._file is not None:
            with suppress(OSError, ValueError):
                self._file.close()
            self._file = None
        self.unlock()
        self._written, self._options, self._guidance = [], {}, None

    def _begin(self, messages: Sequence[ChatMessage]) -> bool:
        """Open the file with the first message of the user; whether it is open."""
        if self._file is None and any(m.role is ChatRole.USER for m in messages):
            self.lock()
            self._file = self._open()
            self._write(
                {
                    "type": "session",
                    "schema": SCHEMA,
                    "created": datetime.now().astimezone().isoformat(timespec="seconds"),
                    "model": self._model,
                }
            )
            for key, value in self._options.items():
                self._write({"type": "set", "key": key, "value": value})
            if self._guidance:
                self._write(_format_row(self._guidance))
        return self._file is not None

    def _open(self) -> IO[str]:
        path = self._archive.path(self.name)
        with our_io_error(path):
            cut = size_of(path) > 0 and not _ends_a_line(path)
            file = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8")
            if cut:
                file.write("\n")
            return file

    def _write(self, row: dict[str, Any]) -> None:
        """Raises FileError."""
        assert self._file is not None
        with our_io_error(self._archive.path(self.name)):
            self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
            self._file.flush()

    def _sync(self) -> None:
        if self._file is not None:
            with our_io_error(self._archive.path(self.name)):
                os.fsync(self._file.fileno())


def _ends_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def new_name() -> str:
    """The time, and two bytes so that two chats of one second do not meet."""
    return f"{datetime.now():%Y-%m-%d-%H%M}-{secrets.token_hex(2)}"


def read_chat(path: Path) -> SavedChat:
    """What the lines come to. Raises LmsupplyError for a file that is no chat, or a newer one."""
    rows = _rows(path)
    first = next(rows, {})
    if first.get("type") != "session":
        raise LmsupplyError(f"{path} is no saved chat")
    if first.get("schema") != SCHEMA:
        raise LmsupplyError(f"{path} was written by a newer lmsupply", hint="install a newer one")
    replay = _Replay(SavedChat(path.name.removesuffix(_SUFFIX), path, _text(first, "model"), changed=changed_s(path)))
    for row in rows:
        replay.take(row)
    return replay.end()


class _Replay:
    """Replays the lines of a file. A damaged line changes nothing."""

    def __init__(self, chat: SavedChat) -> None:
        self._chat = chat
        self._said = ("", "")  # text and reasoning of an answer whose message has not come
        self._acts: Mapping[str, Callable[[dict[str, Any]], None]] = {
            "message": self._message,
            "keep": self._keep,
            "said": self._say,
            "set": self._set,
            "format": self._format,
            "model": self._model,
        }

    def take(self, row: dict[str, Any]) -> None:
        if act := self._acts.get(_text(row, "type")):
            act(row)

    def end(self) -> SavedChat:
        """The chat; what a kill cut off in the middle of an answer becomes a partial one."""
        text, reasoning = self._said
        if text or reasoning:
            messages = self._chat.messages
            if messages and messages[-1].role is ChatRole.ASSISTANT:
                messages.pop()  # it went on with this one
            messages.append(ChatMessage.assistant(text, reasoning=reasoning, partial=True))
        return self._chat

    def _message(self, row: dict[str, Any]) -> None:
        self._said = ("", "")
        if message := _message(row):
            self._chat.messages.append(message)

    def _keep(self, row: dict[str, Any]) -> None:
        count = row.get("count")
        if isinstance(count, int) and not isinstance(count, bool) and count >= 0:
            self._said = ("", "")
            del self._chat.messages[count:]

    def _say(self, row: dict[str, Any]) -> None:
        text, reasoning = ("", "") if row.get("new") else self._said
        self._said = (text + _text(row, "text"), reasoning + _text(row, "reasoning"))

    def _set(self, row: dict[str, Any]) -> None:
        if key := _text(row, "key"):
            self._chat.options[key] = row.get("value")

    def _format(self, row: dict[str, Any]) -> None:
        self._chat.guidance = _guidance(row)

    def _model(self, row: dict[str, Any]) -> None:
        self._chat.model = _text(row, "ref") or self._chat.model


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    """The lines that are whole: of one that was cut by a crash nothing is used."""
    text = read_bytes(path, limit_bytes=_CHAT_BYTES).decode("utf-8", errors="replace")
    for line in text.split("\n"):
        try:
            row = parse_json(line, str(path))
        except FileError:
            continue
        if isinstance(row, dict):
            yield row


def _format_row(guidance: Guidance | None) -> dict[str, Any]:
    return {"type": "format"} | ({"kind": guidance.kind, "text": guidance.text} if guidance else {})


def _guidance(row: dict[str, Any]) -> Guidance | None:
    text = row.get("text")
    kinds: tuple[Kind, ...] = get_args(Kind)
    return next((Guidance(kind, text) for kind in kinds if kind == row.get("kind") and isinstance(text, str)), None)


def _row(message: ChatMessage) -> dict[str, Any]:
    return {"type": "message", **message.as_dict()}


def _message(row: dict[str, Any]) -> ChatMessage | None:
    """None for a line that is damaged: nobody said it."""
    if not isinstance(row.get("content"), str):
        return None
    try:
        role = ChatRole(_text(row, "role"))
    except ValueError:
        role = ChatRole.USER
    answers = _text(row, "tool_call_id")
    if (role is ChatRole.TOOL) != bool(answers):
        return None
    calls = _calls(row.get("tool_calls")) if role is ChatRole.ASSISTANT else ()
    return ChatMessage(role, _text(row, "content"), _text(row, "reasoning"), bool(row.get("partial")), calls, answers)


def _calls(rows: Any) -> tuple[ToolCall, ...]:
    """None of them where one is damaged."""
    try:
        return tuple(as_call(row, "the chat") for row in rows) if isinstance(rows, list) else ()
    except UsageError:
        return ()


def _text(row: dict[str, Any], key: str) -> str:
    """ "" if there is none, or something else."""
    value = row.get(key)
    return value if isinstance(value, str) else ""


def changed_s(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0

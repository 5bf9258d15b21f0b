"""A whole chat without a terminal: lines are read from a list, and the model is a scripted fake."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.chat.formats.families import ChatML
from lmsupply_cli.chat.formatter import PromptFormat
from lmsupply_cli.chat.reasoning import find_markers
from lmsupply_cli.chats.archive import Archive, SavedChat
from lmsupply_cli.chats.session import ChatSession
from lmsupply_cli.engine.fake import FakeModel, Script, replies
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import ModelNotFound
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.generator import GeneratorLimits, TextGenerator
from lmsupply_cli.render.answer import PlainStream
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.repl.chat import Chat, World
from lmsupply_cli.repl.loop import ChatLoop
from lmsupply_cli.store.locate import LocatedModel
from lmsupply_cli.toolbox.toolbox import Toolbox

Line = str | type[BaseException]  # what is typed, or the key that raises it


class Screen(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def fake(
    *answers: str | bytes, ref: str = "fake", context: int = 4000, script: Script | None = None, thinks: bool = False
) -> TextGenerator:
    """A generator that says `answers`, one after the other."""
    model = FakeModel(script or replies(*(answers or ("Hi there.",))), context_length=context)
    info = ModelInfo(ref, Path("/models") / ref, UNKNOWN_LICENSE, "cpu", 2, context)
    options = GenerationOptions(temperature=0, repetition_penalty=1.0, max_tokens=200)
    markers = find_markers([], "<think>") if thinks else None
    limits = GeneratorLimits(reserve_tokens=context)
    return TextGenerator(model, PromptFormat(ChatML(), markers=markers), info, options=options, limits=limits)


@dataclass
class Scripted:
    """`models`: what /model can load, by name; `confirm`: what is typed at questions; `terminal`: draw as on one."""

    folder: Path
    generator: TextGenerator = field(default_factory=fake)
    models: dict[str, Callable[[], TextGenerator]] = field(default_factory=dict)
    confirm: Sequence[str] = ()
    environ: dict[str, str] = field(default_factory=dict)
    system: str = ""
    policy: Any = "drop-oldest"
    keep: bool = True
    show_stats: bool = False
    think: str = "on"
    terminal: bool = False
    debug: bool = False
    toolbox: Toolbox = field(default_factory=Toolbox)
    can_ask: bool = True

    def __post_init__(self) -> None:
        self.output = Screen() if self.terminal else io.StringIO()
        stdin = io.StringIO("".join(f"{line}\n" for line in self.confirm))
        terminal = Terminal(stdin, self.output, self.output, self.environ)
        self.archive = Archive(self.folder)
        world = World(
            prepare=self._prepare,
            model_names=lambda: ["fake", *self.models],
            installed_models=lambda: [
                LocatedModel(ref, self.folder, UNKNOWN_LICENSE) for ref in ("fake", *self.models)
            ],
            license_text=lambda info: f"the license of {info.ref}",
            make_stream=lambda: PlainStream(self.output, clean=True),
            environ=self.environ,
            debug=self.debug,
            toolbox=self.toolbox,
            can_ask=self.can_ask,
        )
        session = ChatSession(self.generator, system=self.system or None, policy=self.policy)
        self.chat = Chat(
            session, terminal, world, self.archive, keep=self.keep, show_stats=self.show_stats, think=self.think
        )

    def talk(self, *lines: Line) -> list[str]:
        """What is shown after each line, on one line; the chat has ended then."""
        self._lines, self._shown, self._seen = list(lines), list[str](), len(self.output.getvalue())
        ChatLoop(self.chat, self).run()
        self._note()
        assert not self._lines, f"the chat ended before {self._lines}"
        return self._shown[1 : len(lines) + 1]

    def read(self, chat: Chat) -> str:
        self._note()
        if not self._lines:
            raise EOFError
        line = self._lines.pop(0)
        if isinstance(line, str):
            return line
        raise line

    @property
    def messages(self) -> list[tuple[str, str]]:
        return [(str(m.role), m.content) for m in self.chat.session.messages]

    def saved(self) -> SavedChat:
        """The chat that was saved last."""
        return self.archive.find().chats[0]

    def _note(self) -> None:
        text = self.output.getvalue()
        self._shown.append(" ".join(text[self._seen :].split()))
        self._seen = len(text)

    def _prepare(self, ref: str) -> Callable[[], TextGenerator]:
        if ref != "fake" and ref not in self.models:
            raise ModelNotFound(f"model {ref!r} not found", hint="run `lmsupply models` to list models")
        return self.models.get(ref, lambda: fake())


def say_once(chat: Scripted, *lines: Line) -> str:
    """What the last of `lines` shows."""
    return chat.talk(*lines)[-1]

"""The tools of a chat: their names, whether they are on, whether they run without asking."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lmsupply_cli.chat.tools.spec import ToolSpec
from lmsupply_cli.errors import LmsupplyError, UsageError, did_you_mean
from lmsupply_cli.events import Notice, ToolCall
from lmsupply_cli.generation.tools import arguments_guidance, run_tool
from lmsupply_cli.units import count

MOST_TOOLS = 1000  # of one server
MOST_ENABLED = 128  # at first: the model reads each of them, and the grammar of an answer has a limit
_DESCRIPTION_CHARACTERS = 4000
_NAME_CHARACTERS = 64
_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Offered:
    """A tool as a server describes it, under its own name."""

    name: str
    description: str
    schema: Mapping[str, Any]


class ToolServer(Protocol):
    """A server of tools. Its methods block, and a KeyboardInterrupt cancels them."""

    name: str

    @property
    def changed(self) -> bool:
        """Whether its tools are others since `tools` was called."""

    def tools(self) -> Sequence[Offered]:
        """Raises LmsupplyError if it cannot be started, or does not answer."""

    def call(self, name: str, values: Mapping[str, Any]) -> str:
        """The result as text. What goes wrong is a result too."""


@dataclass
class ChatTool:
    """`source`: the server or module that it comes from, `own`: its name there. `enabled`: the model is told of it;
    `allowed`: it runs without asking; `always`: likewise, until the next chat."""

    source: str
    own: str
    spec: ToolSpec
    enabled: bool = True
    allowed: bool = False
    always: bool = False

    @property
    def name(self) -> str:
        """As the model and the user know it."""
        return self.spec.name

    @property
    def asks(self) -> bool:
        """Whether the user is asked before a call."""
        return not (self.allowed or self.always)


@dataclass(frozen=True, slots=True)
class _Part:
    """A tool that may be in the box. `make`: from its name."""

    key: _Key
    make: Callable[[str], ToolSpec]


@dataclass
class Toolbox:
    """`functions`: pairs of a module and a tool with a function."""

    functions: Sequence[tuple[str, ToolSpec]] = ()
    servers: Sequence[ToolServer] = ()
    tools: list[ChatTool] = field(default_factory=list)
    _names: dict[_Key, str] = field(default_factory=dict)  # also of tools that are gone: nobody takes a name over

    def open(self, *, allowed: Iterable[str] = ()) -> Iterator[Notice]:
        """Ask the servers for their tools; notices say what is left out. `allowed`: names of tools that run without
        asking. Raises UsageError for one that is not there, unless a server failed."""
        parts = [_Part((module, spec.name), _renamed(spec)) for module, spec in self.functions]
        failed = False
        for server in self.servers:
            try:
                offered = list(server.tools())
            except LmsupplyError as error:
                failed = True
                yield Notice("tool_server", f"the MCP server {server.name} {error.message}")
                continue
            if not offered:
                yield Notice("tool_server", f"the MCP server {server.name} offers no tools")
            yield from _too_many(server, offered)
            parts += _parts(server, offered)
        clashes = Counter(_safe(own) for _, own in (part.key for part in parts))
        yield from self._add(parts, lambda own: clashes[_safe(own)] > 1)
        if (disabled := len(self.tools) - len(self.specs)) > 0:
            text = f"only the first {MOST_ENABLED} tools are enabled, {disabled:,} more are disabled"
            yield Notice("tools", f"{text}; /tools enable NAME changes that")
        yield from self._allow_all(allowed, failed=failed)

    def refresh(self) -> Iterator[Notice]:
        """Ask again the servers whose tools have changed. A tool that is described in another way asks again."""
        for server in self.servers:
            if not server.changed:
                continue
            try:
                offered = list(server.tools())
            except LmsupplyError as error:
                yield Notice("tool_server", f"the MCP server {server.name} {error.message}")
                continue
            yield from _too_many(server, offered)
            yield from self._replace(server, _parts(server, offered))

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the model is told of."""
        return tuple(tool.spec for tool in self.tools if tool.enabled)

    def find(self, name: str) -> ChatTool | None:
        """The tool that the model means, if it may call it."""
        return next((tool for tool in self.tools if tool.name == name and tool.enabled), None)

    def named(self, name: str) -> list[ChatTool]:
        """The tool of that name, or those of that server. Raises UsageError."""
        found = [t for t in self.tools if t.name == name] or [t for t in self.tools if t.source == name]
        if not found:
            known = [*(tool.name for tool in self.tools), *(tool.source for tool in self.tools)]
            raise UsageError(f"there is no tool {name!r}", hint=did_you_mean(name, known, "/tools lists them"))
        return found

    def forget_always(self) -> None:
        """Another chat begins."""
        for tool in self.tools:
            tool.always = False

    def run(self, tool: ChatTool, call: ToolCall) -> str:
        """The result. What goes wrong is a result too."""
        try:
            return run_tool(tool.spec, call)
        except SystemExit as error:
            return f"error: SystemExit: {error}"

    def _allow_all(self, names: Iterable[str], *, failed: bool) -> Iterator[Notice]:
        for name in names:
            try:
                found = [tool for tool in self.named(name) if tool.name == name]
            except UsageError:
                if not failed:
                    raise
                found = []
            if not found:
                yield Notice("tools", f"--allow-tool {name}: there is no such tool any more")
            for tool in found:
                tool.allowed = True

    def _add(self, parts: Iterable[_Part], clashes: Callable[[str], bool]) -> Iterator[Notice]:
        for part in parts:
            source, own = part.key
            try:
                spec = part.make(self._name(part.key, prefixed=clashes(own)))
                arguments_guidance(spec)
            except UsageError as error:
                yield Notice("tool_left_out", f"the tool {own} of {source} is ignored: {error.message}")
                continue
            self.tools.append(ChatTool(source, own, spec, enabled=len(self.specs) < MOST_ENABLED))

    def _replace(self, server: ToolServer, parts: Sequence[_Part]) -> Iterator[Notice]:
        new = {part.key: part for part in parts}
        old = {(tool.source, tool.own): tool for tool in self.tools if tool.source == server.name}
        changed = []
        for key in old.keys() & new.keys():
            try:
                spec = new[key].make(old[key].name)
            except UsageError:
                del new[key]  # what is no tool any longer is gone
                continue
            if spec != old[key].spec:
                old[key].spec, old[key].allowed, old[key].always = spec, False, False
                changed.append(spec.name)
        gone = [old[key].name for key in old.keys() - new.keys()]
        self.tools = [tool for tool in self.tools if tool.source != server.name or tool.name not in gone]
        before = len(self.tools)
        yield from self._add((part for key, part in new.items() if key not in old), lambda _: False)
        added = [tool.name for tool in self.tools[before:]]
        said = [_listed(names, what) for names, what in ((added, "new"), (changed, "changed"), (gone, "gone")) if names]
        if said:
            yield Notice("tools_changed", f"the MCP server {server.name} changed its tools: {'; '.join(said)}")

    def _name(self, key: _Key, *, prefixed: bool) -> str:
        if key not in self._names:
            source, own = key
            taken = set(self._names.values())
            free = (name for name in _candidates(source, own, prefixed=prefixed) if name not in taken)
            self._names[key] = next(free)
        return self._names[key]


def _candidates(source: str, own: str, *, prefixed: bool) -> Iterator[str]:
    if not prefixed:
        yield _safe(own)
    yield _safe(f"{source}__{own}")
    number = 2
    while True:
        yield _safe(f"{source}__{own}__{number}")
        number += 1


def _safe(name: str) -> str:
    """A name as models and formats take it; a long one ends in digits that stand for the rest."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", name) or "tool"
    if len(plain) <= _NAME_CHARACTERS:
        return plain
    return f"{plain[: _NAME_CHARACTERS - 9]}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _parts(server: ToolServer, offered: Iterable[Offered]) -> list[_Part]:
    """Of two tools with one name the first counts."""
    first = {one.name: one for one in reversed(list(offered)[:MOST_TOOLS])}
    return [_Part((server.name, one.name), _made(server, one)) for one in reversed(first.values())]


def _made(server: ToolServer, offered: Offered) -> Callable[[str], ToolSpec]:
    """Not strict: what of a schema cannot be guided, the server checks."""

    def make(name: str) -> ToolSpec:
        description = offered.description[:_DESCRIPTION_CHARACTERS]

        def call(**values: Any) -> str:
            return server.call(offered.name, values)

        return ToolSpec(name, description, offered.schema, call, strict=False)

    return make


def _renamed(spec: ToolSpec) -> Callable[[str], ToolSpec]:
    return lambda name: ToolSpec(name, spec.description, spec.parameters, spec.function, strict=spec.strict)


def _too_many(server: ToolServer, offered: Sequence[Offered]) -> Iterator[Notice]:
    if len(offered) > MOST_TOOLS:
        yield Notice(
            "tool_left_out",
            f"the MCP server {server.name} offers more than {MOST_TOOLS:,} tools: the rest are ignored",
        )


def _listed(names: Sequence[str], what: str) -> str:
    shown = ", ".join(sorted(names)[:5]) + (", …" if len(names) > 5 else "")
    return f"{count(len(names), 'tool')} {what} ({shown})"

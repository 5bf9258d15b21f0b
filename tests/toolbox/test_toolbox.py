"""Which tools a chat has: their names, what is left out, and what a change of a server does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lmsupply_cli.chat.tools.spec import ToolSpec
from lmsupply_cli.errors import LmsupplyError, UsageError
from lmsupply_cli.events import ToolCall
from lmsupply_cli.toolbox.toolbox import MOST_TOOLS, Offered, Toolbox

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


class Server:
    def __init__(self, name: str, *tools: str | Offered, fails: str = "") -> None:
        self.name, self.fails, self.changed = name, fails, False
        self.offers: list[str | Offered] = list(tools)
        self.calls: list[tuple[str, Mapping[str, Any]]] = []

    def tools(self) -> Sequence[Offered]:
        self.changed = False
        if self.fails:
            raise LmsupplyError(self.fails)
        return [one if isinstance(one, Offered) else Offered(one, f"About {one}.", SCHEMA) for one in self.offers]

    def call(self, name: str, values: Mapping[str, Any]) -> str:
        self.calls.append((name, values))
        return f"{name} of {self.name}"

    def now_offers(self, *tools: str | Offered) -> None:
        self.offers, self.changed = list(tools), True


def opened(*servers: Server, functions: Sequence[tuple[str, ToolSpec]] = (), allowed: Sequence[str] = ()) -> Any:
    """(the box, what it says)."""
    box = Toolbox(functions, servers)
    return box, [notice.text for notice in box.open(allowed=allowed)]


def names(box: Toolbox) -> list[str]:
    return [tool.name for tool in box.tools]


def add(a: int, b: int) -> int:
    """Add."""
    if a == 0:
        raise SystemExit(3)
    return a + b


def run(box: Toolbox, name: str, arguments: str) -> str:
    tool = box.find(name)
    assert tool
    return box.run(tool, ToolCall("1", name, arguments))


def test_a_call_reaches_its_server_under_its_own_name() -> None:
    server = Server("files", "read/file", "write")
    box, said = opened(server, functions=[("mine", ToolSpec.of(add))])
    assert (names(box), said) == (["add", "read_file", "write"], [])
    assert run(box, "read_file", '{"a": 1}') == "read/file of files"
    assert server.calls == [("read/file", {"a": 1})]
    assert run(box, "add", '{"a": 1, "b": 2}') == "3"
    assert run(box, "add", '{"a": 0, "b": 2}') == "error: SystemExit: 3"
    assert run(box, "write", '{"a": "x"}').startswith("error: the arguments do not match")


def test_names_that_clash_are_told_apart() -> None:
    box, said = opened(Server("one", "add", "a b"), Server("two", "add", "a/b"), functions=[("m", ToolSpec.of(add))])
    assert names(box) == ["m__add", "one__add", "one__a_b", "two__add", "two__a_b"]
    assert said == []
    box, _ = opened(Server("My Server!", "add", "add"), Server("x" * 80, "add"))
    assert names(box)[0] == "My_Server___add"
    assert len(names(box)) == 2
    assert len(names(box)[1]) == 64
    assert len(set(names(opened(Server("s", "x" * 99 + "a", "x" * 99 + "b"))[0]))) == 2


def test_nobody_takes_over_a_name() -> None:
    """A tool that is allowed by name stays the one that was meant."""
    one, two = Server("one", "read"), Server("two", "other")
    box, _ = opened(one, two, allowed=["read"])
    assert not box.tools[0].asks
    one.now_offers("more")
    two.now_offers("other", "read")
    said = [notice.text for notice in box.refresh()]
    assert said == [
        "the MCP server one changed its tools: 1 tool new (more); 1 tool gone (read)",
        "the MCP server two changed its tools: 1 tool new (two__read)",
    ]
    assert [(tool.name, tool.asks) for tool in box.tools] == [("other", True), ("more", True), ("two__read", True)]


def test_a_tool_that_is_described_anew_asks_again() -> None:
    server = Server("one", "read", "write")
    box, _ = opened(server, allowed=["read", "write"])
    box.named("write")[0].enabled = False
    server.now_offers(Offered("read", "It deletes everything.", SCHEMA), "write")
    assert [notice.text for notice in box.refresh()] == ["the MCP server one changed its tools: 1 tool changed (read)"]
    assert [(tool.name, tool.asks, tool.enabled) for tool in box.tools] == [
        ("read", True, True),
        ("write", False, False),
    ]
    assert box.specs[0].description == "It deletes everything."
    assert list(box.refresh()) == []


def test_what_is_left_out_is_said() -> None:
    box, said = opened(
        Server("many", *(f"t{number}" for number in range(MOST_TOOLS + 5))),
        Server("gone", fails="has ended"),
        Server("none"),
        Server("odd", Offered("list", "", {"type": "array"}), Offered("long", "x" * 9000, SCHEMA)),
    )
    assert said == [
        "the MCP server many offers more than 1,000 tools: the rest are ignored",
        "the MCP server gone has ended",
        "the MCP server none offers no tools",
        "the tool list of odd is ignored: the parameters of the tool list must be an object, not 'array'",
        "only the first 128 tools are enabled, 873 more are disabled; /tools enable NAME changes that",
    ]
    assert len(box.specs) == 128
    assert len(box.tools) == MOST_TOOLS + 1
    assert len(box.tools[-1].spec.description) == 4000


def test_a_schema_that_cannot_be_guided_is_left_to_the_server() -> None:
    schema = {
        "type": "object",
        "properties": {"url": {"type": "string", "format": "uri"}, "n": {"not": {"type": "null"}}},
    }
    box, said = opened(Server("web", Offered("fetch", "", schema)))
    assert said == []
    assert box.specs[0].parameters == schema  # the model reads all of it
    assert run(box, "fetch", '{"url": "no uri"}') == "fetch of web"


def test_tools_that_run_without_asking() -> None:
    with pytest.raises(UsageError, match="no tool 'reed'") as raised:
        opened(Server("one", "read"), allowed=["reed"])
    assert raised.value.hint == "did you mean read?"
    box, said = opened(Server("one", "read"), Server("gone", fails="has ended"), allowed=["read", "other", "one"])
    assert said[1:] == [
        "--allow-tool other: there is no such tool any more",
        "--allow-tool one: there is no such tool any more",
    ]
    assert not box.tools[0].asks
    box.tools[0].allowed, box.tools[0].always = False, True
    assert not box.tools[0].asks
    box.forget_always()
    assert box.tools[0].asks


def test_a_disabled_tool_is_not_there_for_the_model() -> None:
    box, _ = opened(Server("one", "read", "write"))
    for tool in box.named("one"):
        tool.enabled = False
    assert box.specs == ()
    assert box.find("read") is None
    with pytest.raises(UsageError, match="no tool 'nothing'"):
        box.named("nothing")

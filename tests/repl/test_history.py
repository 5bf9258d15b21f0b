"""Up and Down in the lines that were typed, on prompt_toolkit's own buffer."""

from __future__ import annotations

import asyncio

from prompt_toolkit.buffer import Buffer
from prompt_toolkit.history import InMemoryHistory

from lmsupply_cli.repl.input import go_through_history

LINES = ["/load x", "say one", "/bye", "hello", "say two", "/stats", "/set seed 1"]


def walk(typed: str, *steps: int) -> list[str]:
    async def found() -> list[str]:
        buffer = Buffer(history=InMemoryHistory(LINES), multiline=True, enable_history_search=True)
        buffer.load_history_if_not_yet_loaded()
        await asyncio.sleep(0)
        buffer.text, buffer.cursor_position = typed, len(typed)
        shown = []
        for step in steps:
            go_through_history(buffer, step)
            shown.append(buffer.text)
        return shown

    return asyncio.run(found())


def test_commands_are_passed_over() -> None:
    assert walk("", -1, -1, -1, -1) == ["say two", "hello", "say one", "say one"]


def test_a_typed_beginning_is_searched() -> None:
    assert walk("say ", -1, -1, -1, 1, 1, 1) == ["say two", "say one", "say one", "say two", "say ", "say "]


def test_commands_are_found_by_their_slash() -> None:
    assert walk("/", -1, -1, -1) == ["/set seed 1", "/stats", "/bye"]
    assert walk("/s", -1, -1, -1) == ["/set seed 1", "/stats", "/stats"]


def test_nothing_that_matches_leaves_the_line() -> None:
    assert walk("zzz", -1, 1) == ["zzz", "zzz"]

"""Markdown while it is written: what a terminal shows in the end, and what it costs."""

from __future__ import annotations

import io

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmsupply_cli.render.blocks import BlockSplitter
from lmsupply_cli.render.markdown import MarkdownStream
from lmsupply_cli.render.sanitize import sanitize

TEXT = """# Title

A paragraph with **bold** and `code`,
on two lines.

- one
- two

  more of two
- three

```python
def f():

    return 1
```
After the code.

| a | b |
|---|---|
| 1 | 2 |

1. first

2. second
"""


def blocks(text: str, cuts: list[int]) -> list[str]:
    splitter = BlockSplitter()
    done: list[str] = []
    for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True):
        done += splitter.push(text[a:b])
    rest = splitter.flush()
    return [*done, *([rest] if rest else [])]


def test_where_blocks_end() -> None:
    found = [block.strip().split("\n")[0] for block in blocks(TEXT, [])]
    assert found == [
        "# Title",
        "A paragraph with **bold** and `code`,",
        "- one",
        "```python",
        "After the code.",
        "| a | b |",
        "1. first",
    ]
    assert "".join(blocks(TEXT, [])) == TEXT


@given(st.lists(st.integers(0, len(TEXT)), max_size=10))
def test_blocks_do_not_depend_on_the_pieces(cuts: list[int]) -> None:
    assert blocks(TEXT, sorted(cuts)) == blocks(TEXT, [])


class Clock:
    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def show(
    text: str, size: int, *, step: float, columns: int = 60, rows: int = 20, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """(everything written, the screen with its scrollback) after streaming in pieces of `size`."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", str(rows))
    file = io.StringIO()
    stream = MarkdownStream(file, clock=Clock(step))
    for at in range(0, len(text), size):
        stream.write(text[at : at + size])
    stream.finish()
    screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=1)
    terminal = pyte.Stream(screen)
    terminal.feed(file.getvalue().replace("\n", "\r\n"))
    scrolled = ["".join(line[x].data for x in range(columns)).rstrip() for line in screen.history.top]
    return file.getvalue(), "\n".join([*scrolled, *(line.rstrip() for line in screen.display)]).rstrip()


@pytest.mark.parametrize("size", [1, 3, 17, 1000])
@pytest.mark.parametrize("rows", [6, 20, 60])
def test_the_scrollback_keeps_the_finished_rendering(size: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _, whole = show(TEXT, len(TEXT), step=1.0, rows=200, monkeypatch=monkeypatch)
    _, streamed = show(TEXT, size, step=1.0, rows=rows, monkeypatch=monkeypatch)
    assert streamed == whole
    for piece in ("# Title", "A paragraph with bold and code", "• one", "def f():", "After the code.", "1 first"):
        assert whole.count(piece) == 1


def test_long_answers_cost_no_more_per_character(monkeypatch: pytest.MonkeyPatch) -> None:
    def written(paragraphs: int) -> int:
        text = "Some words of a paragraph that is about as long as they are.\n\n" * paragraphs
        return len(show(text, 5, step=0.02, monkeypatch=monkeypatch)[0]) // paragraphs

    assert written(60) < 1.2 * written(15)


def test_one_endless_block_is_drawn_by_its_last_lines_only(monkeypatch: pytest.MonkeyPatch) -> None:
    def written(lines: int) -> int:
        text = "```text\n" + "\n".join(f"line {n}" for n in range(lines))
        return len(show(text, 8, step=0.06, monkeypatch=monkeypatch)[0]) // lines

    assert written(400) < 1.3 * written(100)


def test_redraws_are_at_most_twenty_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "word " * 200
    raw, _ = show(text, 1, step=0.001, monkeypatch=monkeypatch)  # a thousand looks at the clock are a second
    assert raw.count("\x1b[J") <= 20 * (2.2 * len(text) * 0.001) + 2


def test_control_characters_never_reach_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    evil = "a\x1b[31mred\x1b]0;title\x07 b\x9b2J \x7f c\u202e d\r\n"
    clean = sanitize(evil)
    assert not any((ord(c) < 32 and c not in "\n\t") or 0x7F <= ord(c) < 0xA0 for c in clean)
    assert "\u202e" not in clean
    assert sanitize("tab\tline\n日本 🏳️") == "tab\tline\n日本 🏳️"
    raw, screen = show(f"x {evil} [click](javascript:1)", 3, step=1.0, monkeypatch=monkeypatch)
    assert "\x1b]" not in raw
    assert "\x9b" not in raw
    assert "␛[31mred" in screen

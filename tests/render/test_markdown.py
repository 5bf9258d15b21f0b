"""Markdown while it is written: what a terminal shows in the end, and what it costs."""

from __future__ import annotations

import io
import re
from collections import Counter

import pyte
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lmsupply_cli.render.blocks import BlockSplitter
from lmsupply_cli.render.markdown import MarkdownStream
from lmsupply_cli.render.markdown_layout import Look, layout
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
    for piece in ("# Title", "A paragraph with bold and code", "• one", "def f():", "After the code.", "1. first"):
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


def shown(text: str, monkeypatch: pytest.MonkeyPatch, columns: int = 60) -> list[str]:
    """The lines on a screen after streaming in small pieces."""
    return show(text, 3, step=1.0, columns=columns, monkeypatch=monkeypatch)[1].split("\n")


VERBATIM = [
    "Use List<String> and vector<int> here, with <b>HTML</b> text.",
    'Put this in the page:\n\n<div class="x">\n  Hello\n</div>\n\nDone.',
    "\\( x_1 \\) and \\[ x_2 = a * b * c \\].",
    "Path C:\\new\\*.txt and __init__, \\_ and \\*.",
    "2*3*4 = 24, 2**3 = 8, f(*args, **kwargs)",
    "&lt;b&gt; &amp; https://a.b/c?d=1&e=2 <https://a.b> [text](http://c.d) ![image](e.png)",
    "[name]: http://a.b",
    "Roses are red,\nViolets are blue,\nSugar is sweet,\nAnd so are you.",
    "Jane Doe\n12 High Street\nLondon",
    "#hashtag\n#!/bin/sh",
    "> quote 3\nlazy",
    "Title\n=====",
    "~~old~~ a ~ b ^ c $x$ | d",
    "2024. What a year",
    "| a | b |\n|---|---|\n| 1 | 2 | a cell too many |",
]


@pytest.mark.parametrize("text", VERBATIM)
def test_what_is_no_markup_stays_on_the_screen(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(text, monkeypatch, columns=100) == text.split("\n")


def test_code_can_be_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    long = "    return [" + ", ".join(map(str, range(60))) + "]"
    text = f"1. Write\n\n   ```python\n   def f():\n   {long}\n   ```\n2. Run"
    raw, screen = show(text, 5, step=1.0, columns=40, monkeypatch=monkeypatch)
    rows = screen.split("\n")
    assert rows[:3] == ["1. Write", "", "def f():"]
    assert "".join(rows[3:-2]) == long
    assert rows[-2:] == ["", "2. Run"]
    assert re.sub(r"\x1b\[[0-9;]*m", "", raw).count(long + "\n") >= 1


@pytest.mark.parametrize("columns", [1, 2, 7, 40])
@pytest.mark.parametrize("rows", [2, 5, 30])
def test_what_the_terminal_wraps_is_counted(columns: int, rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        "```\nshort\n"
        + "x" * 83
        + "\n日本語日本語日本語\n\ttab\n```\n"
        + "y" * 41
        + " and 日本語日本語日本語日本語\n\n- a\n- b"
    )
    sizes = {"columns": columns, "rows": rows, "monkeypatch": monkeypatch}
    assert show(text, 1, step=1.0, **sizes)[1] == show(text, len(text), step=1.0, **sizes)[1]


def test_lists_rules_and_tables_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "3. c\n4) d\n   - [x] e\n\n---\n| n | v |\n|--:|---|\n| 1 | *a* |\n| 22 | b |"
    assert shown(text, monkeypatch, columns=12) == [
        "3. c", "4) d", "   • [x] e", "", "─" * 12, " n   v", "──────", " 1   a", "22   b",
    ]  # fmt: skip


MARKUP = frozenset("*_`~#|:-+=>.)\\ \t\n")
PIECES = st.lists(
    st.one_of(
        st.text("ab <>&[]()!*_`~#|:-+=>.\\\n\t1", max_size=12),
        st.sampled_from(["```", "\n```\n", "**", "- ", "1. ", "    ", "<div>", "\n\n", "| a | b |\n|--|--|\n", "&lt;"]),
        st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cf", "Mn", "Me", "Zl", "Zp"]), max_size=8),
    ),
    max_size=12,
).map("".join)


@given(text=PIECES, width=st.integers(1, 100))
def test_no_visible_character_is_lost(text: str, width: int) -> None:
    """Without tables, whose cells are folded side by side, they also come in order."""
    console = Console(file=io.StringIO(), width=width)
    lines = layout(text, console, Look("bold", "ansi_dark"))
    drawn = "".join(line.plain for line in lines)
    lines_but_fences = [
        line for line in text.split("\n") if "```" not in line and "~~~" not in line
    ]  # which name a language
    said = [c for c in "".join(lines_but_fences) if c not in MARKUP and not c.isspace()]
    if "|" in text:
        assert not Counter(said) - Counter(drawn)
    else:
        remaining = iter(drawn)
        assert all(c in remaining for c in said)

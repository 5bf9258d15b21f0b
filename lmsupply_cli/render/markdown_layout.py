"""Markdown as lines of styled text for a terminal.

Prose is wrapped to the width. Lines of code are not, and have no indent, so that they can be copied: the terminal wraps
them. No visible character of an answer is lost except markup: a block for which that would happen is shown as its source.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markdown_it.token import Token
from rich import box
from rich.cells import cell_len, get_character_cell_size
from rich.console import Console
from rich.style import Style
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from lmsupply_cli.render.markdown_parser import parse

_MARKUP = frozenset("*_`~#|:-+=.)\\")
_WORD = re.compile(r"\S+\s*")
_LEAST = 12  # columns for text, however deep a list is
_STYLES = {"em_open": "italic", "strong_open": "bold"}
_JUSTIFY = {"text-align:right": "right", "text-align:center": "center"}


@dataclass(frozen=True, slots=True)
class Look:
    """`code`: the style of inline code; `theme`: the Pygments theme of code blocks."""

    code: str
    theme: str


def layout(source: str, console: Console, look: Look) -> list[Text]:
    try:
        page = _Page(source, console, look)
        page.add(parse(source))
    except RecursionError:
        return _plain(source, console.width)
    shown = Counter(c for line in page.lines for c in line.plain)
    shown.update(page.hidden)
    lost = Counter(c for c in source if c not in _MARKUP and not c.isspace()) - shown
    return _plain(source, console.width) if lost else page.lines


def _plain(source: str, width: int) -> list[Text]:
    return [piece for line in source.strip("\n").split("\n") for piece in wrap(Text(line), width)]


class _Page:
    """`hidden`: words that belong to the markup, such as the language of a code block."""

    def __init__(self, source: str, console: Console, look: Look) -> None:
        self.lines: list[Text] = []
        self.hidden = ""
        self._source = source.split("\n")
        self._console, self._look = console, look
        self._indents: list[int] = []
        self._marker = ""  # of a list item that has no line yet
        self._start = 0  # its column

    def add(self, tokens: Sequence[Token]) -> None:
        at = 0
        while at < len(tokens):
            token = tokens[at]
            if token.type == "table_open":
                end = next(i for i in range(at, len(tokens)) if tokens[i].type == "table_close")
                self._gap(token)
                self._table(tokens[at:end])
                at = end
            elif token.type == "list_item_open":
                self._open_item(token)
            elif token.type == "list_item_close":
                self._flush_marker()
                self._indents.pop()
            elif token.type == "heading_open":
                self._gap(token)
                marks = Text(token.markup + " ", "dim")
                self._prose(Text.assemble(marks, self._inline(tokens[at + 1], "bold")))
            elif token.type == "paragraph_open":
                self._gap(token)
                text = self._inline(tokens[at + 1])
                first = self._source[token.map[0]] if token.map and not token.level else ""
                self._prose(Text.assemble(first[: len(first) - len(first.lstrip())], text))
            elif token.type in ("fence", "code_block"):
                self._gap(token)
                self._code(token)
            elif token.type == "hr":
                self._gap(token)
                self._prose(Text("─" * max(1, self._room()), "dim"))
            at += 1

    def _gap(self, token: Token) -> None:
        """A blank line where the source has one."""
        line = token.map[0] if token.map else 0
        if self.lines and line and not self._source[line - 1].strip():
            self._flush_marker()
            self.lines.append(Text())

    def _open_item(self, token: Token) -> None:
        self._flush_marker()  # of an item that begins with a list
        self._marker = f"{token.info}{token.markup}" if token.info else "•"
        self._start = sum(self._indents)
        self._indents.append(len(self._marker) + 1)

    def _flush_marker(self) -> None:
        if self._marker:
            self.lines.append(Text(" " * self._start + self._marker))
            self._marker = ""

    def _room(self) -> int:
        width = self._console.width
        return max(width - sum(self._indents), min(width, _LEAST))

    def _prose(self, text: Text) -> None:
        indent, room = sum(self._indents), self._room()
        pieces = [piece for line in text.split("\n", allow_blank=True) for piece in wrap(line, room)]
        for piece in pieces or [Text()]:
            if self._marker:
                before = (" " * self._start + self._marker).ljust(indent)
                self._marker = ""
            else:
                before = " " * indent
            piece.rstrip()
            self.lines.append(Text.assemble(before if piece.plain else before.rstrip(), piece))

    def _code(self, token: Token) -> None:
        self._flush_marker()
        code, language = token.content.rstrip("\n"), token.info.split(" ")[0] if token.info else ""
        self.hidden += token.info
        text = _highlighted(code, language, self._look.theme)
        self.lines += text.split("\n", allow_blank=True)

    def _table(self, tokens: Sequence[Token]) -> None:
        rows: list[list[Text]] = []
        justify: list[str] = []
        for at, token in enumerate(tokens):
            if token.type == "tr_open":
                rows.append([])
            elif token.type in ("th_open", "td_open"):
                rows[-1].append(self._inline(tokens[at + 1]))
                if token.type == "th_open":
                    justify.append(_JUSTIFY.get(str(token.attrs.get("style", "")), "left"))
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for head, side in zip(rows[0], justify, strict=True):
            table.add_column(head, justify=side, overflow="fold")  # type: ignore[arg-type]
        for row in rows[1:]:
            table.add_row(*row)
        self._flush_marker()
        indent = " " * sum(self._indents)
        with self._console.capture() as capture:
            self._console.print(table, width=self._room())
        for line in capture.get().rstrip("\n").split("\n"):
            self.lines.append(Text.assemble(indent, Text.from_ansi(line.rstrip())))

    def _inline(self, token: Token, style: str = "") -> Text:
        text, styles = Text(), [Style.parse(style)]
        for child in token.children or []:
            if child.type in _STYLES:
                styles.append(styles[-1] + Style.parse(_STYLES[child.type]))
            elif child.type in ("em_close", "strong_close"):
                styles.pop()
            elif child.type == "hardbreak":
                text.append("\n")
            elif child.type == "code_inline":
                text.append(child.content, styles[-1] + Style.parse(self._look.code))
            else:
                text.append(child.content, styles[-1])
        return text


def _highlighted(code: str, language: str, theme: str) -> Text:
    syntax = Syntax(code, language or "text", theme=theme, background_color="default", tab_size=0)
    text = syntax.highlight(code)
    if text.plain.rstrip("\n") != code.rstrip("\n"):  # a lexer may change what it reads
        return Text(code)
    text.right_crop(len(text.plain) - len(code))
    return text


def wrap(line: Text, room: int) -> list[Text]:
    """Break a line between words. Long words are left to the terminal, except in scripts without spaces."""
    if "\t" in line.plain:
        line.expand_tabs(4)
    plain = line.plain
    if cell_len(plain) <= room:
        return [line]
    cuts: list[int] = []
    column = cell_len(plain) - cell_len(plain.lstrip())
    begun = False  # there is a word on this line
    for word in _WORD.finditer(plain):
        bare = word[0].rstrip()
        cells = cell_len(bare)
        if not bare.isascii() and cells > room:
            for at, character in enumerate(bare, word.start()):
                size = get_character_cell_size(character)
                if column and column + size > room:
                    cuts.append(at)
                    column = 0
                column += size
        else:
            if begun and column + cells > room:
                cuts.append(word.start())
                column = 0
            column += cells
        column += len(word[0]) - len(bare)
        begun = True
    return list(line.divide(cuts))


def count_rows(plain: str, width: int) -> int:
    """Rows of a terminal of `width` columns that a line takes."""
    if "\t" not in plain and plain.isascii():
        return max(1, -(-len(plain) // width))
    rows, column = 1, 0
    for character in plain:
        if character == "\t":
            column = min((column // 8 + 1) * 8, width - 1) if column < width else column
            continue
        size = min(get_character_cell_size(character), width)
        if size and column + size > width:
            rows, column = rows + 1, 0
        column += size
    return rows


def last_rows(lines: Sequence[Text], rows: int, width: int) -> list[Text]:
    """The end of `lines` that takes at most `rows` rows."""
    kept: list[Text] = []
    for line in reversed(lines):
        needed = count_rows(line.plain, width)
        if needed > rows:
            while rows and count_rows(line.plain, width) > rows:  # more than once where characters are wide
                line = line[max(1, len(line.plain) - rows * width) :]
            return [line, *kept[::-1]] if rows else kept[::-1]
        kept.append(line)
        rows -= needed
    return kept[::-1]


def rows_of(lines: Iterable[str], width: int) -> int:
    return sum(count_rows(line, width) for line in lines)

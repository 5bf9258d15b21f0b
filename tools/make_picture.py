"""Run lmsupply in a real terminal and write the pictures in the README: docs/session.svg and docs/machine.svg.

python tools/make_picture.py       (needs lmsupply[test] and lmsupply on the PATH)
"""

from __future__ import annotations

import os
import tempfile
import time
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import pexpect
import pyte

DOCS = Path(__file__).resolve().parent.parent / "docs"
COLUMNS, ROWS = 92, 48
PICTURES = {
    "session.svg": (
        "A chat with lmsupply in a terminal",
        [
            "lmsupply chat guide",
            "How do I download a model?",
            "/stats on",
            "How do I get JSON output?",
            "/undo",
            "/bye",
            "lmsupply run -q --temperature 0 --regex '(red|green|blue)' 'Which color?'",
            'echo "How do I list my models?" | lmsupply run -q',
        ],
    ),
    "machine.svg": (
        "What lmsupply says about a machine, and the models that fit it",
        ["lmsupply hw", "lmsupply models --fits --license mit"],
    ),
}
CELL, LINE, MARGIN = 8.43, 19, 18
COLOURS = {
    "default": "#d7dae0",
    "cyan": "#56b6c2",
    "blue": "#61afef",
    "green": "#98c379",
    "red": "#e06c75",
    "brown": "#d19a66",
}


def record(steps: list[str]) -> pyte.Screen:
    """The screen after these lines were typed in a shell."""
    with tempfile.TemporaryDirectory() as home:
        environ = {
            **os.environ,
            "PS1": "$ ",
            "TERM": "xterm-256color",
            "HOME": home,
            "LC_ALL": "C.UTF-8",
            "PROMPT_TOOLKIT_NO_CPR": "1",  # nothing here answers where the cursor is
        }
        shell = pexpect.spawn("bash", ["--norc"], env=environ, cwd=home, dimensions=(ROWS, COLUMNS), timeout=30)
        shell.expect_exact("$ ")
        screen = pyte.Screen(COLUMNS, ROWS)
        stream = pyte.ByteStream(screen)
        stream.feed(b"$ ")
        for step in steps:
            shell.send(step + "\r")
            deadline, shown = time.monotonic() + 7, b""
            while time.monotonic() < deadline:
                try:
                    shown += shell.read_nonblocking(65536, timeout=0.3)
                except pexpect.TIMEOUT:
                    continue
            stream.feed(shown.replace(home.encode(), b"~"))
        shell.close()
    return screen


def draw(screen: pyte.Screen, label: str) -> str:
    rows = [line for line in range(ROWS) if screen.display[line].strip()]
    last = max(rows) + 1
    width, height = COLUMNS * CELL + 2 * MARGIN, last * LINE + 2 * MARGIN
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">',
        f'<rect width="{width:.0f}" height="{height:.0f}" rx="10" fill="#21252b"/>',
        '<g font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace" font-size="14" xml:space="preserve">',
    ]
    for number in range(last):
        cells = [(x, screen.buffer[number][x]) for x in range(COLUMNS)]
        for style, group in groupby(cells, key=lambda cell: (cell[1].fg, cell[1].bold)):
            found = list(group)
            text = "".join(char.data for _, char in found)
            if text.strip():
                parts.append(span(found[0][0], number, text.rstrip(), style))
    return "\n".join([*parts, "</g>", "</svg>", ""])


def span(column: int, row: int, text: str, style: tuple[Any, ...]) -> str:
    color, bold = COLOURS.get(style[0], COLOURS["default"]), ' font-weight="bold"' if style[1] else ""
    x, y = MARGIN + column * CELL, MARGIN + (row + 0.75) * LINE
    length = f' textLength="{len(text) * CELL:.1f}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{color}"{bold}{length}>{escape(text)}</text>'


if __name__ == "__main__":
    for name, (label, steps) in PICTURES.items():
        (DOCS / name).write_text(draw(record(steps), label), encoding="utf-8")
        print(DOCS / name)

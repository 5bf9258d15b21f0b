"""Cut markdown that is still being written into blocks that are finished and one that is open."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^ {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_ITEM = re.compile(r"^ {0,3}([-*+]|\d{1,9}[.)])( |$)")
_HEADING = re.compile(r"^ {0,3}#{1,6}( |$)")


class BlockSplitter:
    """`push` gives back the blocks that became complete; `open` is the one that may still grow.

    A block ends at a blank line, before a heading or a fence, and after a fence or a heading.
    A list goes on over blank lines while its items or their indented text follow.
    """

    def __init__(self) -> None:
        self.open = ""
        self._line = ""  # the line that is not complete, the end of `open`
        self._fence = ""
        self._blank = False

    @property
    def in_fence(self) -> bool:
        """Whether the open block is code, and its first line the fence."""
        return bool(self._fence)

    def push(self, text: str) -> list[str]:
        finished: list[str] = []
        *lines, rest = (self._line + text).split("\n")
        self.open = self.open[: len(self.open) - len(self._line)]
        for line in lines:
            finished += self._add(line + "\n")
        self._line = rest
        self.open += rest
        return finished

    def flush(self) -> str:
        """The open block, at the end of the text."""
        left, self.open, self._line = self.open, "", ""
        return left if left.strip() else ""

    def _add(self, line: str) -> list[str]:
        if self._fence:
            self.open += line
            closing = line.strip()
            if closing.startswith(self._fence) and not closing.strip(self._fence[0]):
                self._fence = ""
                return self._close()
            return []
        if not line.strip():
            self._blank = bool(self.open.strip())
            self.open += line
            return []
        finished: list[str] = []
        fence, heading = _FENCE.match(line), _HEADING.match(line)
        if fence or heading or (self._blank and not self._continues(line)):
            finished += self._close()
        self._blank = False
        self.open += line
        if fence:
            self._fence = fence.group(1)
        elif heading:
            finished += self._close()
        return finished

    def _continues(self, line: str) -> bool:
        return bool(_ITEM.match(self.open.lstrip("\n"))) and bool(_ITEM.match(line) or line.startswith(("  ", "\t")))

    def _close(self) -> list[str]:
        block, self.open, self._blank = self.open, "", False
        return [block] if block.strip() else []

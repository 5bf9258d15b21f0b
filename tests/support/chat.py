"""`lmsupply chat` on a screen, a line at a time."""

from __future__ import annotations

from support.terminal import Terminal

PROMPT = ">>>"


class Chat(Terminal):
    def __init__(self, *arguments: str, columns: int = 80, rows: int = 40, **environ: str) -> None:
        super().__init__("chat", *arguments, columns=columns, rows=rows, **environ)
        self.ready(1)

    def ready(self, count: int) -> str:
        """Until the screen shows `count` prompts."""
        return self.read(lambda text: text.count(PROMPT) >= count)

    def ask(self, line: str) -> str:
        """Send a line and wait for the next prompt; what the screen shows of it, on one line."""
        before = self.text.count(PROMPT)
        self.send(line + "\r")
        return " ".join(self.ready(before + 1).split(PROMPT)[before].split())

    def leave(self) -> str:
        self.send("\x04")
        assert self.end() == 0
        return self.text

"""Formats that are a few lines of text."""

from __future__ import annotations

from collections.abc import Sequence

from lmsupply_cli.chat.messages import ChatMessage


class ChatML:
    name = "chatml"
    stop: tuple[str, ...] = ()

    def render(self, messages: Sequence[ChatMessage]) -> str:
        turns = [f"<|im_start|>{m.role}\n{m.content}<|im_end|>\n" for m in messages]
        return "".join(turns) + "<|im_start|>assistant\n"


class Generic:
    """For models without a template: names and colons, as in a written dialogue."""

    name = "generic"
    stop: tuple[str, ...] = ("\nUser:", "\nSystem:")

    def render(self, messages: Sequence[ChatMessage]) -> str:
        return "".join(f"{m.role.capitalize()}: {m.content}\n" for m in messages) + "Assistant:"

"""ChatSession: messages, and a model that answers the last one."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.events import GenerationEvent, TextDelta
from lmsupply_cli.runtime.fitting import fit_messages
from lmsupply_cli.runtime.generator import TextGenerator


class ChatSession:
    """`messages` is the truth; the prompt cache follows it by the longest common prefix."""

    def __init__(self, generator: TextGenerator, *, system: str | None = None, policy: Policy = "error") -> None:
        """`policy`: what to do when the conversation outgrows the context."""
        self.generator = generator
        self.policy = policy
        self.messages: list[ChatMessage] = [ChatMessage.system(system)] if system else []

    def send(self, text: str, *, cancel: CancelToken | None = None, **options: Any) -> Generator[GenerationEvent]:
        """Answer `text`. What was said when the iterator ends or is given up stays in the history;
        a message that got no answer at all is taken back. A `Notice` says what the policy left out.
        Raises DoesNotFit."""
        chosen = self.generator.options.replaced(**options)
        asked = [*self.messages, ChatMessage.user(text)]
        fitted = fit_messages(self.generator, asked, policy=self.policy, max_tokens=chosen.max_tokens)
        yield from fitted.notices
        events = self.generator.stream_prompt(fitted.prompt, chosen, cancel=cancel)
        said: list[str] = []
        try:
            for event in events:
                if isinstance(event, TextDelta):
                    said.append(event.text)
                yield event
        finally:
            if said:
                self.messages = [*fitted.messages, ChatMessage.assistant("".join(said))]

    def clear(self) -> None:
        """Forget everything but the system prompt."""
        self.messages = [m for m in self.messages if m.role is ChatRole.SYSTEM]

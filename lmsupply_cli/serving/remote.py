"""RemoteGenerator: the loaded model of a running server, as a TextGenerator would answer with it.

Prompts are made here by the same code, to count their tokens and to cut them; the server makes them again from the same
messages.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.tools.spec import ToolRequest
from lmsupply_cli.config.table import GENERATION_KEYS
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.generate import overflow
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import DoesNotFit, UsageError
from lmsupply_cli.events import Finished, GenerationEvent, Usage
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.generator import check_together
from lmsupply_cli.generation.prompter import Prompter
from lmsupply_cli.serving import wire
from lmsupply_cli.serving.requests import AnswerRequest
from lmsupply_cli.serving.server_client import Lines, ServerClient


@dataclass(frozen=True, slots=True)
class AskedPrompt(Prompt):
    """A prompt, and the request that the server makes it of."""

    request: AnswerRequest = field(default_factory=AnswerRequest)


@dataclass(frozen=True)
class RemotePrompter(Prompter):
    """`enable_thinking`, `reasoning_effort`: where they differ from those that the server loaded the model with."""

    enable_thinking: bool | None = None
    reasoning_effort: str | None = None

    def chat(
        self, messages: Iterable[ChatMessage], *, answer_prefix: str = "", tools: ToolRequest | None = None
    ) -> AskedPrompt:
        """As Prompter."""
        given, tools = tuple(messages), tools or ToolRequest(())
        request = AnswerRequest(
            messages=given,
            answer_prefix=answer_prefix,
            tools=tools.tools,
            tool_choice={"type": "function", "function": {"name": tools.choice}} if tools.named else tools.choice,
            parallel_tool_calls=tools.parallel,
            told=tools.told,
            enable_thinking=self.enable_thinking,
            reasoning_effort=self.reasoning_effort,
        )
        return _asked(Prompter.chat(self, given, answer_prefix=answer_prefix, tools=tools), request)

    def raw(self, text: str) -> AskedPrompt:
        """As Prompter."""
        return _asked(Prompter.raw(self, text), AnswerRequest(text=text))

    def with_thinking(self, enable: bool, *, effort: str | None = None) -> tuple[Prompter, str]:
        """As Prompter. What is not supported is not asked of the server."""
        made, refused = Prompter.with_thinking(self, enable, effort=effort)
        switch = None if "switch" in refused else enable
        return replace(
            made,
            enable_thinking=switch,
            reasoning_effort=None if "reasoning_effort" in refused else effort or self.reasoning_effort,
        ), refused  # type: ignore[call-arg]


def _asked(prompt: Prompt, request: AnswerRequest) -> AskedPrompt:
    return AskedPrompt(**{one.name: getattr(prompt, one.name) for one in fields(Prompt)}, request=request)


@dataclass(frozen=True, slots=True)
class RemoteLimits:
    """`context_tokens`: what the server loaded the model with; `fitting_tokens`: the largest context that fits;
    `vocabulary`: its size."""

    context_tokens: int
    fitting_tokens: int
    vocabulary: int


class RemoteGenerator:
    """What `run` and `chat` need of a TextGenerator. Closing it leaves the model loaded."""

    def __init__(
        self,
        client: ServerClient,
        info: ModelInfo,
        prompter: RemotePrompter,
        limits: RemoteLimits,
        *,
        options: GenerationOptions,
        guidance: Guidance | None = None,
    ) -> None:
        self.client, self.info, self.prompter = client, info, prompter
        self.options, self.guidance = options, guidance
        self.context_tokens, self.fitting_tokens = limits.context_tokens, limits.fitting_tokens
        self._limits = limits
        self._read: tuple[int, ...] = ()  # ids of the last prompt
        self._held = 0

    @property
    def place(self) -> str:
        """Where the model is loaded."""
        return f"the server at {self.client.server.url}"

    @property
    def cached_tokens(self) -> int:
        """Tokens of this conversation that the server read or wrote."""
        return self._held

    def cached_prefix_tokens(self, ids: Sequence[int]) -> int:
        """Length of the prefix of `ids` that the last prompt shares."""
        pairs = zip(ids, self._read, strict=False)
        return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(ids), len(self._read)))

    def resize_context(self, tokens: int) -> None:
        """Use fewer tokens than the server has. Raises UsageError, DoesNotFit."""
        if not 0 < tokens <= self.info.context_length:
            raise UsageError(f"a context of {tokens:,} is not between 1 and the model's {self.info.context_length:,}")
        if tokens > self._limits.context_tokens:
            raise DoesNotFit(
                f"{self.place} loaded this model with a context of {self._limits.context_tokens:,} tokens",
                hint="lmsupply chat --no-server loads it here",
            )
        self.context_tokens = tokens

    def check_options(self, options: GenerationOptions, guidance: Guidance | None) -> None:
        """Raises UsageError for options that can't be combined with the guidance or the model."""
        check_together(options, guidance, self._limits.vocabulary)

    def stream_prompt(
        self,
        prompt: Prompt,
        options: GenerationOptions | None = None,
        *,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[GenerationEvent]:
        """As TextGenerator. Raises ServerGone."""
        assert isinstance(prompt, AskedPrompt)
        options, guidance = options or self.options, guidance or self.guidance
        self.check_options(options, guidance)
        if len(prompt.ids) >= self.context_tokens:
            raise overflow(len(prompt.ids), self.context_tokens)
        room = self.context_tokens - len(prompt.ids)
        capped = room < options.max_tokens and self.context_tokens < self._limits.context_tokens
        values = {key: getattr(options, key) for key in GENERATION_KEYS}
        if capped:
            values |= {"max_tokens": room, "min_length": min(options.min_length, room)}
        request = replace(prompt.request, options=values, guidance=guidance)
        for event in self._events(request, len(prompt.ids), cancel or CancelToken()):
            if isinstance(event, Finished):
                self._read, self._held = prompt.ids, len(prompt.ids) + event.usage.completion_tokens
                event = replace(event, timings=replace(event.timings, load_s=0.0))
                if capped and event.cut_by == "max_tokens":
                    event = replace(event, cut_by="context")
            yield event

    def _events(self, request: AnswerRequest, prompt_tokens: int, cancel: CancelToken) -> Iterator[GenerationEvent]:
        key = secrets.token_hex(8)
        lines = self.client.lines(wire.ANSWER, id=key, model=self.info.ref, request=wire.request_row(request))
        try:
            accepted = False
            while True:
                if cancel.cancelled and not accepted:
                    yield Finished("cancelled", Usage(prompt_tokens))
                    return
                row = lines.next()
                if row is not None and not accepted:
                    accepted = True
                elif row is not None:
                    event = wire.event_of(row)
                    yield event
                    if isinstance(event, Finished):
                        return
                if accepted and cancel.cancelled:
                    self.client.call(wire.CANCEL, id=key)
                    yield from _rest(lines)
                    return
        finally:
            lines.close()

    def close(self) -> None:
        """The model stays loaded."""

    def __enter__(self) -> RemoteGenerator:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def _rest(lines: Lines) -> Iterator[GenerationEvent]:
    """Of an answer that was cancelled, up to its end."""
    while True:
        if (row := lines.next()) is not None:
            event = wire.event_of(row)
            yield event
            if isinstance(event, Finished):
                return

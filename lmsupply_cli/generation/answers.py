"""What a TextGenerator and a GeneratorPool have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol, Unpack

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationKeywords, GenerationOptions
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import GenerationEvent, TextDelta
from lmsupply_cli.generation.completion import Completion, ModelInfo, complete
from lmsupply_cli.generation.prompter import Prompter
from lmsupply_cli.generation.tools import ToolListener, ToolLoop, ToolRun

Messages = Iterable[ChatMessage | Mapping[str, Any]]


class Generates(Protocol):
    """The interface that TextGenerator and GeneratorPool share, and that ChatSession needs."""

    @property
    def info(self) -> ModelInfo:
        """The model, and how it runs."""

    @property
    def options(self) -> GenerationOptions:
        """Default options for calls that pass none."""

    @property
    def prompter(self) -> Prompter:
        """Builds prompts."""

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""

    def cached_prefix_tokens(self, ids: Sequence[int]) -> int:
        """Length of the prefix of `ids` that is in the prompt cache."""

    def stream_prompt(
        self,
        prompt: Prompt,
        options: GenerationOptions | None = None,
        *,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[GenerationEvent]:
        """Events for an already built `Prompt`."""

    def close(self) -> None:
        """Free its resources."""


class ChatGenerator(Generates, Protocol):
    """What `run` and `chat` need: a TextGenerator, or one in another process."""

    @property
    def fitting_tokens(self) -> int:
        """The largest context that fits."""

    @property
    def cached_tokens(self) -> int:
        """Tokens in the prompt cache now."""

    def resize_context(self, tokens: int) -> None:
        """Set the context length. Raises UsageError, DoesNotFit."""

    def check_options(self, options: GenerationOptions, guidance: Guidance | None) -> None:
        """Raises UsageError for options that can't be combined with the guidance or the model."""

    def __enter__(self) -> ChatGenerator:
        """It is closed at the end of the block."""

    def __exit__(self, *_: object) -> None:
        """As `close`."""


class Answers(ABC):
    """Whole answers and plain text, from a stream of events."""

    def generate(
        self,
        prompt: str,
        *,
        raw: bool = False,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Completion:
        """The answer to one prompt; `raw` sends the text as is, without the chat format; `guidance`: a constraint on
        the answer."""
        return complete(self.stream(prompt, raw=raw, guidance=guidance, cancel=cancel, **options))

    def stream_text(
        self,
        prompt: str | Messages,
        *,
        raw: bool = False,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Iterator[str]:
        """The answer to a prompt or a chat as pieces of text."""
        if isinstance(prompt, str):
            events = self.stream(prompt, raw=raw, guidance=guidance, cancel=cancel, **options)
        else:
            events = self.stream_chat(prompt, guidance=guidance, cancel=cancel, **options)
        return (event.text for event in events if isinstance(event, TextDelta))

    def generate_chat(
        self,
        messages: Messages,
        *,
        tools: Iterable[Any] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Completion:
        """The assistant's next message. `tools`: what the model may call, each as in `ToolSpec.of`; `tool_choice`:
        "auto", "required", "none" or a tool's name; `parallel_tool_calls`: whether one answer may hold several calls."""
        events = self.stream_chat(
            messages,
            tools=tools,
            tool_choice=tool_choice,
            parallel_tool_calls=parallel_tool_calls,
            guidance=guidance,
            cancel=cancel,
            **options,
        )
        return complete(events)

    def run_tools(
        self,
        messages: Messages,
        tools: Iterable[Any],
        *,
        max_rounds: int = 8,
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        listener: ToolListener | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> ToolRun:
        """Answer, call the functions that the model asks for, give it the results, and so on until it answers without a
        call, or for `max_rounds` answers. `tool_choice` holds for the first one. An exception of a function becomes a
        result that the model reads; a coroutine function is run to its end, in an event loop of its own."""
        loop = ToolLoop(as_messages(messages), tools, max_rounds=max_rounds, listener=listener)
        while (choice := loop.next_choice(tool_choice)) is not None:
            events = self.stream_chat(
                loop.messages,
                tools=loop.tools,
                tool_choice=choice,
                parallel_tool_calls=parallel_tool_calls,
                cancel=cancel,
                **options,
            )
            loop.take(events)
        return loop.run()

    @abstractmethod
    def stream(
        self,
        prompt: str,
        *,
        raw: bool = False,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Iterator[GenerationEvent]:
        """Like `generate`, as events: progress of the prefill, pieces of text, and `Finished`."""

    @abstractmethod
    def stream_chat(
        self,
        messages: Messages,
        *,
        tools: Iterable[Any] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Iterator[GenerationEvent]:
        """Like `generate_chat`, as events."""


def check_type(value: object, wanted: object, name: str, noun: str) -> None:
    """Raises UsageError that names the argument."""
    if not isinstance(value, wanted):  # type: ignore[arg-type]
        raise UsageError(f"{name} must be {noun}, not {type(value).__name__}")

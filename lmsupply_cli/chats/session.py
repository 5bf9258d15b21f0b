"""ChatSession: messages, and a model that answers the last one."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Unpack, get_args

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.overflow import Policy, drop_oldest_turn
from lmsupply_cli.chat.tools.spec import ToolRequest, ToolSpec
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationKeywords, GenerationOptions
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import Finished, GenerationEvent, ToolCall
from lmsupply_cli.generation.answers import Generates, check_type
from lmsupply_cli.generation.completion import AnswerBuffer
from lmsupply_cli.generation.fitting import fit_messages
from lmsupply_cli.generation.prompter import Prompter

G = TypeVar("G", bound=Generates)
_NOT_RUN = "error: this call was not run"


class SessionListener:
    """Override the methods that you need; the base does nothing."""

    def messages(self, messages: Sequence[ChatMessage]) -> None:
        """The history changed: these are its messages now."""

    def said(self, text: str, reasoning: str) -> None:
        """The answer so far; called while it grows."""


@dataclass(frozen=True, slots=True)
class PromptCost:
    """Cost of the next prompt: tokens of the history, and how many of them are cached."""

    prompt_tokens: int
    cached_tokens: int


class ChatSession(Generic[G]):
    """`messages` is the whole chat; the prompt cache follows what is sent to the model. Two sessions on one
    generator have options of their own.

    >>> from lmsupply import ChatSession, TextDelta, load
    >>> with load("guide") as model:
    ...     chat = ChatSession(model, system="Be brief.")
    ...     for event in chat.send("hello", temperature=0):
    ...         print(event.text if isinstance(event, TextDelta) else "", end="")
    """

    def __init__(
        self,
        generator: G,
        *,
        system: str | None = None,
        policy: Policy = "error",
        options: GenerationOptions | None = None,
        listener: SessionListener | None = None,
        tools: Iterable[Any] = (),
    ) -> None:
        """`policy`: what to do when the conversation outgrows the context: "error", "drop-oldest" (turns), or
        "truncate-start" or "truncate-end" (of the last message); `options`: of this session, by default the
        generator's; `tools`: what answers may call, each as in `ToolSpec.of`."""
        self.generator = generator
        self.options = options or generator.options
        self.prompter: Prompter = generator.prompter
        if policy not in get_args(Policy):
            raise UsageError(f"policy must be one of {', '.join(get_args(Policy))}, not {policy!r}")
        self.policy = policy
        self.listener = listener or SessionListener()
        self.messages: list[ChatMessage] = [ChatMessage.system(system)] if system else []
        self.guidance: Guidance | None = None  # what answers must follow
        self.tools = tools
        self.dropped = 0  # of the oldest messages after the system prompt, how many the model is no longer given

    def use(self, generator: G) -> None:
        """Continue with another model, and its options and format."""
        self.generator = generator
        self.options = generator.options
        self.prompter = generator.prompter

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """What answers may call; may be set, to anything that `ToolSpec.of` takes."""
        return self._tools

    @tools.setter
    def tools(self, tools: Iterable[Any]) -> None:
        self._tools = ToolRequest.of(tools).tools

    @property
    def pending_calls(self) -> tuple[ToolCall, ...]:
        """The calls of the last answer that have no result yet."""
        known: set[str] = set()
        for message in reversed(self.messages):
            if message.role is not ChatRole.TOOL:
                return tuple(call for call in message.tool_calls if call.id not in known)
            known.add(message.tool_call_id)
        return ()

    def add_result(self, call_id: str, text: str) -> None:
        """The result of a pending call; `resume` goes on when each has one. Raises UsageError."""
        if call_id not in [call.id for call in self.pending_calls]:
            raise UsageError(f"the last answer has no call {call_id!r} without a result", hint="see `pending_calls`")
        check_type(text, str, "text", "a string")
        self._change([*self.messages, ChatMessage.tool(text, call_id)])

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""
        return self.generator.context_tokens

    @property
    def system(self) -> str:
        """The system prompt, "" for none; may be set."""
        first = self.messages[:1]
        return first[0].content if first and first[0].role is ChatRole.SYSTEM else ""

    @system.setter
    def system(self, text: str) -> None:
        rest = self.messages[1:] if self.system else self.messages
        self._change([ChatMessage.system(text), *rest] if text else list(rest))

    @property
    def asked(self) -> str:
        """The last message of the user, "" if there is none."""
        return next((m.content for m in reversed(self.messages) if m.role is ChatRole.USER), "")

    @property
    def answered(self) -> bool:
        """Whether the last message is an answer."""
        return bool(self.messages) and self.messages[-1].role is ChatRole.ASSISTANT

    @property
    def has_results(self) -> bool:
        """Whether the last message is the result of a call, which no answer follows."""
        return bool(self.messages) and self.messages[-1].role is ChatRole.TOOL

    def send(
        self,
        text: str,
        *,
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Generator[GenerationEvent]:
        """Answer `text`. The text generated so far stays in the history, even if you stop iterating; a message without
        any answer is removed. An answer may call `tools`, as in `generate_chat`: give each of `pending_calls` its result
        with `add_result`, then `resume`. A call without a result counts as not run. A `Notice` tells what the policy
        left out. Raises DoesNotFit, UsageError."""
        check_type(text, str, "text", "a string")
        before = list(self.messages)
        not_run = [ChatMessage.tool(_NOT_RUN, call.id) for call in self.pending_calls]
        asked = [*before, *not_run, ChatMessage.user(text)]
        request = ToolRequest.of(self.tools, tool_choice, parallel=parallel_tool_calls)
        return self._answer(asked, before, None, cancel, self.options.replaced(**options), request)

    def regenerate(
        self, *, cancel: CancelToken | None = None, **options: Unpack[GenerationKeywords]
    ) -> Generator[GenerationEvent]:
        """Answer the last message again; the previous answer is kept if generation produces nothing. Raises UsageError."""
        before = list(self.messages)
        asked = before[:-1] if before and before[-1].role is ChatRole.ASSISTANT else before
        if not asked or asked[-1].role not in (ChatRole.USER, ChatRole.TOOL):
            raise UsageError("there is no answer to regenerate")
        self._check_results(asked)
        return self._answer(asked, before, None, cancel, self.options.replaced(**options), ToolRequest(self.tools))

    def resume(
        self, *, cancel: CancelToken | None = None, **options: Unpack[GenerationKeywords]
    ) -> Generator[GenerationEvent]:
        """Continue the last answer where it ended, or with the results of its calls. Raises UsageError if there is
        none."""
        before = list(self.messages)
        self._check_results(before)
        chosen = self.options.replaced(**options)
        if self.has_results:
            return self._answer(before, before, None, cancel, chosen, ToolRequest(self.tools))
        if not self.answered:
            raise UsageError("there is no answer to continue")
        return self._answer(before[:-1], before, before[-1], cancel, chosen, self._told)

    def undo(self) -> ChatMessage:
        """Remove the last user message and everything after it; returns the message. Raises UsageError."""
        at = next((i for i in reversed(range(len(self.messages))) if self.messages[i].role is ChatRole.USER), None)
        if at is None:
            raise UsageError("there is no turn to undo")
        asked = self.messages[at]
        self._change(self.messages[:at])
        return asked

    def restore(self, messages: Sequence[ChatMessage]) -> None:
        """Continue from other messages, such as those of a saved chat."""
        self._change(list(messages))

    def clear(self) -> None:
        """Forget everything but the system prompt."""
        self._change([m for m in self.messages if m.role is ChatRole.SYSTEM])

    def prompt_text(self) -> str:
        """The chat so far exactly as sent to the model, "" if there is no message."""
        return self._prompt_so_far().text if self.messages else ""

    def used_tokens(self) -> int:
        """Number of context tokens that the chat uses so far; 0 before its first message."""
        if not any(m.role is not ChatRole.SYSTEM for m in self.messages):
            return 0
        return len(self._prompt_so_far().ids)

    @property
    def can_drop(self) -> bool:
        """Whether an old turn can be dropped to make room, and the policy allows it."""
        return (
            bool(self.messages)
            and self.policy == "drop-oldest"
            and drop_oldest_turn(self._given(self.messages)) is not None
        )

    def next_prompt_cost(self) -> PromptCost:
        """How many tokens of the history must be reprocessed."""
        if not any(m.role is not ChatRole.SYSTEM for m in self.messages):
            return PromptCost(0, 0)
        ids = self.prompter.chat([*self._given(self.messages), ChatMessage.user("x")], tools=self._told).ids
        return PromptCost(len(ids), self.generator.cached_prefix_tokens(ids))

    def tool_tokens(self) -> int:
        """Number of tokens by which the description of `tools` makes each prompt longer."""
        if not self.tools:
            return 0
        system = [m for m in self.messages[:1] if m.role is ChatRole.SYSTEM]
        asked = [*system, ChatMessage.user("x")]
        return len(self.prompter.chat(asked, tools=self._told).ids) - len(self.prompter.chat(asked).ids)

    @property
    def _told(self) -> ToolRequest:
        """The model is told of the tools, and calls none."""
        return ToolRequest(self.tools, "none", told=True)

    def _check_results(self, messages: Sequence[ChatMessage]) -> None:
        if messages == self.messages and self.pending_calls:
            raise UsageError("a call of the last answer has no result", hint="give it one with `add_result`")

    def _change(self, messages: list[ChatMessage]) -> None:
        self.messages = messages
        if sum(m.role is not ChatRole.SYSTEM for m in messages) <= self.dropped:
            self.dropped = 0
        self.listener.messages(messages)

    def _prompt_so_far(self) -> Prompt:
        given = self._given(self.messages)
        answered = given[-1].role is ChatRole.ASSISTANT and not given[-1].tool_calls
        prefix = self._prefix(given.pop()) if answered else ""
        return self.prompter.chat(given, answer_prefix=prefix, tools=self._told)

    def _given(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        """Without those that were dropped."""
        start = 1 if messages[0].role is ChatRole.SYSTEM else 0
        return [*messages[:start], *messages[start + self.dropped :]]

    def _answer(
        self,
        asked: list[ChatMessage],
        before: list[ChatMessage],
        partial: ChatMessage | None,
        cancel: CancelToken | None,
        options: GenerationOptions,
        tools: ToolRequest,
    ) -> Generator[GenerationEvent]:
        prefix = self._prefix(partial) if partial else ""
        given = self._given(asked)
        fitted = fit_messages(
            self, given, policy=self.policy, max_tokens=options.max_tokens, answer_prefix=prefix, tools=tools
        )
        yield from fitted.notices
        went = len(given) - len(fitted.messages)
        first = len(fitted.messages) - (fitted.messages[0].role is ChatRole.SYSTEM)
        kept = [*asked[: len(asked) - first], *fitted.messages[len(fitted.messages) - first :]]
        events = self.generator.stream_prompt(fitted.prompt, options, guidance=self.guidance, cancel=cancel)
        dropped_before = self.dropped
        self.dropped += went
        self._change([*kept, partial] if partial else kept)
        said, ended = AnswerBuffer(), False
        if partial:
            said.text, said.reasoning = partial.content, partial.reasoning
        try:
            for event in events:
                said.add(event)
                self.listener.said(said.text, said.reasoning)
                ended = isinstance(event, Finished) and event.finish_reason in ("stop", "tool_calls")
                yield event
        finally:
            if said:
                answer = ChatMessage.assistant(
                    said.text, reasoning=said.reasoning, partial=not ended, tool_calls=said.tool_calls
                )
                self._change([*kept, answer])
            else:
                self.dropped = dropped_before
                self._change(before)

    def _prefix(self, partial: ChatMessage) -> str:
        """The text of an answer as the model wrote it, reasoning included."""
        markers = self.prompter.format.markers
        if not partial.reasoning or (markers and markers.style == "channels"):
            return partial.content
        return f"<think>\n{partial.reasoning}" + (f"\n</think>\n\n{partial.content}" if partial.content else "")

"""Answers that call tools: their guidance, their events, and the loop that runs the functions."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, is_dataclass
from functools import lru_cache
from typing import Any, Literal

from lmsupply_cli.chat.formatter import ToolTurn
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.tools.grammar import JSON_STYLE
from lmsupply_cli.chat.tools.signature import call_function
from lmsupply_cli.chat.tools.spec import ToolRequest, ToolSpec
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.ending import StopSequenceDetector
from lmsupply_cli.engine.guidance import Guidance, relaxed, with_exact_integers
from lmsupply_cli.engine.matcher import check_guidance, matches
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import AnswerPiece, FinishReason, GenerationEvent, Notice, TextDelta, ToolCall
from lmsupply_cli.generation.completion import Completion, complete

RESULT_CHARACTERS = 20_000  # of a result, by default: some five thousand tokens
StoppedBy = Literal["answer", "max_rounds", "no_function"]


def guidance_for(turn: ToolTurn) -> Guidance:
    """What an answer with these tools must follow. Raises UsageError for a schema that is not supported."""
    schemas = {tool.name: arguments_guidance(tool).text for tool in turn.request.callable}
    return Guidance("lark_grammar", turn.grammar(schemas))


def text_rule(guidance: Guidance) -> str:
    """The body of a rule of a grammar that allows what `guidance` does. JSON has the white space of calls, so that a text
    which begins as a call without a mark does can go on in another way."""
    if guidance.kind == "json_schema":
        schema = json.loads(guidance.text)
        schema["x-guidance"] = JSON_STYLE | schema.get("x-guidance", {})
        return f"%json {json.dumps(schema, ensure_ascii=False)}"
    inner = guidance.text
    if guidance.kind == "regex":
        pattern = re.sub(r"\\.|/", lambda found: "\\/" if found[0] == "/" else found[0], inner, flags=re.DOTALL)
        inner = "start: /" + pattern.replace("\n", "\\n") + "/"
    return f"%lark {{\n{inner}\n}}"


def arguments_guidance(tool: ToolSpec) -> Guidance:
    """Of a tool's arguments, with the white space that models write in calls. Raises UsageError."""
    return _arguments_guidance(tool.name, json.dumps(tool.parameters, ensure_ascii=False), tool.strict)


@lru_cache(maxsize=256)
def _arguments_guidance(name: str, parameters: str, strict: bool) -> Guidance:
    try:
        return _guidance_of(name, parameters)
    except UsageError:
        if strict:
            raise
    schema = json.loads(parameters)
    for lenient in (relaxed(schema), relaxed(schema, without=("pattern", "patternProperties"))):
        with suppress(UsageError):
            return _guidance_of(name, json.dumps(lenient, ensure_ascii=False))
    return _guidance_of(name, '{"type": "object"}')


def _guidance_of(name: str, parameters: str) -> Guidance:
    try:
        guidance = Guidance.json_schema(parameters)
        check_guidance(guidance)
    except UsageError as error:
        raise UsageError(f"the parameters of the tool {name}: {error.message}", hint=error.hint) from error
    schema = with_exact_integers(json.loads(guidance.text)) | {"x-guidance": JSON_STYLE}
    return Guidance("json_schema", json.dumps(schema, ensure_ascii=False))


def form_notice(turn: ToolTurn) -> Notice | None:
    """For a model whose format has no form for tools."""
    if turn.family.native or not turn.request.callable:
        return None
    return Notice(
        "tools",
        "this model has no form of its own for tools: they are described in the system prompt, and its calls are guided",
    )


class ToolAnswer:
    """The text of one answer as events. Stop sequences count in its text, not in the arguments of a call."""

    def __init__(self, turn: ToolTurn, stops: Iterable[str], ending: CancelToken) -> None:
        """`ending` is cancelled at a stop sequence."""
        self._parser, self._stops, self._ending = turn.parser(), StopSequenceDetector(stops), ending
        self._guided, self._calls = bool(turn.guided) and not turn.request.must_call, 0

    def push(self, text: str) -> Iterator[GenerationEvent]:
        """What of the text so far can be told apart."""
        return self._pass(self._parser.push(text))

    def flush(self) -> Iterator[GenerationEvent]:
        """What was held back, at the end."""
        yield from self._pass(self._parser.flush())
        if rest := self._stops.flush():
            yield TextDelta(rest)

    def reason(self, reason: FinishReason) -> FinishReason:
        """Why the answer ended, of which the engine knows `reason`."""
        if self._stops.matched is not None:
            return "stop"
        return "tool_calls" if self._calls and reason == "stop" else reason

    @property
    def stop_sequence(self) -> str | None:
        """Which stop sequence came in the text."""
        return self._stops.matched

    def complete(self, complete: bool | None) -> bool | None:
        """Whether guided text is complete, of which the engine knows `complete`; None for any other answer."""
        return complete if self._guided and not self._calls else None

    def _pass(self, pieces: Iterator[AnswerPiece]) -> Iterator[GenerationEvent]:
        for piece in pieces:
            if self._stops.matched is not None:
                return
            if not isinstance(piece, TextDelta):
                if rest := self._stops.flush():
                    yield TextDelta(rest)
                self._calls += isinstance(piece, ToolCall)
                yield piece
            elif text := self._stops.push(piece.text):
                yield TextDelta(text)
            if self._stops.matched is not None:
                self._ending.cancel()


class ToolListener:
    """Override the methods that you need; the base allows every call, and gives the model at most 20,000 characters of a
    result."""

    def event(self, event: GenerationEvent) -> None:
        """An event of an answer."""

    def allow(self, call: ToolCall) -> bool:
        """Whether a call may be run; the model is told if not."""
        return True

    def result(self, call: ToolCall, text: str) -> str:
        """A call was run: what the model is given of its result."""
        return bounded(text)


@dataclass(frozen=True, slots=True)
class ToolRun:
    """What `run_tools` did. `messages`: the whole chat, ready to go on with; `completions`: the answers; `stopped_by`: what
    ended it: "answer" (one without a call, see its finish reason), "max_rounds" (the last answer's calls were not run),
    or "no_function" (they are for the caller to run: their tool has no function)."""

    messages: tuple[ChatMessage, ...]
    completions: tuple[Completion, ...]
    stopped_by: StoppedBy

    @property
    def completion(self) -> Completion:
        """The last answer."""
        return self.completions[-1]

    def __str__(self) -> str:
        return self.completion.text


class ToolLoop:
    """The state of `run_tools`: answers come in with `take`, until `next_choice` is None."""

    def __init__(
        self,
        messages: Sequence[ChatMessage],
        tools: Iterable[Any],
        *,
        max_rounds: int,
        listener: ToolListener | None = None,
    ) -> None:
        """Raises UsageError."""
        if max_rounds < 1:
            raise UsageError(f"`max_rounds` must be at least 1, not {max_rounds}")
        self.messages = list(messages)
        self.tools = ToolRequest.of(tools).tools
        self._functions = {tool.name: tool for tool in self.tools if tool.function}
        self._max_rounds, self._listener = max_rounds, listener or ToolListener()
        self._completions: list[Completion] = []
        self._stopped_by: StoppedBy | None = None

    def next_choice(self, first: str | Mapping[str, Any]) -> str | Mapping[str, Any] | None:
        """The tool choice of the next answer; None when there is none. `first`: that of the first."""
        if self._stopped_by:
            return None
        return "auto" if self._completions and first != "none" else first

    def take(self, events: Iterator[GenerationEvent]) -> None:
        """One answer, and the results of its calls."""
        completion = complete(self._heard(events))
        self._completions.append(completion)
        self.messages.append(completion.message)
        if completion.finish_reason != "tool_calls":
            self._stopped_by = "answer"
        elif any(call.name not in self._functions for call in completion.tool_calls):
            self._stopped_by = "no_function"
        elif len(self._completions) >= self._max_rounds:
            self._stopped_by = "max_rounds"
        else:
            self.messages += [ChatMessage.tool(self._result(call), call.id) for call in completion.tool_calls]

    def run(self) -> ToolRun:
        """What happened."""
        assert self._stopped_by
        return ToolRun(tuple(self.messages), tuple(self._completions), self._stopped_by)

    def _heard(self, events: Iterator[GenerationEvent]) -> Iterator[GenerationEvent]:
        for event in events:
            self._listener.event(event)
            yield event

    def _result(self, call: ToolCall) -> str:
        if not self._listener.allow(call):
            return "error: this call was not allowed"
        return self._listener.result(call, run_tool(self._functions[call.name], call))


def run_tool(tool: ToolSpec, call: ToolCall) -> str:
    """The result of a call as text. What goes wrong is a result too: the model can react to it."""
    assert tool.function
    if not matches(arguments_guidance(tool), call.arguments):
        return f"error: the arguments do not match the schema of {tool.name}"
    try:
        value = call_function(tool.function, call.values)
        return _readable(as_result(_ended(value) if inspect.iscoroutine(value) else value))
    except Exception as error:
        return _readable(f"error: {type(error).__name__}: {error}")


def _readable(text: str) -> str:
    """Without NUL and half characters, which no tokenizer takes."""
    return re.sub("[\0\ud800-\udfff]", "\ufffd", text)


def _ended(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The value of a coroutine, from an event loop of its own; in another thread where this one runs a loop."""
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(coroutine)
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, coroutine).result()


def as_result(value: Any) -> str:
    """Text as it is, everything else as JSON; what JSON lacks as its `str()`."""
    if isinstance(value, str):
        return value
    if hasattr(value, "model_dump_json"):
        return str(value.model_dump_json())
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    return json.dumps(value, ensure_ascii=False, default=str)


def bounded(text: str, *, limit: int = RESULT_CHARACTERS) -> str:
    """At most `limit` characters of a result, and what was left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n[{len(text) - limit:,} of {len(text):,} characters left out]"

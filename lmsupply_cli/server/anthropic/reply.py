"""The answer of POST /v1/messages: content blocks, and the events that they arrive by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from secrets import token_hex
from typing import Any

from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from lmsupply_cli.generation.completion import Completion
from lmsupply_cli.server.anthropic.body import MessagesBody
from lmsupply_cli.server.errors import ApiError
from lmsupply_cli.server.openai.parts import finish_reason
from lmsupply_cli.server.sse import sse
from lmsupply_cli.serving.requests import Answer

PING = sse({"type": "ping"}, event="ping")
SIGNATURE = "lmsupply"  # of thoughts: clients send it back, and nothing here reads it
_STOP_REASONS = {"stop": "end_turn", "tool_calls": "tool_use", "length": "max_tokens"}


class Reply:
    """The message, and the events of its stream."""

    def __init__(self, body: MessagesBody) -> None:
        self._id, self._model, self._display = f"msg_{token_hex(12)}", body.model, body.display
        self._end: Finished | None = None

    def listen(self, event: GenerationEvent) -> None:
        """An event of an answer that is not streamed."""
        if isinstance(event, Finished):
            self._end = event

    def whole(self, done: Completion) -> dict[str, Any]:
        """The whole message, after its last event was heard."""
        assert self._end is not None
        content: list[dict[str, Any]] = []
        if done.reasoning and self._display != "none":
            thoughts = done.reasoning if self._display == "shown" else ""
            content.append({"type": "thinking", "thinking": thoughts, "signature": SIGNATURE})
        if done.text or not (content or done.tool_calls):
            content.append({"type": "text", "text": done.text})
        content += [
            {"type": "tool_use", "id": call.id, "name": call.name, "input": call.values} for call in done.tool_calls
        ]
        return self._message(content, _usage(done.usage), **_stop(self._end))

    async def frames(self, answer: Answer) -> AsyncIterator[bytes]:
        """The whole stream. Raises ApiError for an answer without an end."""
        started = _usage(Usage(answer.prompt_tokens))
        yield _frame("message_start", message=self._message([], started, stop_reason=None, stop_sequence=None))
        yield PING
        blocks = _Blocks(self._display)
        async for event in answer:
            for frame in blocks.add(event):
                yield frame
            if isinstance(event, Finished):
                for frame in blocks.finish():
                    yield frame
                yield _frame("message_delta", delta=_stop(event), usage=_usage(event.usage))
                yield _frame("message_stop")
                return
        raise ApiError(502, "the answer ended before it was complete", "worker_died")

    def _message(self, content: list[dict[str, Any]], usage: dict[str, Any], **stop: str | None) -> dict[str, Any]:
        message = {"id": self._id, "type": "message", "role": "assistant", "model": self._model, "content": content}
        return message | stop | {"usage": usage}


def failed(error: ApiError) -> bytes:
    """The last event of a stream that an error ended."""
    return sse(error.anthropic(), event="error")


class _Blocks:
    """The blocks of one stream: one is open at a time."""

    def __init__(self, display: str) -> None:
        self._display = display
        self._index, self._open = -1, ""  # the kind of the open block; of a call: its id
        self._sent = 0  # characters of the open call's arguments

    def add(self, event: GenerationEvent) -> Iterator[bytes]:
        """The next event of the answer."""
        if isinstance(event, TextDelta):
            yield from self._begin("text", {"type": "text", "text": ""})
            yield self._delta(type="text_delta", text=event.text)
        elif isinstance(event, ReasoningDelta):
            yield from self._thought(event.text)
        elif isinstance(event, ToolCallDelta):
            yield from self._call(event, event.arguments)
        elif isinstance(event, ToolCall):
            known = self._sent if self._open == event.id else 0
            yield from self._call(event, event.arguments[known:])
            yield from self._close()
        elif isinstance(event, TextWasReasoning):
            yield from self._close()

    def finish(self) -> Iterator[bytes]:
        """The answer has ended. There is always a block."""
        if self._index < 0:
            yield from self._begin("text", {"type": "text", "text": ""})
        yield from self._close()

    def _thought(self, text: str) -> Iterator[bytes]:
        if self._display == "none":
            return
        yield from self._begin("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        if self._display == "shown":
            yield self._delta(type="thinking_delta", thinking=text)

    def _call(self, call: ToolCallDelta | ToolCall, arguments: str) -> Iterator[bytes]:
        yield from self._begin(call.id, {"type": "tool_use", "id": call.id, "name": call.name, "input": {}})
        if arguments:
            self._sent += len(arguments)
            yield self._delta(type="input_json_delta", partial_json=arguments)

    def _begin(self, kind: str, block: dict[str, Any]) -> Iterator[bytes]:
        if self._open == kind:
            return
        yield from self._close()
        self._index, self._open, self._sent = self._index + 1, kind, 0
        yield _frame("content_block_start", index=self._index, content_block=block)

    def _delta(self, **delta: str) -> bytes:
        return _frame("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> Iterator[bytes]:
        if self._open == "thinking":
            yield self._delta(type="signature_delta", signature=SIGNATURE)
        if self._open:
            yield _frame("content_block_stop", index=self._index)
        self._open = ""


def _frame(name: str, **fields: Any) -> bytes:
    return sse({"type": name, **fields}, event=name)


def _stop(end: Finished) -> dict[str, str | None]:
    if end.stop_sequence is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": end.stop_sequence}
    if end.cut_by == "context":
        return {"stop_reason": "model_context_window_exceeded", "stop_sequence": None}
    return {"stop_reason": _STOP_REASONS[finish_reason(end.finish_reason)], "stop_sequence": None}


def _usage(usage: Usage) -> dict[str, Any]:
    """The input without what was cached, as Anthropic counts it."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"thinking_tokens": usage.reasoning_tokens},
    }

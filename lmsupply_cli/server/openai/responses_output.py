"""The output of a response: items, and the events that they arrive by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Literal

from lmsupply_cli.events import (
    GenerationEvent,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
)
from lmsupply_cli.server.openai.parts import logprobs_object
from lmsupply_cli.server.openai.responses_input import sealed
from lmsupply_cli.server.openai.responses_tools import Functions

Event = dict[str, Any]
Status = Literal["completed", "incomplete"]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What items hold. `summary`: thoughts are given as a summary, else as content; `encrypted`: also for the client to
    send back; `functions`: the names that the client knows; `streamed`: what was given cannot be taken back."""

    summary: bool = False
    encrypted: bool = False
    functions: Functions = field(default_factory=Functions)
    streamed: bool = False


class Output:
    """The items of one response, in order. The methods give the events of a stream, without their numbers."""

    def __init__(self, wishes: Wishes) -> None:
        self.items: list[dict[str, Any]] = []
        self._wishes = wishes
        self._open: _Message | _Reasoning | _Call | None = None
        self._logprobs: list[TokenLogprob] = []

    def add(self, event: GenerationEvent) -> Iterator[Event]:
        """The next event of the answer."""
        if isinstance(event, TextDelta):
            yield from self._text(event.text)
        elif isinstance(event, ReasoningDelta):
            yield from self._reasoning(event.text)
        elif isinstance(event, (ToolCallDelta, ToolCall)):
            yield from self._call(event)
        elif isinstance(event, TokenLogprob):
            self._logprobs.append(event)
        elif isinstance(event, TextWasReasoning):
            yield from self._retracted()

    def finish(self, status: Status) -> Iterator[Event]:
        """The answer has ended. There is always an item."""
        if self._open is None and not self.items:
            yield from self._text("")
        yield from self._close(status)

    def _text(self, text: str) -> Iterator[Event]:
        if not isinstance(self._open, _Message):
            yield from self._close()
            self._open = _Message(len(self.items))
            yield from self._open.begin()
        if text:
            yield self._open.push(text, logprobs_object(self._logprobs)["content"])
        self._logprobs.clear()

    def _reasoning(self, text: str) -> Iterator[Event]:
        self._logprobs.clear()
        if not isinstance(self._open, _Reasoning):
            yield from self._close()
            self._open = _Reasoning(len(self.items), self._wishes)
            yield from self._open.begin()
        yield self._open.push(text)

    def _call(self, event: ToolCallDelta | ToolCall) -> Iterator[Event]:
        self._logprobs.clear()
        if not isinstance(self._open, _Call) or self._open.row["call_id"] != event.id:
            yield from self._close()
            self._open = _Call(len(self.items), event, self._wishes.functions)
            yield from self._open.begin()
        if isinstance(event, ToolCallDelta):
            yield from self._open.push(event.arguments)
        else:
            yield from self._open.push(event.arguments[len(self._open.row["arguments"]) :])
            self._open.whole = True
            yield from self._close()

    def _retracted(self) -> Iterator[Event]:
        message = self._open
        if self._wishes.streamed or not isinstance(message, _Message):
            yield from self._close()
            return
        self._open = None
        if text := message.row["content"][0]["text"].strip():
            yield from self._reasoning(text)

    def _close(self, status: Status = "completed") -> Iterator[Event]:
        if self._open is not None:
            yield from self._open.end(status)
            self.items.append(self._open.row)
            self._open = None


class _Item:
    """An item that is not done. `row`: as it is so far."""

    def __init__(self, index: int, row: dict[str, Any]) -> None:
        self._index, self.row = index, row

    def _event(self, kind: str, **fields: Any) -> Event:
        return {"type": f"response.{kind}", "item_id": self.row["id"], "output_index": self._index, **fields}

    def begin(self) -> Iterator[Event]:
        """Before its first piece."""
        yield {"type": "response.output_item.added", "output_index": self._index, "item": self.row}

    def end(self, status: Status) -> Iterator[Event]:
        """After its last piece."""
        self.row["status"] = status
        yield {"type": "response.output_item.done", "output_index": self._index, "item": self.row}


class _Message(_Item):
    def __init__(self, index: int) -> None:
        row = {"id": _new_id("msg"), "type": "message", "status": "in_progress", "role": "assistant", "content": []}
        super().__init__(index, row)
        self._part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}

    def begin(self) -> Iterator[Event]:
        yield from super().begin()
        yield self._event("content_part.added", content_index=0, part=self._part)
        self.row["content"] = [self._part]

    def push(self, text: str, logprobs: list[dict[str, Any]]) -> Event:
        self._part["text"] += text
        self._part["logprobs"] += logprobs
        return self._event("output_text.delta", content_index=0, delta=text, logprobs=logprobs)

    def end(self, status: Status) -> Iterator[Event]:
        part = self._part
        yield self._event("output_text.done", content_index=0, text=part["text"], logprobs=part["logprobs"])
        yield self._event("content_part.done", content_index=0, part=part)
        yield from super().end(status)


class _Reasoning(_Item):
    """Its text is content, or a summary; both have a part, a delta and an index of their own."""

    def __init__(self, index: int, wishes: Wishes) -> None:
        row: dict[str, Any] = {"id": _new_id("rs"), "type": "reasoning", "status": "in_progress", "summary": []}
        if not wishes.summary:
            row["content"] = []
        if wishes.encrypted:
            row["encrypted_content"] = ""
        super().__init__(index, row)
        self._wishes = wishes
        self._key = "summary" if wishes.summary else "content"
        self._kind = "reasoning_summary" if wishes.summary else "reasoning"
        self._part = {"type": "summary_text" if wishes.summary else "reasoning_text", "text": ""}

    def _piece(self, name: str, **fields: Any) -> Event:
        return self._event(name, **{f"{self._key}_index": 0}, **fields)

    @property
    def _part_name(self) -> str:
        return "reasoning_summary_part" if self._wishes.summary else "content_part"

    def begin(self) -> Iterator[Event]:
        yield from super().begin()
        yield self._piece(f"{self._part_name}.added", part=self._part)
        self.row[self._key] = [self._part]

    def push(self, text: str) -> Event:
        self._part["text"] += text
        return self._piece(f"{self._kind}_text.delta", delta=text)

    def end(self, status: Status) -> Iterator[Event]:
        yield self._piece(f"{self._kind}_text.done", text=self._part["text"])
        yield self._piece(f"{self._part_name}.done", part=self._part)
        if self._wishes.encrypted:
            self.row["encrypted_content"] = sealed(self._part["text"])
        yield from super().end(status)


class _Call(_Item):
    """`whole`: all of its arguments have come."""

    def __init__(self, index: int, call: ToolCallDelta | ToolCall, functions: Functions) -> None:
        space, name = functions.known_as.get(call.name, ("", call.name))
        row = {"id": _new_id("fc"), "type": "function_call", "status": "in_progress", "call_id": call.id, "name": name}
        super().__init__(index, row | ({"namespace": space} if space else {}) | {"arguments": ""})
        self.whole = False

    def push(self, arguments: str) -> Iterator[Event]:
        if arguments:
            self.row["arguments"] += arguments
            yield self._event("function_call_arguments.delta", delta=arguments)

    def end(self, status: Status) -> Iterator[Event]:
        named, arguments = self.row["name"], self.row["arguments"]
        yield self._event("function_call_arguments.done", name=named, arguments=arguments)
        yield from super().end(status if self.whole else "incomplete")


def _new_id(kind: str) -> str:
    return f"{kind}_{token_hex(16)}"

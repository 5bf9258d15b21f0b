"""Whatever a model does, in whatever order: the streams keep to their form, and hold what the events held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from support.api import events_of
from support.fake_models import FakeAnswer

from lmsupply_cli.events import (
    Finished,
    FinishReason,
    GenerationEvent,
    Notice,
    PrefillProgress,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from lmsupply_cli.server.anthropic.body import MessagesBody
from lmsupply_cli.server.anthropic.reply import Reply as MessageReply
from lmsupply_cli.server.openai.responses import Reply as ResponseReply
from lmsupply_cli.server.openai.responses_body import ResponsesBody

TEXTS = st.sampled_from(["a", "b ", "\n", "ü", "\ufffd", '"}'])


def call(number: int, pieces: Sequence[str], *, whole: bool) -> list[GenerationEvent]:
    name, key = f"f{number}", f"call_{number}"
    events: list[GenerationEvent] = [ToolCallDelta(number, key, name, piece) for piece in pieces]
    return [*events, ToolCall(key, name, "".join(pieces) or "{}")] if whole else events


@st.composite
def answers(draw: st.DrawFn) -> list[GenerationEvent]:
    """Calls are whole, but for the last thing of an answer that was cut."""
    events: list[GenerationEvent] = []
    calls = 0
    for kind in draw(st.lists(st.sampled_from("trcxlnp"), max_size=12)):
        if kind == "c":
            events += call(calls, draw(st.lists(st.sampled_from(["", '{"a"', ": 1}"]), max_size=3)), whole=True)
            calls += 1
        else:
            text = draw(TEXTS)
            made: dict[str, GenerationEvent] = {
                "t": TextDelta(text),
                "r": ReasoningDelta(text),
                "x": TextWasReasoning(),
                "l": TokenLogprob(text, 1, -0.5),
                "n": Notice("x", "y"),
                "p": PrefillProgress(1, 2),
            }
            events.append(made[kind])
    reason: FinishReason = draw(st.sampled_from(["stop", "length", "tool_calls", "memory"]))
    if reason == "length" and draw(st.booleans()):
        events += call(calls, ["{"], whole=False)
    return [*events, Finished(reason, Usage(5, 2, 3))]


def text_of(events: Sequence[GenerationEvent], kind: type[TextDelta] | type[ReasoningDelta]) -> str:
    return "".join(event.text for event in events if isinstance(event, kind))


def streamed(frames: AsyncIterator[bytes]) -> list[dict[str, Any]]:
    async def run() -> bytes:
        return b"".join([frame async for frame in frames])

    return [data for _, data in events_of(asyncio.run(run()).decode())]


@given(answers(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=150)
def test_responses(events: list[GenerationEvent], summary: bool, encrypted: bool) -> None:
    asked = {
        "reasoning": {"summary": "auto"} if summary else {},
        "include": ["reasoning.encrypted_content"] if encrypted else [],
    }
    body = ResponsesBody.of({"model": "tiny", "input": "hi", "stream": True} | asked)
    found = streamed(ResponseReply(body, 0).frames(FakeAnswer(events)))
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    assert [event["type"] for event in found[:2]] == ["response.created", "response.in_progress"]
    done: list[dict[str, Any]] = []
    opened: dict[str, Any] | None = None
    deltas = {"text": "", "reasoning": "", "arguments": ""}
    for event in found[2:-1]:
        kind = event["type"].removeprefix("response.")
        if kind == "output_item.added":
            assert opened is None
            opened = event["item"]
        elif kind == "output_item.done":
            assert opened is not None
            assert opened["id"] == event["item"]["id"]
            assert event["output_index"] == len(done)
            opened = None
            done.append(event["item"])
        else:
            assert opened is not None
            assert (event["item_id"], event["output_index"]) == (opened["id"], len(done))
            if kind.endswith(".delta"):
                part = "arguments" if "arguments" in kind else "reasoning" if "reasoning" in kind else "text"
                deltas[part] += event["delta"]
    last = found[-1]["response"]
    cut = isinstance(events[-1], Finished) and events[-1].finish_reason in ("length", "memory")
    assert found[-1]["type"] == ("response.incomplete" if cut else "response.completed")
    assert opened is None
    assert last["output"] == done
    assert done
    assert deltas["text"] == text_of(events, TextDelta)
    assert deltas["reasoning"] == text_of(events, ReasoningDelta)
    assert deltas["arguments"] == "".join(item["arguments"] for item in done if item["type"] == "function_call")
    calls = [event for event in events if isinstance(event, ToolCall)]
    assert [item["arguments"] for item in done if item["type"] == "function_call"][: len(calls)] == [
        found.arguments for found in calls
    ]


@given(answers(), st.sampled_from([None, {"type": "adaptive"}, {"type": "adaptive", "display": "omitted"}]))
@settings(deadline=None, max_examples=150)
def test_messages(events: list[GenerationEvent], thinking: dict[str, str] | None) -> None:
    user = [{"role": "user", "content": "hi"}]
    body = MessagesBody.of({"model": "tiny", "max_tokens": 9, "messages": user, "thinking": thinking, "stream": True})
    found = streamed(MessageReply(body).frames(FakeAnswer(events)))
    assert [event["type"] for event in found[:2]] == ["message_start", "ping"]
    assert [event["type"] for event in found[-2:]] == ["message_delta", "message_stop"]
    blocks, opened = 0, ""
    deltas = {"text": "", "thinking": "", "partial_json": ""}
    for event in found[2:-2]:
        assert event["index"] == (blocks if event["type"] == "content_block_start" else blocks - 1)
        if event["type"] == "content_block_start":
            assert opened == ""
            opened, blocks = event["content_block"]["type"], blocks + 1
        elif event["type"] == "content_block_stop":
            assert opened
            opened = ""
        else:
            kind = event["delta"].pop("type")
            allowed = {"text": ["text_delta"], "tool_use": ["input_json_delta"]}
            assert kind in allowed.get(opened, ["thinking_delta", "signature_delta"])
            for key, text in event["delta"].items():
                deltas[key] = deltas.get(key, "") + text
    assert opened == ""
    assert blocks
    assert deltas["text"] == text_of(events, TextDelta)
    shown = thinking == {"type": "adaptive"}
    assert deltas["thinking"] == (text_of(events, ReasoningDelta) if shown else "")
    whole = "".join(event.arguments for event in events if isinstance(event, ToolCall))
    assert deltas["partial_json"].startswith(whole)

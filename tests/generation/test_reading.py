"""What a generator says of an answer beyond its text: tokens of reasoning, and the stop sequence that came."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lmsupply_cli import ChatMessage, TextGenerator, ToolSpec
from lmsupply_cli.catalogue.entry import UNKNOWN_LICENSE
from lmsupply_cli.chat.formats.families import ChatML
from lmsupply_cli.chat.formatter import PromptFormat
from lmsupply_cli.chat.reasoning import Markers
from lmsupply_cli.engine.fake import FakeModel, replies
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.events import Finished, GenerationEvent, ReasoningDelta, TextDelta, TextWasReasoning
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.reading import ReasoningCount

THINKS = PromptFormat(ChatML(), markers=Markers("think", frozenset()))


def scripted(answer: str) -> TextGenerator:
    info = ModelInfo("fake", None, UNKNOWN_LICENSE, "cpu", 1, 600)
    model = FakeModel(replies(answer), context_length=600)
    return TextGenerator(model, THINKS, info, options=GenerationOptions(temperature=0))


def end_of(events: list[GenerationEvent]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished)
    return last


@pytest.mark.parametrize(
    ("answer", "reasoning"),
    [
        ("just an answer", 0),
        ("<think>thought</think>answer", len("<think>thought</think>")),
        ("<think>it never ends", len("<think>it never ends")),
        ("thought</think>answer", len("thought</think>")),
    ],
)
def test_the_tokens_of_a_thought_are_counted(answer: str, reasoning: int) -> None:
    usage = end_of(list(scripted(answer).stream("x"))).usage
    assert usage.completion_tokens == len(answer)
    assert usage.reasoning_tokens == pytest.approx(reasoning, abs=1 + len("</think>"))
    assert (usage.reasoning_tokens > 0) == (reasoning > 0)


def test_several_tokens_at_once_are_shared_out_by_length() -> None:
    count = ReasoningCount()
    count.add([ReasoningDelta("x" * 30), TextDelta("y" * 10)], 8)
    assert count.tokens == 6
    count.add([TextWasReasoning()], 9)
    count.add([TextDelta("z")], 20)
    assert count.tokens == 9


def test_the_stop_sequence_is_named() -> None:
    model = scripted("one two three")
    assert end_of(list(model.stream("x", stop=("three", "two")))).stop_sequence == "two"
    assert end_of(list(model.stream("x", stop="four"))).stop_sequence is None
    assert end_of(list(model.stream("x", max_tokens=3, stop="two"))).stop_sequence is None


def test_a_stop_of_the_format_is_not_a_stop_sequence() -> None:
    model = scripted("one two three")
    prompt = model.prompter.chat([ChatMessage.user("x")])
    end = end_of(list(model.stream_prompt(replace(prompt, stop=("two",)))))
    assert (end.finish_reason, end.stop_sequence) == ("stop", None)


def test_an_answer_that_may_call_tools_names_it_too() -> None:
    model = scripted("one two three")
    tools = [ToolSpec("look")]
    end = end_of(list(model.stream_chat([ChatMessage.user("x")], tools=tools, stop="two")))
    assert (end.finish_reason, end.stop_sequence) == ("stop", "two")

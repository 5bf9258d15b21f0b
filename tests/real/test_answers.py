"""Facts, chats over several turns, stop sequences, streamed text, classification: as users see them."""

from __future__ import annotations

import ast
import re
import sys

import pytest
from support.real_model import Imports

from lmsupply_cli import ChatSession, Finished, TextDelta, TextGenerator, Usage

FACTS = {
    "The capital of France is": " Paris",
    "The capital of Germany is": " Berlin",
    "The chemical symbol for gold is": " Au",
    "The opposite of hot is": " cold",
    "William Shakespeare wrote the play Romeo and": " Juliet",
    "The Great Wall of": " China",
    "The largest ocean on Earth is the": " Pacific",
    "Barack Obama was the 44th president of the United": " States",
    "To be or not to": " be",
    "A triangle has three": " sides",
    "Water freezes at 0 degrees": " Celsius",
    "The Earth revolves around the": " Sun",
    "def add(a, b):\n    return": " a",
    "red, green, blue, red, green, blue, red, green,": " blue",
}
WORDS = "1. 日本 東京\n2. 中国 北京\n3. 日本 東京\n4. 中国 北京\n5. 日本"
SMILEYS = "😀 😃 😄 😁 😆 😀 😃 😄 😁 😆 😀 😃 😄"
ACCENTS = "Ligne 1 : été, forêt, garçon, Noël\nLigne 2 : été, forêt, garçon, Noël\nLigne 3 : été,"
FUNCTION = "Write a Python function that returns the square of a number."


def streamed(model: TextGenerator, prompt: str, **options: object) -> tuple[list[str], Finished]:
    events = list(model.stream(prompt, **options))  # type: ignore[arg-type]
    assert isinstance(events[-1], Finished)
    return [event.text for event in events if isinstance(event, TextDelta)], events[-1]


def say(chat: ChatSession[TextGenerator], text: str) -> tuple[str, Usage]:
    (end,) = (event for event in chat.send(text, stop=".") if isinstance(event, Finished))
    return chat.messages[-1].content, end.usage


def test_facts(model: TextGenerator) -> None:
    assert {fact: model.generate(fact, raw=True, max_tokens=1).text for fact in FACTS} == FACTS


def test_a_chat_over_several_turns(model: TextGenerator) -> None:
    chat = ChatSession(model, system="You are a helpful assistant.")
    first, usage = say(chat, "What is the opposite of hot?")
    assert first == "The opposite of hot is cold"
    assert usage.cached_tokens == 0
    before = usage.prompt_tokens + usage.completion_tokens
    second, usage = say(chat, "And of big?")
    assert second == "The opposite of big is small"
    assert before - 1 <= usage.cached_tokens < usage.prompt_tokens
    chat.undo()
    again, reread = say(chat, "And of big?")
    assert again == second
    assert usage.cached_tokens < reread.cached_tokens < usage.prompt_tokens


def test_what_was_said_before_is_known(model: TextGenerator) -> None:
    chat = ChatSession(model, system="You answer in one sentence.")
    say(chat, "My sister Maria is a doctor in Berlin.")
    answer, _ = say(chat, "Where does she live?")
    assert answer.startswith("Maria")
    assert "Berlin" in answer


def test_a_conversation_of_commands(imports: Imports) -> None:
    imports.folder("exact")
    ask = ("--temperature", "0", "-q")
    first = imports.lmsupply("run", "exact", *ask, "Name the capital of Italy.")
    assert (first.code, first.out) == (0, "The capital of Italy is Rome.\n")
    second = imports.lmsupply("run", *ask, "--continue", "Name the capital of Germany.")
    assert (second.code, second.out) == (0, "The capital of Germany is Berlin.\n")
    third = imports.lmsupply("run", *ask, "--continue", "--json", "Name the capital of France.").json
    assert third["text"] == "The capital of France is Paris."


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_a_chat_in_the_terminal(imports: Imports) -> None:
    from support.chat import Chat

    imports.folder("exact")
    chat = Chat("exact", "--temperature", "0", "--no-save", LMSUPPLY_HOME=str(imports.home))
    assert "The capital of Italy is Rome." in chat.ask("Name the capital of Italy.")
    assert "The capital of Germany is Berlin." in chat.ask("Name the capital of Germany.")
    shown = chat.ask("/regen")
    assert "The capital of Germany is Berlin." in shown
    chat.leave()


@pytest.mark.parametrize(
    ("stop", "answer"),
    [(" 8", " 5, 6, 7,"), ("7, 8, 9", " 5, 6, "), (",", " 5"), ("never", " 5, 6, 7, 8, 9, 10, 11, 12,")],
)
def test_a_stop_sequence_ends_the_answer_before_it(model: TextGenerator, stop: str, answer: str) -> None:
    """Of one token, of several, and one that never comes."""
    deltas, end = streamed(model, "1, 2, 3, 4,", raw=True, stop=stop, max_tokens=27)
    assert "".join(deltas) == answer
    assert end.finish_reason == ("length" if stop == "never" else "stop")


@pytest.mark.parametrize(
    ("prompt", "options", "expected"),
    [
        (WORDS, {"stop": "\n"}, r" 東京"),
        (SMILEYS, {"max_tokens": 12}, r"( (\U0001f601|\U0001f60a))+"),
        (ACCENTS, {"stop": "Noël"}, r" forêt, garçon, "),
    ],
)
def test_characters_of_several_tokens_are_streamed_whole(
    model: TextGenerator, prompt: str, options: dict[str, object], expected: str
) -> None:
    deltas, end = streamed(model, prompt, raw=True, **options)
    text = "".join(deltas)
    assert re.fullmatch(expected, text)
    assert not any("\ufffd" in delta for delta in deltas)
    assert end.usage.completion_tokens > len(text.split())
    assert model.generate(prompt, raw=True, **options).text == text  # type: ignore[arg-type]


def test_code_is_streamed_as_it_is(model: TextGenerator, imports: Imports) -> None:
    """In the library, through a pipe, and as JSON events."""
    deltas, end = streamed(model, FUNCTION)
    text = "".join(deltas)
    assert len(deltas) > 20
    assert end.usage.completion_tokens >= len(deltas)
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (function,) = (part for part in ast.parse(code).body if isinstance(part, ast.FunctionDef))
    assert isinstance(function.body[-1], ast.Return)
    asked = ("run", "exact", "--temperature", "0", "--max-tokens", "64", "-q", "--no-save", FUNCTION)
    assert imports.lmsupply(*asked).out == text + "\n"
    events = imports.lmsupply(*asked, "--stream-json").json_lines
    assert "".join(event["text"] for event in events if event["type"] == "delta") == text


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_code_is_shown_as_it_is(model: TextGenerator, imports: Imports) -> None:
    from support.terminal import Terminal

    (code,) = re.findall(r"```python\n(.*?)```", model.generate(FUNCTION).text, re.DOTALL)
    asked = ("run", "exact", "--temperature", "0", "--max-tokens", "64", "--no-save", FUNCTION)
    terminal = Terminal(*asked, LMSUPPLY_HOME=str(imports.home))
    assert terminal.end() == 0
    shown = [line.strip() for line in terminal.text.splitlines()]
    wanted = [line.strip() for line in code.splitlines()]
    assert [line for line in shown if line in wanted] == wanted
    assert "```" not in terminal.text


def test_a_list_has_an_item_a_line(model: TextGenerator) -> None:
    deltas, _ = streamed(model, "List three fruits.")
    items = re.findall(r"^(\d)\. \w+", "".join(deltas), re.MULTILINE)
    assert items[:2] == ["1", "2"]


def test_classification(model: TextGenerator) -> None:
    found = model.classify("The capital of France is", [" Rome", " Paris", " Berlin"], raw=True)
    assert found.best == " Paris"
    assert found.choices[1].share > 0.9
    likely = model.generate("The capital of France is", raw=True, max_tokens=1, logprobs=True).logprobs[0]
    assert found.choices[1].logprob == pytest.approx(likely.logprob, abs=0.1)
    prompt = (
        "Review: I loved this film, it was wonderful.\nSentiment: positive\n"
        "Review: What a waste of time, terrible acting.\nSentiment: negative\nReview: {}\nSentiment:"
    )

    def positive(review: str) -> float:
        return model.classify(prompt.format(review), [" positive", " negative"], raw=True).choices[0].share

    bad = positive("The room was dirty and the staff was rude.")
    good = positive("A great and beautiful song, I love it.")
    assert good > 2.5 * bad
    assert bad < 0.3

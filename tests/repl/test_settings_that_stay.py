"""What was set in a chat holds until it is changed: over another model, a failed one, a resumed chat."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.scripted import Scripted, fake, say_once

from lmsupply_cli.chats.session import ChatSession
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import EngineError, UsageError
from lmsupply_cli.generation.generator import TextGenerator


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


def refuse(*_: object) -> None:
    raise UsageError("these options exclude each other")


def fails() -> TextGenerator:
    raise EngineError("the weights are broken")


def test_settings_survive_a_model_that_cannot_be_loaded(folder: Path) -> None:
    chat = Scripted(folder, models={"broken": fails})
    said = chat.talk("/set temperature 0.3", "/model broken", "/set temperature")
    assert "Reloading the previous model" in said[1]
    assert said[2].startswith("temperature 0.3")


def test_thinking_stays_off_with_another_model(folder: Path) -> None:
    chat = Scripted(folder, models={"other": lambda: fake(ref="other")})
    chat.chat.set_think("off")
    chat.talk("/model other")
    assert chat.chat.think == "off"
    assert chat.chat.session.prompter is not chat.chat.session.generator.prompter


def test_thoughts_of_a_model_that_cannot_stop_thinking_are_hidden(folder: Path) -> None:
    chat = Scripted(folder, fake("<think>secret</think>Hi.", thinks=True))
    said = chat.talk("/think off", "hello")
    assert "it thinks, and that is not shown" in said[0]
    assert said[1] == "Hi."


def test_a_setting_that_was_reset_is_not_announced(folder: Path) -> None:
    Scripted(folder).talk("/set temperature 1", "/set temperature default", "hello", "/save reset")
    assert "Settings" not in say_once(Scripted(folder), "/load reset")


def test_settings_of_another_chat_do_not_leak_into_a_resumed_one(folder: Path) -> None:
    first = Scripted(folder)
    first.talk("hello", "/save plain")
    chat = Scripted(folder)
    said = chat.talk("/set temperature 2", "/set context 500", "/load plain", "/set temperature", "/set context")
    assert said[3].startswith("temperature 0.0")
    assert said[4].startswith("context 4000")


def test_a_flag_outranks_what_was_saved(folder: Path) -> None:
    first = Scripted(folder)
    first.talk("/set temperature 2", "/set top_k 3", "hello", "/save hot")
    chat = Scripted(folder)
    chat.chat.resume(chat.archive.load("hot"), keeping=["temperature"])
    said = chat.talk("/set temperature", "/set top_k")
    assert said[0].startswith("temperature 0.0")
    assert said[1].startswith("top_k 3")


def test_the_default_context_is_the_one_that_the_chat_started_with(folder: Path) -> None:
    generator = fake()
    generator.resize_context(600)
    assert say_once(Scripted(folder, generator), "/set context 300", "/set context default").startswith(
        "context set to 600"
    )


def test_the_same_answer_again_is_no_empty_one(folder: Path) -> None:
    assert say_once(Scripted(folder, fake("Same.", "Same.")), "hello", "/regen") == "Same."


def test_a_message_that_could_not_be_asked_is_taken_back() -> None:
    session = ChatSession(fake(), options=GenerationOptions(min_length=30, max_tokens=20_000))
    session.generator.check_options = refuse  # type: ignore[method-assign]
    with pytest.raises(UsageError):
        list(session.send("hello"))
    assert session.messages == []
    assert session.dropped == 0


def test_parameters_in_a_prompt_are_shown_as_they_are(folder: Path) -> None:
    assert "what `seed` and `debug` do" in say_once(Scripted(folder), "what `seed` and `debug` do", "/show prompt")


def test_a_listed_chat_keeps_its_number_when_it_is_renamed(folder: Path) -> None:
    Scripted(folder).talk("hello", "/save one")
    chat = Scripted(folder)
    assert "Resumed two" in say_once(chat, "/sessions", "/sessions rename 1 two", "/load 1")


def test_export_takes_a_quoted_name(folder: Path, tmp_path: Path) -> None:
    say_once(Scripted(folder), "hello", f'/export "{tmp_path / "a b.md"}"')
    assert (tmp_path / "a b.md").exists()


def test_an_editor_that_fails_changes_nothing(folder: Path) -> None:
    said = say_once(Scripted(folder, environ={"EDITOR": "false"}), "hello", "/edit")
    assert "failed with code 1" in said
    assert "nothing was changed or sent" in said

"""Every command of the chat, without a terminal: a scripted reader, and a model that says what it is told to."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from support.scripted import Scripted, fake, say_once

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.engine.fake import EOS
from lmsupply_cli.errors import EngineError
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.render.markdown_parser import code_blocks
from lmsupply_cli.repl.clipboard import copy_text
from lmsupply_cli.repl.commands import COMMANDS, NAMES

LONG = "All work and no play makes Jack a dull boy. " * 20


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "sessions"


def prompt_of(chat: Scripted) -> str:
    return chat.chat.session.prompt_text()


def fails() -> TextGenerator:
    raise EngineError("the weights are broken")


# turns


def test_a_message_is_answered_and_saved(folder: Path) -> None:
    chat = Scripted(folder, fake("Hi **there**."))
    assert chat.talk("hello") == ["Hi **there**."]
    assert [m.content for m in chat.saved().messages] == ["hello", "Hi **there**."]
    assert chat.saved().model == "fake"


def test_undo_removes_the_last_exchange(folder: Path) -> None:
    chat = Scripted(folder)
    said = chat.talk("hello", "/undo", "/undo", "/show prompt")
    assert said[1:] == ["Removed: hello", "Nothing to undo.", "There is no message yet."]
    assert chat.messages == []


@pytest.mark.parametrize("word", ["/regen", "/retry", "/redo", "/REGEN"])
def test_regen_answers_again_from_the_cache(folder: Path, word: str) -> None:
    chat = Scripted(folder, show_stats=True)
    first, again = chat.talk(LONG, word)
    assert first.startswith("Hi there. ")
    assert again.startswith("Hi there. ")
    cached = int(re.search(r"\((\d+) cached\)", again)[1])  # type: ignore[index]
    assert cached > 800
    assert len(chat.messages) == 2


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/undo", "Nothing to undo."),
        ("/regen", "Nothing to regenerate."),
        ("/edit", "Nothing to edit."),
        ("/continue", "Nothing to continue."),
        ("/copy", "Nothing to copy."),
        ("/export x.md", "Nothing to export."),
    ],
)
def test_what_cannot_be_done_yet(folder: Path, line: str, said: str) -> None:
    assert say_once(Scripted(folder), line) == said


def editor(tmp_path: Path, script: str) -> dict[str, str]:
    path = tmp_path / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"EDITOR": str(path)}


def test_edit_asks_the_changed_message(folder: Path, tmp_path: Path) -> None:
    environ = editor(tmp_path, 'sed -i.bak s/download/list/ "$1"')
    chat = Scripted(folder, environ=environ)
    said = chat.talk("How do I download my models?", "/edit", "/edit")
    assert said[1:] == ["Hi there.", "Nothing changed, so nothing was sent."]
    emptied = Scripted(folder, environ=editor(tmp_path, ': > "$1"'))
    assert say_once(emptied, "hello", "/edit") == "The message is empty, so nothing was sent."
    assert chat.messages == [("user", "How do I list my models?"), ("assistant", "Hi there.")]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-editor-anywhere", "error: cannot run the editor 'no-such-editor-anywhere'"),
        ('"', "error: cannot run the editor"),
        ("false", "error: the editor 'false' failed with code 1"),
    ],
)
def test_edit_with_a_broken_editor_loses_nothing(folder: Path, command: str, said: str) -> None:
    chat = Scripted(folder, environ={"EDITOR": command})
    assert say_once(chat, "hello", "/edit").startswith(said)
    assert chat.messages == [("user", "hello"), ("assistant", "Hi there.")]


def test_an_edited_message_has_no_control_characters(folder: Path, tmp_path: Path) -> None:
    chat = Scripted(folder, environ=editor(tmp_path, "printf 'a\\033[31mb\\r\\n' > \"$1\""))
    chat.talk("hello", "/edit")
    assert chat.messages[0] == ("user", "a[31mb")


def test_an_edited_message_without_an_answer_brings_the_old_one_back(folder: Path, tmp_path: Path) -> None:
    environ = editor(tmp_path, "head -c 500 /dev/zero | tr '\\0' x > \"$1\"")
    chat = Scripted(folder, fake(context=200), environ=environ)
    assert "error: the prompt has" in say_once(chat, "hello", "/edit")
    assert chat.messages == [("user", "hello"), ("assistant", "Hi there.")]


def test_continue_resumes_a_cut_answer(folder: Path) -> None:
    chat = Scripted(folder, fake("0123456789"))
    said = chat.talk("/set max_tokens 4", "count", "/set max_tokens 200", "/continue", "/continue")
    assert (
        said[1] == "0123 (cut off after 4 tokens by max_tokens; /continue resumes, /set max_tokens N changes the limit)"
    )
    assert said[3:] == ["456789", "(the model added nothing)"]
    assert chat.messages[-1] == ("assistant", "0123456789")


def test_clear_forgets_and_keeps_the_system_prompt(folder: Path) -> None:
    chat = Scripted(folder, system="Be brief.")
    assert chat.talk("hello", "/clear")[1] == "New chat. The system prompt stays."
    assert chat.messages == [("system", "Be brief.")]
    assert Scripted(folder).talk("hello", "/new")[1] == "New chat."


@pytest.mark.parametrize("word", ["/read", "/file"])
def test_read_sends_a_file(folder: Path, tmp_path: Path, word: str) -> None:
    (tmp_path / "q.txt").write_text("a question\n")
    (tmp_path / "b.bin").write_bytes(b"a\0b")
    (tmp_path / "empty").write_text("\n")
    chat = Scripted(folder)
    said = chat.talk(
        f"{word} {tmp_path}/q.txt",
        word,
        f"{word} /no/such/file",
        f"{word} {tmp_path}/b.bin",
        f"{word} {tmp_path}/empty",
    )
    assert said[0] == "Hi there."
    assert "/read needs the name of a file" in said[1]
    assert "cannot read" in said[2]
    assert "is binary" in said[3]
    assert "is empty" in said[4]
    assert chat.messages[0] == ("user", "a question")


# messages


def test_at_includes_a_file(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("the secret word is plum")
    chat = Scripted(folder)
    chat.talk(f"look at @{tmp_path}/notes.txt, please")
    assert "the secret word is plum" in prompt_of(chat)
    assert f"@{tmp_path}/notes.txt, please" in prompt_of(chat)


def test_at_that_is_no_file_is_said(folder: Path) -> None:
    said = Scripted(folder).talk("look at @gone.txt now", "mail me@example.org or ask @someone")
    assert said[0].startswith("note: @gone.txt not found; sent as plain text")
    assert "note:" not in said[1]


def test_control_characters_are_no_part_of_a_message(folder: Path) -> None:
    chat = Scripted(folder)
    chat.talk("a\x1ab\x00c\x9bd\x7f\n\te", "\x1a", "/und\x1ao")
    assert chat.messages == []
    chat.talk("a\x1ab\x00c\x9bd\x7f\n\te")
    assert chat.messages[0] == ("user", "abcd\n\te")


def test_an_empty_line_says_nothing(folder: Path) -> None:
    assert Scripted(folder).talk("", "  \n ") == ["", ""]


def test_a_path_is_a_message(folder: Path) -> None:
    assert Scripted(folder).talk("/usr/bin is a folder?") == ["Hi there."]


# settings


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/set parameter temperature 0.5", "temperature set to 0.5."),
        ("/set parameter num_predict 20", "max_tokens set to 20."),
        ("/set parameter repeat_penalty 1.2", "repetition_penalty set to 1.2."),
        ("/set parameter num_ctx 512", "context set to 512."),
        ("/set parameter num_ctx 99999", "error: a context of 99,999 is not between 1 and the model's 4,000"),
        ("/set parameter stop END,STOP", "stop set to 'END', 'STOP'."),
        ('/set stop "a,b"', "stop set to 'a,b'."),
        ("/set stop none", "stop set to none, the default."),
        ("/set temperature 0", "temperature set to 0.0."),
        ("/set temperature default", "temperature set to 0.0, the default."),
        ("/set do_sample off", "do_sample set to off."),
        ("/set logit_bias off", "not 'off' hint: /set logit_bias default resets it"),
        ("/set logit_bias 99999=1", "error: logit_bias names token 99999"),
        ("/set max_tokens default", "max_tokens set to "),
        ("/set parameter temperatur 1", "error: no such parameter: temperatur hint: did you mean temperature?"),
        ("/set parameter zzz 1", "hint: /set shows the parameters"),
        ("/set parameter top_p 7", "top_p must be a number from 0 to 1"),
        ("/set parameter num_beams 4", "a chat cannot use num_beams"),
        ("/set parameter seed", "seed none random seed, for reproducible output"),
        ("/set temperature", "temperature 0.0 randomness; 0 is greedy"),
        ("/set nonsense", "error: no such parameter: nonsense"),
        ("/set noformat", "Format off."),
        ("/set verbose", "Stats on."),
        ("/set quiet", "Stats off."),
        ("/set system Be brief.", "System prompt set."),
        ('/set system ""', "System prompt cleared."),
        ("/set format json", "Answers are JSON. /format off to stop."),
        ("/set", "max_tokens"),
        ("/params", "max_tokens"),
        ("/stats", "Stats on."),
        ("/stats maybe", "/stats takes on or off, not 'maybe'"),
        ("/think", "This model has no thinking mode."),
        ("/think off", "This model has no thinking mode."),
        ("/think maybe", "/think takes on, hide or off"),
        ("/set nothink", "This model has no thinking mode."),
        ("/format", "Format off."),
        ("/format off", "Format off."),
        ("/format yaml", "unknown format 'yaml'"),
        ('/format {"type": "object"}', "Answers follow a JSON schema. /format off to stop."),
        ("/format regex [0-9]+", "Answers follow a regular expression. /format off to stop."),
        ("/format regex", "unknown format 'regex'"),
        ("/format regex (", "error:"),
        ("/format schema /no/such", "error:"),
        ("/format grammar /no/such", "error:"),
        ("/system", "There is no system prompt; /system TEXT sets one."),
        ("/show", "model fake"),
        ("/info", "chat not saved"),
        ("/show nonsense", "error: /show: unknown option 'nonsense'"),
        ("/show license", "the license of fake"),
        ("/show licence", "the license of fake"),
        ("/show template", "The built-in format chatml."),
        ("/show parameters", "max_tokens"),
        ("/show system", "There is no system prompt."),
        ("/model", "fake on cpu. /models lists the others, /model REF switches."),
        ("/model no-such-model", "error: model 'no-such-model' not found"),
        ("/models", "fake 0 B · unknown · in use"),
        ("/list", "/model REF switches."),
        ("/ls nothing", "No installed model matches 'nothing'."),
        ("/load", "/load needs the name or the number of a chat"),
        ("/load nothing", "there is no chat named 'nothing'"),
        ("/load 7", "there is no chat number 7"),
        ("/sessions", "There are no saved chats."),
        ("/sessions rename one", "/sessions rename needs an old and a new name"),
        ("/sessions delete", "/sessions delete needs the name or the number"),
        ("/save x", "This chat is not saved (--no-save, or the setting save_sessions)."),
        ("/nonsense", "error: no such command: /nonsense"),
        ("/temperature 0.5", "hint: /set temperature VALUE changes it"),
        ("/regne", "hint: did you mean /regen?"),
        ("/help", "/regen /retry regenerate the last answer"),
        ("/help nonsense", "error: no such command: /nonsense"),
    ],
)
def test_what_a_line_says(folder: Path, line: str, said: str) -> None:
    shown = say_once(Scripted(folder, keep=False), line)
    assert said in shown
    assert "bug" not in shown


def test_system_is_shown_set_and_cleared(folder: Path) -> None:
    chat = Scripted(folder)
    said = chat.talk("/system Be brief.", "/show system", "/system", "/system ''", "/system")
    assert said[:4] == ["System prompt set.", "Be brief.", "Be brief.", "System prompt cleared."]
    assert chat.messages == []


def test_a_parameter_holds_from_the_next_answer_on(folder: Path) -> None:
    said = Scripted(folder).talk("/set parameter max_tokens 3", "hello", "/set max_tokens default", "/regen")
    assert said[1].startswith("Hi (cut off after 3 tokens by max_tokens;")
    assert said[3] == "Hi there."


def test_a_change_of_sampling_keeps_the_cache(folder: Path) -> None:
    chat = Scripted(folder, show_stats=True)
    said = say_once(chat, LONG, "/set parameter top_p 0.3", "/set parameter seed 5", "thanks")
    assert int(re.search(r"\((\d+) cached\)", said)[1]) >= 800  # type: ignore[index]


def test_stats_say_what_was_cached_and_how_fast_it_was(folder: Path) -> None:
    said = Scripted(folder).talk("/stats on", LONG, "thanks", "/stats", "bye")
    line = r"[\d,]+ prompt tokens \(0 cached\) · \d+ ms to first token · 9 tokens at [\d.]+/s$"
    assert re.search(line, said[1])
    assert "(0 cached)" not in said[2]
    assert said[3] == "Stats off."
    assert "cached" not in said[4]


def test_answers_follow_a_format(folder: Path) -> None:
    chat = Scripted(folder, fake("that"))
    said = chat.talk('/format {"enum": ["this", "that"]}', "which?", "/format", "/format off", "and now?")
    assert said[1] in ('"this"', '"that"')
    assert said[2] == "Answers follow a JSON schema. /format off to stop."
    assert said[4] == "that"


THOUGHT = "<think>\nhm\n</think>\n\nHi"


def test_thoughts_are_shown_hidden_or_left_out(folder: Path) -> None:
    chat = Scripted(folder, fake(THOUGHT, THOUGHT, thinks=True), environ={"NO_COLOR": "1"})
    said = chat.talk("hello", "/think hide", "hello", "/think", "/think on")
    assert said == ["hm Hi", "Thinking on, not shown.", "Hi", "Thinking is hide.", "Thinking on."]
    assert chat.chat.session.messages[1].reasoning == "hm"


# the model


def test_another_model_continues_the_chat(folder: Path) -> None:
    chat = Scripted(folder, models={"other": lambda: fake("first", "Other.", ref="other")})
    said = chat.talk("hello", "/set temperature 0.3", "/model other", "hello again")
    assert said[2].startswith("other on cpu, context 4,000 tokens. About ")
    assert said[2].endswith(" tokens will be reprocessed.")
    assert said[3] == "Other."
    assert chat.chat.session.options.temperature == 0.3
    assert chat.saved().model == "other"


def test_a_model_that_cannot_be_loaded_leaves_the_one_before(folder: Path) -> None:
    chat = Scripted(folder, models={"broken": fails})
    said = chat.talk("/model broken", "hello")
    assert said == ["Reloading the previous model … error: the weights are broken", "Hi there."]


def test_an_option_that_the_other_model_cannot_have_is_left_out(folder: Path) -> None:
    chat = Scripted(folder, models={"small": lambda: fake(ref="small", context=300)})
    assert "note: context 2000 was not restored" in say_once(chat, "/set num_ctx 2000", "/model small")


# the clipboard


def test_copy_gives_the_answer_or_a_code_block_to_the_terminal(folder: Path) -> None:
    answer = "Try this:\n\n```python\nprint('é')\n```\n\nor\n\n~~~\na\n\nb\n~~~\n"
    chat = Scripted(folder, fake(answer), terminal=True)
    said = chat.talk("how?", "/copy", "/copy 1", "/copy 2", "/copy 3", "/copy x")
    raw = chat.output.getvalue()
    copied = [base64.b64decode(code).decode() for code in re.findall("\x1b]52;c;([^\x07]*)\x07", raw)]
    assert copied == [answer, "print('é')", "a\n\nb"]
    assert said[2].endswith("Copied 10 characters. (Through the terminal; not every terminal allows this.)")
    assert "no code block 3: the last answer has 2 code blocks" in said[4]
    assert "no code block x" in said[5]


def test_copy_uses_a_program_of_the_system(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "bin" / "wl-copy"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ncat > {tmp_path}/copied\n")
    program.chmod(0o755)
    environ = {"PATH": f"{program.parent}:/usr/bin:/bin", "WAYLAND_DISPLAY": "wayland-0"}
    assert say_once(Scripted(folder, environ=environ), "hello", "/copy") == "Copied 9 characters."
    assert (tmp_path / "copied").read_text() == "Hi there."
    remote = Scripted(folder, environ=environ | {"SSH_CONNECTION": "x"})
    assert "error: no clipboard found" in say_once(remote, "hello", "/copy")
    program.write_text("#!/bin/sh\nexit 1\n")
    assert "error: no clipboard found" in say_once(Scripted(folder, environ=environ), "hello", "/copy")


def test_copy_without_any_clipboard_says_so(folder: Path) -> None:
    said = Scripted(folder, environ={"PATH": "/nowhere"}).talk("hello", "/copy", "/copy 1")
    assert said[1].startswith("error: no clipboard found hint: install wl-copy, xclip or xsel, or use /export FILE")
    assert said[2].startswith("error: no code block 1: the last answer has no code")


def test_code_blocks() -> None:
    assert code_blocks("a ```b``` c") == []
    assert code_blocks("````\n```\nx\n```\n````") == ["```\nx\n```"]
    assert code_blocks("- item\n  ```sh\n  ls\n  ```") == ["ls"]
    assert code_blocks("```\nopen") == ["open"]
    assert code_blocks("```\n```\n~~~\n\na\n~~~") == ["", "\na"]


def test_a_text_too_long_for_the_terminal_is_not_sent_to_it(folder: Path) -> None:
    chat = Scripted(folder, terminal=True, environ={"PATH": ""})
    assert "Through the terminal" in copy_text("x" * 100, chat.chat.terminal)
    with pytest.raises(Exception, match="no clipboard found"):
        copy_text("x" * 100_000, chat.chat.terminal)


# what is shown around answers


def test_notes_on_an_answer_are_dim_where_there_is_color(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("/set max_tokens 2", "hello")
    for environ, dim in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.delenv("NO_COLOR", raising=False)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        chat = Scripted(folder, terminal=True, environ=environ, show_stats=True)
        chat.talk(*lines)
        raw = chat.output.getvalue()
        assert ("\x1b[2m(cut off after 2 tokens" in raw) == dim
        assert ("\x1b[" in raw) == dim


def test_the_bar_follows_the_chat(folder: Path) -> None:
    chat = Scripted(folder, fake("Hi there.", context=1000))
    bars: list[str] = []
    read = chat.read

    def reading(chat_: object) -> str:
        bars.append(chat.chat.bar())
        return read(chat.chat)

    chat.read = reading  # type: ignore[method-assign]
    chat.talk("hello", "/undo", "/continue", "hello", "/clear", "/system Be brief.")
    used = [int(re.search(r"(\d+)/1,000 tokens", bar)[1]) for bar in bars]  # type: ignore[index]
    assert bars[0] == "fake · cpu · 0/1,000 tokens"
    assert used[0] == 0
    assert used[1] > 20
    assert used[2:4] == [0, 0]
    assert used[4] == used[1]
    assert used[5:] == [0, 0]
    assert "tokens/s" in bars[1]
    assert "tokens/s" not in bars[5]


def test_a_full_context_is_named_as_what_cut_the_answer(folder: Path) -> None:
    chat = Scripted(folder, fake(LONG, context=150))
    said = say_once(chat, "hello")
    assert re.search(r"\(cut off after \d+ tokens by the context of 150 tokens; ask for a shorter answer\)", said)
    small = Scripted(folder, fake(LONG, context=1000))
    small.talk("/set context 150")
    assert "by the context of 150 tokens; /set context N enlarges it)" in say_once(small, "hello")


def test_the_oldest_turns_are_dropped_so_that_an_answer_has_room(folder: Path) -> None:
    chat = Scripted(folder, fake(*[f"answer {n} " + "x" * 40 for n in range(9)], context=400))
    said = chat.talk(*(f"question {n}" for n in range(8)))
    assert all(f"x{'x' * 38}" in shown and "cut off after" not in shown for shown in said)
    assert "note: the context is full: the oldest turn was dropped, from “question 0” on" in " ".join(said)
    assert "no longer sent to the model" in say_once(chat, "/show info")
    assert len(chat.messages) == 16


def test_an_error_of_a_turn_is_shown_and_the_chat_lives_on(folder: Path) -> None:
    said = Scripted(folder, fake(context=200), policy="error").talk("x" * 400, "hello")
    assert said[0].startswith("error: the prompt has")
    assert said[1] == "Hi there."


def test_a_bug_is_one_line_unless_it_is_wanted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("oops")

    monkeypatch.setattr("lmsupply_cli.repl.chat.show_answer", broken)
    said = Scripted(folder).talk("hello", "/bye")
    assert said[0] == "error: RuntimeError: oops hint: this is a bug; --debug shows where"
    with pytest.raises(RuntimeError):
        Scripted(folder, debug=True).talk("hello")


# keys


def interrupting(at: int) -> TextGenerator:
    """A model at whose `at`-th token the user presses Ctrl-C."""
    seen = 0

    def script(tokens: object) -> int:
        nonlocal seen
        seen += 1
        if seen == at:
            raise KeyboardInterrupt
        return b"abcdefgh"[seen - 1] if seen < 8 else EOS

    return fake(script=script)


def test_ctrl_c_stops_an_answer_and_keeps_what_there_is(folder: Path) -> None:
    chat = Scripted(folder, interrupting(4))
    assert chat.talk("hello")[0] == "abc (stopped; partial answer kept)"
    answer = chat.chat.session.messages[-1]
    assert answer == ChatMessage.assistant("abc", partial=True)
    assert chat.saved().messages[-1] == answer
    assert chat.talk("/continue")[0].startswith("efg")


def test_ctrl_c_before_an_answer_discards_the_message(folder: Path) -> None:
    chat = Scripted(folder, interrupting(1))
    assert chat.talk("hello")[0] == "(stopped; message discarded)"
    assert chat.messages == []


def test_ctrl_c_at_the_prompt_and_ctrl_d(folder: Path) -> None:
    chat = Scripted(folder)
    assert chat.talk(KeyboardInterrupt, "hello", "/bye") == ["Ctrl-D or /bye quits.", "Hi there.", "Bye."]


@pytest.mark.parametrize("word", ["/bye", "/exit", "/quit", "/q"])
def test_words_that_quit(folder: Path, word: str) -> None:
    assert Scripted(folder).talk(word) == ["Bye."]


# the table


def test_help_names_every_command(folder: Path) -> None:
    shown = say_once(Scripted(folder), "/help")
    for command in COMMANDS:
        assert all(name in shown for name in command.names)
        assert command.help in shown


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.names[0][1:])
def test_help_of_a_command_gives_usage_text_and_an_example(folder: Path, command: object) -> None:
    from lmsupply_cli.repl.command import Command

    assert isinstance(command, Command)
    shown = say_once(Scripted(folder), f"/help {command.names[0][1:]}")
    assert shown.startswith(" ".join([*command.names, command.usage]).strip())
    assert command.help[1:] in shown
    assert " ".join(command.details.split()) in shown
    assert f"Example: {command.names[0]}" in shown
    first = command.synonyms[:1]
    assert all(say_once(Scripted(folder), f"/help {word}") == shown for word in first)


def test_no_word_means_two_commands() -> None:
    words = [word for command in COMMANDS for word in (*command.names, *command.synonyms)]
    assert len(words) == len(set(words)) == len(NAMES)

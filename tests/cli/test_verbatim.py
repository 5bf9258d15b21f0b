"""What belongs to the user is printed as it is; only our own messages name parameters as flags. And what ends a run."""

from __future__ import annotations

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from support.cli import lmsupply

from lmsupply_cli.cli.app import main
from lmsupply_cli.cli.batch_files import state_of
from lmsupply_cli.cli.complete import candidates
from lmsupply_cli.events import Finished


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LMSUPPLY_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_choices_and_settings_in_backquotes_stay() -> None:
    result = lmsupply("classify", "guide", "--choices", "`raw`,b", "--all", "hello")
    assert "`raw`" in result.out
    assert "`seed`" in lmsupply("config", "set", "stop", "`seed`").output
    assert "`seed`" in lmsupply("config", "get", "stop").out


def test_an_answer_without_text_is_not_the_last_run(home: Path) -> None:
    assert lmsupply("run", "guide", "How do I download a model?").code == 0
    saved = home / "state" / "runs" / "last.json"
    before = saved.read_text()
    result = lmsupply("run", "guide", "--stop", "R", "How do I download a model?")
    assert result.out == ""
    assert saved.read_text() == before


@pytest.mark.parametrize("reason", ["memory", "cancelled"])
@pytest.mark.parametrize("guided", [True, False])
def test_a_row_that_memory_ended_is_retried(reason: str, guided: bool) -> None:
    assert state_of({"finish_reason": reason}, guided=guided) == "cut"


@pytest.mark.parametrize("option", [["--min-length", "600"], ["--logprobs", "--json", "--min-length", "600"]])
def test_options_are_checked_with_the_limit_that_holds(option: list[str]) -> None:
    assert lmsupply("run", "guide", *option, "--dry-run").code == 0


def test_options_that_a_command_does_not_use_cannot_make_it_fail() -> None:
    for variables in ({"LMSUPPLY_MIN_LENGTH": "600"}, {"LMSUPPLY_NUM_BEAMS": "2", "LMSUPPLY_LOGPROBS": "on"}):
        assert lmsupply("classify", "guide", "--choices", "a,b", "hello", **variables).code == 0
    assert lmsupply("run", "guide", "--num-beams", "2", "hello", LMSUPPLY_LOGPROBS="on").code == 0


def test_a_batch_does_not_load_a_draft_model(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "hello"}\n')
    result = lmsupply("run", "--batch", tmp_path / "p.jsonl", "-m", "guide", "--speculative", "draft:nonexistent")
    assert result.code == 0
    assert "speculative decoding is not used in a batch" in result.err
    assert result.json_lines[0].get("speculative") is None


def test_a_wrong_model_beside_a_prompt_option_is_named() -> None:
    result = lmsupply("run", "phi-4-mni", "-p", "hello")
    assert result.code == 2
    assert "phi-4-mni is not a model" in result.err
    assert "did you mean phi-4-mini?" in result.err


def test_the_home_folder_is_known_in_out(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "hello"}\n')
    result = lmsupply("run", f"--batch={tmp_path / 'p.jsonl'}", "-m", "guide", "--out=~/a.jsonl", HOME=str(tmp_path))
    assert result.code == 0
    assert (tmp_path / "a.jsonl").exists()


def test_system_and_raw_are_refused_before_anything_is_planned() -> None:
    result = lmsupply("run", "guide", "--dry-run", "--raw", "-s", "hi")
    assert result.code == 2
    assert "--system cannot be combined with --raw" in result.err


def test_the_other_half_of_a_switch_is_suggested() -> None:
    assert "did you mean --no-sample?" in lmsupply("run", "--no-sampl", "hi").err


def test_what_was_a_variable_in_one_run_is_a_flag_in_the_next(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LMSUPPLY_CHAT_FORMAT", "phi3")
    main(["config"])
    monkeypatch.delenv("LMSUPPLY_CHAT_FORMAT")
    assert main(["run", "--raw", "--chat-format", "phi3", "guide", "x"]) == 2
    assert "--chat-format has no effect with --raw" in capsys.readouterr().err


def test_main_runs_on_any_thread() -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["--version"])))
    thread.start()
    thread.join()
    assert codes == [0]


def test_completion_looks_into_the_store_of_the_settings(home: Path, tmp_path: Path) -> None:
    models = Path(__file__).parent.parent / "models" / "slow"
    assert lmsupply("add", models, "mine", "--cache-dir", tmp_path / "other").code == 0
    assert "mine" not in {value for value, _ in candidates(["rm", ""]) or ()}
    assert lmsupply("config", "set", "cache_dir", tmp_path / "other").code == 0
    assert "mine" in {value for value, _ in candidates(["rm", ""]) or ()}


def test_a_rule_that_cannot_be_read_forbids_every_default(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text('allowed_tiers = "nonsense"\n')
    result = lmsupply("use", "guide")
    assert result.code == 2
    assert "allowed_tiers" in result.err


@pytest.mark.parametrize("name", ["LMSUPPLY_ALLOWED_LICENSE", "LMSUPPLY_ALLOWED_TIER"])
def test_a_misspelled_rule_is_an_error(name: str) -> None:
    result = lmsupply("run", "guide", "-q", "hi", **{name: "mit"})
    assert result.code == 2
    assert f"unknown variable {name}" in result.err


def test_an_option_without_a_variable_names_the_setting() -> None:
    result = lmsupply("run", "guide", "hi", LMSUPPLY_NO_SAVE="1")
    assert "unknown variable LMSUPPLY_NO_SAVE; did you mean LMSUPPLY_SAVE_SESSIONS=false?" in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "", "hi"],
        ["", "hi"],
        ["", "--", "hi"],
        ["", "-p", "hi"],
        ["", "-f", __file__],
        ["-m", "", "--dry-run", "hi"],
        ["-m", "", "--continue", "hi"],
    ],
)
def test_an_unset_variable_is_no_model(arguments: list[str]) -> None:
    result = lmsupply("run", *arguments)
    assert result.code == 2
    assert "is empty" in result.err


def test_a_path_that_is_not_there_is_no_prompt() -> None:
    result = lmsupply("run", "/no/such/model", "hi")
    assert result.code == 2
    assert "no such folder: /no/such/model" in result.err
    assert "If it begins your prompt: lmsupply run -- /no/such/model" in result.err


def test_a_word_with_a_slash_may_begin_a_prompt() -> None:
    result = lmsupply("run", "TCP/IP", "explain")
    assert result.code == 3
    assert "If it begins your prompt: lmsupply run -- TCP/IP" in result.err


def test_a_template_that_names_a_wrong_model_is_named(home: Path) -> None:
    (home / "config" / "templates").mkdir(parents=True)
    (home / "config" / "templates" / "bad.toml").write_text('model = "nope"\nprompt = "{input}"\n')
    assert "template bad: model 'nope' not found" in lmsupply("run", "-t", "bad", "hi").err


def test_pull_of_a_folder_says_that_it_is_there(tmp_path: Path) -> None:
    folder = Path(__file__).parent.parent / "models" / "slow"
    assert "is a local folder" in lmsupply("pull", folder).err
    assert "not the URL of a model" in lmsupply("pull", "http://127.0.0.1:1/a/b").err


def test_licenses_have_one_name() -> None:
    for name in ("llama3.2", "Llama-3.2"):
        assert "llama-3.2-1b" in lmsupply("models", "--license", name, "-q").out


def test_a_new_file_in_an_added_folder_is_found(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(Path(__file__).parent.parent / "models" / "slow", tmp_path / "mine"))
    assert lmsupply("add", folder).code == 0
    (folder / "chat_template.jinja").write_text("HACKED {{ messages[-1].content }}")
    result = lmsupply("verify")
    assert result.code == 1
    assert "chat_template.jinja: not there when you added the folder" in result.out


def test_an_answer_that_memory_ended_is_one_object(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lmsupply_cli.generation.generator import TextGenerator

    events = TextGenerator._events

    def ended(self, *arguments):  # type: ignore[no-untyped-def]
        for event in events(self, *arguments):
            yield replace(event, finish_reason="memory") if isinstance(event, Finished) else event

    monkeypatch.setattr(TextGenerator, "_events", ended)
    assert main(["run", "guide", "--json", "-q", "--no-stdin", "hello"]) == 4
    shown = capsys.readouterr()
    assert json.loads(shown.out)["finish_reason"] == "memory"
    assert "the memory ran out" in shown.err


@pytest.mark.parametrize("command", [["run", "nosuch/repo", "hi"], ["run", "--dry-run", "nosuch/repo", "hi"]])
def test_the_hint_about_the_prompt_is_there_in_every_mode(command: list[str]) -> None:
    assert "If it begins your prompt: lmsupply run -- nosuch/repo" in lmsupply(*command).err


def test_hidden_files_are_no_change(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(Path(__file__).parent.parent / "models" / "slow", tmp_path / "mine"))
    lmsupply("add", folder)
    (folder / ".DS_Store").write_text("x")
    assert lmsupply("verify").code == 0


def test_show_prompt_needs_no_log_probabilities() -> None:
    assert lmsupply("run", "guide", "--show-prompt", "--logprobs", "hi").code == 0


def test_the_rule_that_cannot_be_read_is_named(home: Path) -> None:
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text('temprature = 1\nallowed_tiers = "bogus"\n')
    assert "allowed_tiers" in lmsupply("use", "guide").err


def test_another_spelling_of_a_license_needs_no_note() -> None:
    assert "no model in the catalogue" not in lmsupply("config", "set", "allowed_licenses", "llama3.2").err


@pytest.mark.parametrize(
    "command",
    [
        ["chat", ""],
        ["chat", "-m", ""],
        ["chat", "--resume", ""],
        ["use", ""],
        ["add", "", "x"],
        ["show", ""],
        ["verify", ""],
        ["rm", "", "-y"],
        ["pull", ""],
        ["run", "--batch", ""],
        ["run", "--batch", "x", "--out", ""],
        ["licenses", "--revoke", ""],
    ],
)
def test_an_empty_name_is_an_unset_variable(command: list[str]) -> None:
    result = lmsupply(*command)
    assert result.code == 2
    assert " is empty\nhint: is a variable unset?" in result.err


def test_a_corrected_line_of_a_batch_is_answered(tmp_path: Path) -> None:
    prompts, answers = tmp_path / "p.jsonl", tmp_path / "a.jsonl"
    prompts.write_text('{"prompt": "hello"}\n{"oops": 1}\n')
    command = ("run", "--batch", prompts, "--out", answers, "-m", "guide")
    assert lmsupply(*command).code == 1
    prompts.write_text('{"prompt": "hello"}\n{"prompt": "thanks"}\n')
    result = lmsupply(*command)
    assert (result.code, "1 answered" in result.err, "1 already there" in result.err) == (0, True, True)
    assert [json.loads(row)["index"] for row in answers.read_text().splitlines()] == [0, 1]
    prompts.write_text('{"prompt": "other"}\n{"prompt": "thanks"}\n')
    assert "answers to other prompts" in lmsupply(*command).err


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(Path(__file__).parent.parent / "models" / "slow", tmp_path / "mine"))
    lmsupply("add", folder)
    shutil.rmtree(folder)
    for command in (["models", "--installed"], ["show", "mine"]):
        assert "the folder of mine is missing" in lmsupply(*command).err


def test_a_default_that_depends_on_the_command_is_shown_in_words() -> None:
    assert lmsupply("config", "get", "max_tokens").out == "context (run, chat), 512 (batches, Python)\n"
    lmsupply("config", "set", "max_tokens", "512")
    assert lmsupply("config", "get", "max_tokens").out == "512\n"


def test_a_negative_value_needs_two_dashes_before_it() -> None:
    refused = lmsupply("config", "set", "presence_penalty", "-0.5")
    assert "lmsupply config set KEY -- -0.5" in refused.err
    assert lmsupply("config", "set", "presence_penalty", "--", "-0.5").code == 0


def test_a_forbidden_model_needs_no_network() -> None:
    assert lmsupply("pull", "gemma-3-1b", "--offline", LMSUPPLY_ALLOWED_TIERS="permissive").code == 5


def test_a_complete_answer_at_the_limit_was_not_cut() -> None:
    result = lmsupply("run", "guide", "--regex", "ab", "--max-tokens", "2", "hi")
    assert (result.code, result.out.strip(), result.err) == (0, "ab", "")


def test_use_says_that_the_default_is_not_allowed(tmp_path: Path) -> None:
    lmsupply("add", Path(__file__).parent.parent / "models" / "slow", "mine")
    assert "allows only permissive" in lmsupply("use", LMSUPPLY_ALLOWED_TIERS="permissive").err

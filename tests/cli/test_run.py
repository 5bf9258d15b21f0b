"""`lmsupply run` as a black box."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.cli import lmsupply

QUESTION = "How do I download a model?"
ANSWER = (
    "Run `lmsupply pull phi-4-mini`. It downloads the variant for this machine; after that the model works offline."
)
GREEDY = ("--temperature", "0")


def test_the_first_command() -> None:
    result = lmsupply("run", QUESTION)
    assert (result.code, result.out) == (0, ANSWER + "\n")
    (line,) = result.err.splitlines()
    assert line.startswith("note: no model is installed, so the built-in guide answers")
    assert "lmsupply pull " in line


def test_a_prompt_from_a_pipe() -> None:
    result = lmsupply("run", "-q", stdin="How do I list my models?\n")
    assert (result.code, result.err) == (0, "")
    assert "`lmsupply models`" in result.out


def test_argument_then_files_then_pipe_joined_by_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("from a\n")
    (tmp_path / "b.txt").write_text("from b\n\n")
    shown = lmsupply(
        "run", "--raw", "--show-prompt", "-f", "a.txt", "-f", "b.txt", "two", "words", stdin="piped\n", cwd=tmp_path
    )
    assert shown.out == "two words\n\nfrom a\n\nfrom b\n\npiped"
    assert shown.err.startswith("note: no model is installed")


@pytest.mark.parametrize(
    ("arguments", "stdin", "model", "prompt"),
    [
        (["guide", "hello"], "", "guide", "hello"),
        (["GUIDE", "hello", "you"], "", "guide", "hello you"),
        (["guide"], "hello", "guide", "hello"),
        (["small", "talk"], "", None, "small talk"),
        (["-m", "guide", "guide", "hello"], "", "guide", "guide hello"),
        (["--", "-x", "y"], "", None, "-x y"),
        (["--", "guide", "me"], "", None, "guide me"),
        (["guide", "--", "guide", "me"], "", "guide", "guide me"),
        (["-p", "guide me"], "", None, "guide me"),
        (["guide", "-p", "hello"], "", "guide", "hello"),
        (["2.5", "is", "what"], "", None, "2.5 is what"),
        (["well-known", "words"], "", None, "well-known words"),
        (["todo:", "words"], "", None, "todo: words"),
        (["role:", "you translate"], "", None, "role: you translate"),
        (["role: you translate"], "", None, "role: you translate"),
    ],
)
def test_which_word_is_the_model(arguments: list[str], stdin: str, model: str | None, prompt: str) -> None:
    result = lmsupply("run", "--show-prompt", *arguments, stdin=stdin)
    assert result.out == f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
    said = lmsupply("run", "--max-tokens", "1", *arguments, stdin=stdin).err
    assert ("no model is installed" in said) == (model is None)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["phi3.5", "hi"], "did you mean phi-3.5?"),
        (["phi-3.6", "hi"], "did you mean phi-3"),
        (["llama3:8b", "hi"], "did you mean llama-3"),
        (["llama3", "hi"], "did you mean llama-3"),
        (["gemma", "hi"], "did you mean gemma-3-1b?"),
        (["gpt-4", "hi"], "did you mean gpt-oss"),
        (["phi-4:latest", "hi"], "did you mean phi-4?"),
        (["./model.py", "hi"], "-f adds a file"),
        (["guide"], 'lmsupply run guide "your question"'),
        (["-m", "guide"], 'lmsupply run guide "your question"'),
        (["phi3.5"], "did you mean phi-3.5?"),
        (["-p", "hi", "guide", "hello"], "use one of them"),
    ],
)
def test_a_word_that_may_be_a_model_is_never_sent_to_another_one(arguments: list[str], said: str) -> None:
    result = lmsupply("run", *arguments)
    assert result.code == 2
    assert said in result.err
    assert result.out == ""


def test_added_names_are_known_in_any_case(toy: Path) -> None:
    lmsupply("add", toy, "--alias", "mine")
    assert "using" not in lmsupply("run", "MINE", "x", "--max-tokens", "1").err


@pytest.mark.parametrize("other", ["--json", "--stream-json", "--stats"])
def test_a_shown_prompt_excludes_what_belongs_to_an_answer(other: str) -> None:
    assert lmsupply("run", "-m", "guide", "--show-prompt", other, "x").code == 2


def test_a_shown_prompt_checks_the_guidance() -> None:
    assert lmsupply("run", "-m", "guide", "--show-prompt", "--regex", "(", "x").code == 2


def test_silence_on_stdin_is_explained() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "lmsupply_cli", "run", "-m", "guide", "thanks"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert process.stderr
        assert "waiting for input on stdin" in process.stderr.readline()
        assert process.communicate("")[0] == "You are welcome!\n"


def test_a_folder_is_a_model(toy: Path) -> None:
    result = lmsupply("run", "-q", toy, "x", "--max-tokens", "3", *GREEDY)
    assert result.out.encode() == b"\x0b\x0c\r\n"  # as it comes: a pipe gets the bytes
    listed = lmsupply("run", "-m", str(toy), "--json", "--max-tokens", "3", *GREEDY, "x")
    assert listed.json["model"]["ref"] == str(toy)


def test_show_prompt_is_byte_for_byte_and_loads_nothing() -> None:
    result = lmsupply("run", "-m", "guide", "-s", "Be brief.", "--show-prompt", "é <|im_end|>")
    assert result.out == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\né <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )


def test_json_is_one_object_with_every_field() -> None:
    result = lmsupply("run", "--json", "--top-k", "7", QUESTION, LMSUPPLY_TOP_P="0.5")
    found = result.json
    assert list(found) == [
        "schema", "text", "reasoning", "model", "finish_reason", "usage", "timings", "options", "notices",
    ]  # fmt: skip
    assert found["text"] == ANSWER
    assert found["model"] == {
        "ref": "guide",
        "repo": None,
        "commit": None,
        "variant": None,
        "provider": "cpu",
        "precision": "int4",
    }
    assert found["finish_reason"] == "stop"
    assert found["usage"]["completion_tokens"] > 5
    assert set(found["timings"]) == {"load_s", "ttft_s", "prefill_s", "decode_s"}
    assert found["options"]["top_k"] == {"value": 7, "source": "flag"}
    assert found["options"]["top_p"] == {"value": 0.5, "source": "env"}
    assert found["options"]["temperature"]["source"] == "model"
    assert found["options"]["max_tokens"] == {"value": 1024, "source": "default"}
    assert found["notices"][0]["code"] == "guide"


def test_stream_json_is_one_event_a_line() -> None:
    events = lmsupply("run", "--stream-json", QUESTION).json_lines
    kinds = [event["type"] for event in events]
    assert kinds[0] == "start"
    assert kinds[-1] == "finished"
    assert set(kinds) == {"start", "notice", "prefill", "delta", "finished"}
    assert "".join(event["text"] for event in events if event["type"] == "delta") == ANSWER
    assert events[-1]["usage"]["prompt_tokens"] > 0
    assert all(event["schema"] == 2 for event in events)


def test_no_stream_prints_the_same() -> None:
    assert lmsupply("run", "-q", "--no-stream", QUESTION).out == ANSWER + "\n"


def test_stats_on_stderr() -> None:
    result = lmsupply("run", "-q", "--stats", QUESTION)
    assert result.out == ANSWER + "\n"
    names = [line.split("  ")[0].strip() for line in result.err.splitlines()]
    assert names == ["model", "load", "prefill", "first token", "decode", "finish", "peak memory"]


DRAFTED = ("run", "-q", "-m", "guide", "--temperature", "0")


def test_a_draft_model_is_only_loaded_where_it_is_used(guide: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(guide, broken)
    graph = (guide / "model.onnx").read_bytes()
    (broken / "model.onnx").write_bytes(graph.replace(b"MatMulNBits", b"NoSuchThing"))
    command = ("run", "-m", "guide", "--speculative", f"draft:{broken}", "--max-tokens", "3")
    assert lmsupply(*command, "hello").code == 1
    assert lmsupply(*command, "--regex", "(a|b)", "hello").code == 1
    assert lmsupply(*command, "--num-beams", "2", "hello").code == 0


@pytest.mark.parametrize("how", ["ngram", "draft:guide"])
def test_draft_tokens_are_counted_in_stats_and_json(how: str) -> None:
    plain = lmsupply(*DRAFTED, QUESTION)
    assert (plain.out, plain.err) == (ANSWER + "\n", "")
    shown = lmsupply(*DRAFTED, "--speculative", how, "--draft-tokens", "3", "--stats", QUESTION)
    assert shown.out == plain.out
    assert re.search(r"^drafted +\d+ of \d+ draft tokens accepted \(\d+%\) in \d+ rounds$", shown.err, re.M)
    found = json.loads(lmsupply(*DRAFTED, "--speculative", how, "--json", QUESTION).out)
    assert found["text"] == ANSWER
    assert set(found["speculative"]) == {"proposed", "accepted", "rate", "rounds", "tokens_per_s"}
    assert found["speculative"]["rounds"] > 0 or how == "ngram", "a short answer need not repeat anything"
    assert "speculative" not in json.loads(lmsupply(*DRAFTED, "--json", QUESTION).out), "off by default"


def test_a_draft_model_takes_part_in_a_guided_answer() -> None:
    asked = ("--regex", "[a-z ]{20,40}", "--json", QUESTION)
    plain = json.loads(lmsupply(*DRAFTED, *asked).out)
    found = json.loads(lmsupply(*DRAFTED, "--speculative", "draft:guide", "--draft-tokens", "40", *asked).out)
    assert found["text"] == plain["text"]
    assert found["speculative"]["accepted"] > 0
    assert found["notices"] == plain["notices"] == []


def test_speculative_decoding_by_setting() -> None:
    found = lmsupply(*DRAFTED, "--json", QUESTION, LMSUPPLY_SPECULATIVE="draft:guide", LMSUPPLY_DRAFT_TOKENS="1")
    stats = json.loads(found.out)["speculative"]
    assert stats["proposed"] <= stats["rounds"], "at most one token a round"
    assert stats["accepted"] > 0.8 * stats["proposed"], "its own tokens, but for rounding"
    other = lmsupply(*DRAFTED, "--speculative", f"draft:{Path(__file__).parent.parent / 'models' / 'qwen2'}", QUESTION)
    assert other.code == 2
    assert "qwen2 cannot be a draft model: the vocabularies differ" in other.err


def test_an_answer_cut_by_its_limit_says_so() -> None:
    result = lmsupply("run", "--max-tokens", "4", QUESTION)
    assert result.code == 0
    assert "the answer was cut off after 4 tokens" in result.err
    found = lmsupply("run", "--max-tokens", "4", "--json", QUESTION).json
    assert found["finish_reason"] == "length"
    assert [n["code"] for n in found["notices"]] == ["guide", "cut_by_length"]


def test_stop_and_seed_and_presets() -> None:
    assert lmsupply("run", "-q", "--stop", "It downloads", QUESTION).out == "Run `lmsupply pull phi-4-mini`. \n"
    first, second = (
        lmsupply("run", "-q", "--seed", "4", "--temp", "2", "--top-k", "0", "--top-p", "1", QUESTION) for _ in "ab"
    )
    assert first.out == second.out
    options = lmsupply("run", "--json", "--preset", "greedy", "hello").json["options"]
    assert options["temperature"] == {"value": 0.0, "source": "preset"}


def test_text_of_a_windows_shell_is_read(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_bytes(QUESTION.encode("utf-16"))
    assert lmsupply("run", "-f", "q.txt", cwd=tmp_path, stdin=b"").out == ANSWER + "\n"
    assert lmsupply("run", stdin=QUESTION.encode("utf-8-sig")).out == ANSWER + "\n"


def test_beams_say_what_they_exclude() -> None:
    result = lmsupply("run", "--num-beams", "3", QUESTION)
    assert result.out == ANSWER + "\n"
    assert "beam search doesn't stream" in result.err


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        ([], b"", "no prompt"),
        (["  "], b"\n\n", "no prompt"),
        (["x"], b"\xff\xfeabc", "stdin is not UTF-8"),
        (["x"], b"abc\0def", "stdin is binary"),
        (["x", "-f", "none.txt"], b"", "cannot read none.txt"),
        (["x", "-f", "."], b"", "cannot read ."),
        (["--top-p", "3", "x"], b"", "--top-p must be a number from 0 to 1, not 3"),
        (["--top-k", "x", "x"], b"", "--top-k must be a whole number, at least 0, not 'x'"),
        (["--max-tokens", "0", "x"], b"", "--max-tokens must be a whole number, at least 1, not 0"),
        (["--preset", "wild", "x"], b"", "unknown preset 'wild'"),
        (["--json", "--stream-json", "x"], b"", "can't be combined"),
        (["--raw", "-s", "y", "x"], b"", "--system cannot be combined with --raw"),
        (["--nonsense", "x"], b"", "unknown option --nonsense"),
        (["--modle", "guide", "x"], b"", "unknown option --modle"),
        (["--seed"], b"", "option '--seed' requires an argument"),
        (["--max-tokens", "5.5", "x"], b"", "--max-tokens must be a whole number, at least 1, not '5.5'"),
        (["--provider", "gpu", "x"], b"", "one of auto, cpu, cuda, dml, webgpu"),
        (["-m", "guide", "--context", "99999", "x"], b"", "is more than this model's maximum of 1,024 tokens"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments: list[str], stdin: bytes, said: str, tmp_path: Path) -> None:
    result = lmsupply("run", *arguments, stdin=stdin, cwd=tmp_path)
    assert result.code == 2
    assert result.out == "" or "--json" in arguments
    lines = [line for line in result.err.splitlines() if not line.startswith("note: ")]
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert all(line.startswith("hint: ") for line in lines[1:])


def test_a_long_prompt_is_never_cut() -> None:
    result = lmsupply("run", "-m", "guide", "word " * 3000)
    assert (result.code, result.out) == (4, "")
    assert "the context has 1,024" in result.err
    assert "hint: " in result.err


@pytest.mark.parametrize("policy", ["truncate-start", "truncate-end"])
def test_a_long_prompt_is_cut_only_on_demand_and_aloud(policy: str) -> None:
    long = "How do I download a model? " * 200 + "How do I list my models?"
    result = lmsupply("run", "-m", "guide", "--on-overflow", policy, "--json", long)
    assert result.code == 0
    (notice,) = (n for n in result.json["notices"] if n["code"] == "overflow")
    assert notice["text"] in result.err
    assert result.json["usage"]["prompt_tokens"] < 1024
    raw = lmsupply("run", "-m", "guide", "--raw", "--on-overflow", policy, "--json", "--max-tokens", "5", long)
    assert "the prompt was cut" in raw.err
    assert lmsupply("run", "-m", "guide", "--on-overflow", "drop-oldest", long).code == 4


def test_errors_as_json() -> None:
    result = lmsupply("run", "--json", "-m", "phi-3.5", "x")
    assert result.code == 3
    assert result.json == {
        "schema": 2,
        "error": {
            "code": "model_not_installed",
            "message": "phi-3.5 is not installed",
            "hint": "lmsupply pull phi-3.5",
        },
    }
    assert result.err.startswith("error: phi-3.5 is not installed")
    streamed = lmsupply("run", "--stream-json", "-m", "nope", "x")
    assert (streamed.code, streamed.json_lines[-1]["type"]) == (1, "error")


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in lmsupply("run", "--debug", "-m", "nope", "x").err
    assert "Traceback" not in lmsupply("run", "-m", "nope", "x").err


def test_an_untrusted_folder(tmp_path: Path, toy: Path) -> None:
    for path in toy.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    config = json.loads((tmp_path / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["custom_ops_library"] = "x.so"
    (tmp_path / "genai_config.json").write_text(json.dumps(config))
    result = lmsupply("run", tmp_path, "hello")
    assert result.code == 1
    assert "wants to load a library" in result.err
    trusted = lmsupply("run", "--trust-model-files", tmp_path, "hello")  # then the engine itself says what is missing
    assert trusted.code == 1
    assert "wants to load a library" not in trusted.err


def test_settings_from_the_file_and_their_errors(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "config").mkdir(parents=True)
    file = home / "config" / "config.toml"
    file.write_text("top_k = 5\n")
    result = lmsupply("run", "--json", "hello")
    assert result.json["options"]["top_k"] == {"value": 5, "source": "file"}
    file.write_text("top_k = 5\ntop_q = 3\n")
    broken = lmsupply("run", "hello")
    assert broken.code == 2
    assert f"{file}:2: unknown setting 'top_q'" in broken.err


def test_the_default_model_setting() -> None:
    result = lmsupply("run", "hello", LMSUPPLY_DEFAULT_MODEL="guide")
    assert (result.code, result.err) == (0, "")
    assert lmsupply("run", "hello", LMSUPPLY_DEFAULT_MODEL="phi-4").code == 3
    assert lmsupply("run", "hello", LMSUPPLY_ALLOWED_LICENSES="Apache-2.0").code == 5


def test_no_stdin_does_not_wait() -> None:
    command = [sys.executable, "-m", "lmsupply_cli", "run", "-q", "--no-stdin", "hello"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read().startswith(b"Hello!")
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0


def test_a_closed_pipe_ends_silently() -> None:
    command = f"{sys.executable} -m lmsupply_cli run -q -m {Path(__file__).parent.parent / 'models' / 'slow'} --min-length 100 hello"
    done = subprocess.run(
        ["bash", "-c", f"{command} | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "0\n"
    assert done.stderr == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_with_its_code_and_what_was_printed_stays(number: int, code: int) -> None:
    model = Path(__file__).parent.parent / "models" / "slow"
    command = [
        sys.executable,
        "-m",
        "lmsupply_cli",
        "run",
        "-q",
        "-m",
        str(model),
        "--stream-json",
        "--min-length",
        "150",
        "hello",
    ]
    read, write = os.pipe()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=write, stderr=subprocess.PIPE) as process:
        os.close(write)
        data = b""
        while b'"delta"' not in data:
            data += os.read(read, 4096)
        process.send_signal(number)
        assert process.wait() == code
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    with os.fdopen(read, "rb") as rest:
        data += rest.read()
    assert b'"start"' in data
    last = json.loads(data.splitlines()[-1])
    if number == signal.SIGINT:
        assert (last["type"], last["finish_reason"]) == ("finished", "cancelled")


def test_notices_in_a_stream_of_json_name_flags() -> None:
    events = lmsupply("run", "--stream-json", "-m", "guide", "--reasoning-effort", "low", QUESTION).json_lines
    texts = [event["text"] for event in events if event["type"] == "notice"]
    assert any(text.startswith("--reasoning-effort has no effect") for text in texts)

"""Options that can have no effect together are refused, or a note says so: nothing is ignored silently."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.cli import lmsupply
from support.hub import Hub, Repo, local_hub

MODELS = Path(__file__).parent.parent / "models"
RUN = ("run", "-m", "guide", "hi")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with local_hub() as hub:
        found = {f"cpu-int4/{path.name}": path.read_bytes() for path in (MODELS / "llama").iterdir()}
        found["cpu-int4/model.onnx.data"] += random.Random(2).randbytes(10)
        hub.repos["a/cpu"] = Repo(found)
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((*RUN, "--draft-tokens", "8"), "--draft-tokens has no effect without speculative decoding"),
        ((*RUN, "--no-sample", "--temperature", "0.5"), "--no-sample and --temperature 0.5 can't be combined"),
        (
            (*RUN, "--no-logprobs", "--top-logprobs", "2", "--json"),
            "--no-logprobs and --top-logprobs can't be combined",
        ),
        ((*RUN, "--raw", "--chat-format", "chatml"), "--chat-format has no effect with --raw"),
        ((*RUN, "--raw", "--think", "off"), "--think off has no effect with --raw"),
        ((*RUN, "--plain", "--json"), "--plain has no effect with --json"),
        ((*RUN, "--no-stream", "--stream-json"), "--no-stream and --stream-json can't be combined"),
        ((*RUN, "--plain", "--theme", "dark"), "--plain and --theme can't be combined"),
        ((*RUN, "--pull", "--offline"), "--pull and --offline can't be combined"),
        (("run", "-m", "guide", "--batch", "x.jsonl", "--no-save"), "leave out --no-save"),
        (("classify", "-m", "guide", "--choices", "a,b", "--raw", "--reasoning-effort", "low", "hi"), "with --raw"),
        (("chat", "guide", "--plain", "--theme", "dark"), "--plain and --theme can't be combined"),
        (("models", "-q", "--json"), "--quiet and --json can't be combined"),
        (("models", "-q", "--paths"), "--quiet and --paths can't be combined"),
        (("config", "get", "temperature", "--all"), "--all and get can't be combined"),
        (("pull", "a/b:cpu", "--variant", "gpu"), "two variants are named: cpu and gpu"),
    ],
)
def test_what_cannot_be_combined_is_refused(words: tuple[str, ...], said: str) -> None:
    result = lmsupply(*words)
    assert result.code == 2
    assert said in result.err


@pytest.mark.parametrize(
    ("flags", "note"),
    [
        (("--think", "off"), "--think off has no effect: this model has no thinking mode"),
        (("--temperature", "0", "--top-p", "0.5"), "--top-p has no effect at temperature 0"),
        (("--no-sample", "--top-k", "3", "--min-p", "0.1"), "--top-k and --min-p have no effect when sampling is off"),
        (("--preset", "greedy", "--temperature", "0.5"), "--temperature has no effect when sampling is off"),
        (("--temperature", "0", "--top-p", "1", "--seed", "1"), ""),
        (("--no-sample",), ""),
    ],
)
def test_what_is_ignored_is_said(flags: tuple[str, ...], note: str) -> None:
    result = lmsupply(*RUN, *flags)
    assert (result.code, result.err) == (0, f"note: {note}\n" if note else "")


def test_only_flags_are_noted() -> None:
    """A setting holds for all models and answers, also for those that it does not concern."""
    settings = {"LMSUPPLY_THINK": "off", "LMSUPPLY_DRAFT_TOKENS": "8", "LMSUPPLY_TOP_P": "0.5"}
    result = lmsupply(*RUN, "--temperature", "0", **settings)
    assert (result.code, result.err) == (0, "")


def test_pull_without_a_model_is_said() -> None:
    assert "note: --pull has no effect: no model is named\n" in lmsupply("run", "--pull", "hi").err


@pytest.mark.skipif(sys.platform == "win32", reason="DirectML may be usable")
def test_pulling_for_a_provider_that_is_not_usable_here_is_said(hub: Hub) -> None:
    note = "dml cannot be used on this machine: Windows only"
    for environ, flag in (({}, ("--provider", "dml")), ({"LMSUPPLY_PROVIDER": "dml"}, ())):
        planned = lmsupply("pull", "a/cpu", "--dry-run", *flag, **environ)
        assert f"may fail   {note}" in planned.out
        assert f"note: a/cpu: {note}" in lmsupply("pull", "a/cpu", *flag, **environ).err
    assert note not in lmsupply("pull", "a/cpu", "--provider", "cpu").err

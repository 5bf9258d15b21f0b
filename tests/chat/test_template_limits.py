"""A template is foreign code: it ends, it stays small, and what it does to its process is one clear line."""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading

import pytest

from lmsupply_cli.chat.formats import choose_formatter, template
from lmsupply_cli.chat.formats.template import Template, template_worker
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.errors import ModelFilesError

HELLO = [ChatMessage.user("Hello")]
PLAIN = "{{ messages[0].content }}"
ENDLESS = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"
DOUBLING = "{% set n = namespace(x='ab') %}{% for i in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}"
EXPONENTIAL = "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{% if messages %}{{ f(99) }}{% endif %}"
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no memory")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(template, "_shared", None)
    monkeypatch.setattr(template, "LIMIT_S", 0.3)


@pytest.fixture
def frugal(monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()
    monkeypatch.setattr(template, "_shared", None)
    monkeypatch.setattr(template, "MEMORY_BYTES", 200_000_000)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("source", [ENDLESS, EXPONENTIAL])
def test_a_template_that_runs_on_is_ended_and_the_next_one_works(source: str) -> None:
    hanging, plain = Template(source, {}), Template(PLAIN, {})
    with pytest.raises(ModelFilesError, match=r"runs longer than 0\.3 seconds") as caught:
        hanging.render(HELLO)
    assert "`chat_format`" in caught.value.hint
    assert "`raw`" in caught.value.hint
    assert plain.render(HELLO) == "Hello"


@posix
@pytest.mark.usefixtures("frugal")
@pytest.mark.parametrize(
    "source", ["{{ 'x' * 10**10 }}", "{{ 'a' | center(10**10) }}", DOUBLING, "{{ messages | tojson(indent=10**10) }}"]
)
def test_a_template_that_wants_all_memory_is_refused_it(source: str) -> None:
    with pytest.raises(ModelFilesError, match="needs more than 1 GiB"):
        Template(source, {}).render(HELLO)


def test_a_template_that_writes_without_end_is_stopped() -> None:
    with pytest.raises(ModelFilesError, match="writes more than"):
        Template("{% for i in range(99999) %}{{ 'x' * 9999 }}{% endfor %}", {}).render(HELLO)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in [1] %}" * 25 + "{% endfor %}" * 25,
        "{% if 1 %}" * 2000 + "{% endif %}" * 2000,
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ " + "-" * 50000 + "1 }}",
    ],
    ids=["loops", "ifs", "brackets", "signs"],
)
def test_a_template_that_is_too_deep_for_python_does_not_parse(source: str) -> None:
    with pytest.raises(ModelFilesError, match="does not parse") as caught:
        Template(source, {})
    assert "\n" not in caught.value.message
    choice = choose_formatter(source, ["<|im_start|>"], {})
    assert choice.formatter.name == "chatml"
    assert "does not parse" in choice.note


@pytest.mark.usefixtures("impatient")
def test_where_a_family_is_known_its_format_takes_over_with_a_note() -> None:
    choice = choose_formatter(ENDLESS, ["<|im_start|>"], {})
    assert choice.formatter.name == "chatml"
    assert choice.note.startswith("the model's chat template runs longer than 0.3 seconds; the format chatml is used")


def test_our_own_template_runs_in_this_process() -> None:
    ours = Template(PLAIN, {}, trusted=True)
    assert ours.render(HELLO) == "Hello"
    assert ours.with_variables(x=1).render(HELLO) == "Hello"
    assert template._shared is None or template._shared() is None or template._shared()._process is None


def test_text_comes_back_as_it_went_in() -> None:
    text = "日本 \U0001f389 \ue000 \ud800 \r\n \x00 \x1b"
    assert Template(PLAIN, {}).render([ChatMessage.user(text)]) == text


def test_one_process_renders_all_templates_and_ends_with_the_last() -> None:
    gc.collect()
    first, second = Template(PLAIN, {}), Template("{{ 1 }}", {})
    worker = template_worker()
    process = worker._process
    assert process is not None
    assert (first.render(HELLO), second.render(HELLO)) == ("Hello", "1")
    assert worker._process is process
    del first, second, worker
    gc.collect()
    assert process.returncode is not None


def test_threads_take_turns() -> None:
    shared, found = Template("{{ messages[0].content * 3 }}", {}), []

    def ask(number: int) -> None:
        found.extend((number, shared.render([ChatMessage.user(f"{number},")])) for _ in range(20))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 80
    assert all(text == f"{number}," * 3 for number, text in found)


def test_a_process_that_was_killed_is_replaced() -> None:
    plain = Template(PLAIN, {})
    process = template_worker()._process
    assert process is not None
    process.kill()
    process.wait()
    assert plain.render(HELLO) == "Hello"


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_ctrl_c_leaves_no_late_answer_behind() -> None:
    waiting, plain = Template(ENDLESS, {}), Template(PLAIN, {})
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        waiting.render(HELLO)
    timer.join()
    assert plain.render(HELLO) == "Hello"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_after_a_fork_each_process_has_its_own() -> None:
    plain = Template(PLAIN, {})
    child = os.fork()
    if child == 0:
        os._exit(0 if plain.render([ChatMessage.user("child")]) == "child" else 1)
    assert plain.render([ChatMessage.user("parent")]) == "parent"
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert plain.render(HELLO) == "Hello"


def test_no_secret_of_the_environment_reaches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    gc.collect()
    kept = Template(PLAIN, {})
    process = template_worker()._process
    assert process is not None
    assert kept.render(HELLO) == "Hello"
    if sys.platform == "linux":
        with open(f"/proc/{process.pid}/environ", "rb") as file:  # noqa: PTH123
            assert b"hf_secret" not in file.read()


def test_a_template_of_ours_takes_a_text_of_any_length() -> None:
    """It is the prompt that is refused then, for its length in tokens."""
    text = "x" * 33_000_000
    assert text in Template(PLAIN, {}, trusted=True).render([ChatMessage.user(text)])

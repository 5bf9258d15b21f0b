"""The built-in model: small, right, and truthful about lmsupply as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from guide.expand import Sampler, normalized, read_corpus, read_heldout
from guide.score import REQUIRED, score_folder

from lmsupply_cli import load
from lmsupply_cli.catalogue.lookup import find_entry
from lmsupply_cli.catalogue.roles import ROLES
from lmsupply_cli.cli.app import COMMANDS, load_command
from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.repl.commands import NAMES

TOPICS, _ = read_corpus()


def test_it_is_small(guide: Path) -> None:
    assert sum(path.stat().st_size for path in guide.rglob("*")) <= 4_000_000


def test_it_answers_held_out_questions() -> None:
    """The promise of the build, held by the files that ship."""
    from lmsupply_cli.paths import builtin_model

    score = score_folder(builtin_model("guide"))
    assert score.asked >= 100
    assert score.off_topic >= 30
    assert score.kept(REQUIRED), score.report()


def test_the_held_out_questions_are_held_out() -> None:
    asked = {normalized(question) for question, _ in read_heldout()}
    sampler = Sampler(seed=7)
    for topic in sampler.topics:
        assert not asked & {normalized(sampler.question(topic)) for _ in range(100)}


def test_every_topic_is_asked_for() -> None:
    assert {topic for _, topic in read_heldout()} == {topic.name for topic in TOPICS}


def test_every_command_and_flag_in_an_answer_exists() -> None:
    flags = {"--help", "--version"}
    for name in COMMANDS:
        for parameter in load_command(name).params:
            flags |= {*parameter.opts, *parameter.secondary_opts}
    for topic in TOPICS:
        for command in re.findall(r"`lmsupply ([a-z]+)\b", topic.answer):
            assert command in COMMANDS, f"{topic.name}: lmsupply {command}"
        for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", topic.answer):
            assert flag in flags, f"{topic.name}: {flag}"
        for variable in re.findall(r"LMSUPPLY_([A-Z_]+)\b", topic.answer):
            assert variable.lower() in {*SETTINGS, "home"}, f"{topic.name}: {variable}"
        for slash in re.findall(r"(?<![\w.])/[a-z]+", topic.answer):
            assert slash in NAMES, f"{topic.name}: {slash}"


def test_flags_are_told_apart_by_command() -> None:
    """`lmsupply run --x` in an answer must be an option of run, and so on."""
    for topic in TOPICS:
        for command, rest in re.findall(r"`lmsupply ([a-z]+)\b([^`]*)`", topic.answer):
            options = {o for p in load_command(command).params for o in (*p.opts, *p.secondary_opts, "--help")}
            for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", rest):
                assert flag in options, f"{topic.name}: {command} {flag}"
        for flag, command in re.findall(r"(?:Add|Use) `(--?[a-z-]+)[^`]*` to `lmsupply ([a-z]+)`", topic.answer):
            options = {o for p in load_command(command).params for o in (*p.opts, *p.secondary_opts)}
            assert flag in options, f"{topic.name}: {command} {flag}"


def test_answers_name_the_recommended_model() -> None:
    """Models in answers are in the catalogue, and the one to start with is the first of the default role."""
    first = next(role for role in ROLES if role.name == "default").refs[0]
    for topic in TOPICS:
        for command, ref in re.findall(r"`lmsupply (pull|chat|use|show|rm|run) ([a-z]+-?\d[\w.-]*)", topic.answer):
            assert ref == first, f"{topic.name}: {command} {ref}"
        for ref in re.findall(r"(?<![\w.-])(?:phi|qwen|llama|gemma|mistral)-?\d[\w.-]*\w", topic.answer):
            assert find_entry(ref), f"{topic.name}: {ref}"


@pytest.mark.parametrize("options", [{}, {"seed": 1}, {"seed": 2}])
def test_its_own_settings_are_reliable(options: dict[str, int]) -> None:
    with load("guide") as model:
        assert model.generate("How do I list my models?", **options).text.startswith("Run `lmsupply models`.")


def test_it_follows_a_dialogue() -> None:
    with load("guide") as model:
        talk = [{"role": "user", "content": "hello"}]
        for question, said in [
            ("How do I download a model?", "lmsupply pull"),
            ("thanks", "welcome"),
            ("tell me a joke", "only know"),
        ]:
            talk.append({"role": "assistant", "content": model.generate_chat(talk, temperature=0).text})
            talk.append({"role": "user", "content": question})
            assert said in model.generate_chat(talk, temperature=0).text

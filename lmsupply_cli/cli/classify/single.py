"""What `lmsupply classify` does: read, choose, load, classify, print."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.chat.files import read_text
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.cli.choose import choose_model, store_root
from lmsupply_cli.cli.inputs import read_asked
from lmsupply_cli.cli.load import load_model, plan_model
from lmsupply_cli.cli.run.output import model_object
from lmsupply_cli.config.layers import Settings, read_settings
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.classify import check_room
from lmsupply_cli.engine.model_options import model_options
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import DoesNotFit, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.generation.classification import ChoiceScore, Classification, check_choices, continuation_ids
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.fitting import Fitted, fit_messages, fit_raw
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.prompter import Prompter
from lmsupply_cli.render.sanitize import one_line
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.judging import open_model

_FIGURES = 21  # columns of the probability and the share, and the spaces before them


@dataclass(frozen=True)
class ClassifyRequest:
    """What the command line asks for."""

    words: Sequence[str]
    model: str | None
    choices: Sequence[str]
    choices_file: Path | None
    system: str | None
    files: Sequence[Path]
    raw: bool
    every: bool
    as_json: bool
    no_stdin: bool
    trust: bool
    pull: bool
    accepted: bool
    quiet: bool
    flags: dict[str, Any] = field(default_factory=dict)
    batch: Path | None = None
    out: Path | None = None


def classify_one(request: ClassifyRequest) -> None:
    """Raises the errors of what it uses; `main` reports them."""
    terminal = Terminal.of_process(quiet=request.quiet)
    if request.raw and request.system is not None:
        raise UsageError("--system cannot be combined with --raw", hint="write it into the prompt, or leave out --raw")
    choices = read_choices(request)
    settings = classify_settings(request, terminal)
    asked = read_asked(
        request.words,
        model=request.model,
        files=request.files,
        terminal=terminal,
        no_stdin=request.no_stdin,
        root=store_root(settings),
        command="classify",
    )
    messages = [ChatMessage.user(asked.prompt)]
    if request.system:
        messages.insert(0, ChatMessage.system(request.system))
    for message in messages:
        check_text(message.content)
    with loaded(request, asked.model, settings, terminal) as (generator, notices):
        fitted = fit_choices(generator, asked.prompt if request.raw else messages, choices, overflow_policy(settings))
        for notice in fitted.notices:
            terminal.notice(notice)
        found = generator.classify_prompt(fitted.prompt, choices)
        notices += fitted.notices
    if request.as_json:
        terminal.json(classify_object(found, generator.info, notices))
    elif request.every:
        for line in table(found.ranked, terminal.width):
            terminal.data(line)
    else:
        terminal.exact(found.best + "\n")


def read_choices(request: ClassifyRequest) -> tuple[str, ...]:
    """Of the options, without the blanks around them, then of the file, as they stand. Raises UsageError."""
    found = [choice.strip() for given in request.choices for choice in given.split(",")]
    if request.choices_file:
        lines = read_text(request.choices_file).split("\n")
        found += [line.removesuffix("\r") for line in lines if line.removesuffix("\r")]
    if not found:
        raise UsageError("there are no choices", hint="give at least two: --choices yes,no")
    return check_choices(found)


def classify_settings(request: ClassifyRequest, terminal: Terminal) -> Settings:
    """Nothing is generated, so there are no draft tokens, whatever the settings file says."""
    flags = request.flags | {"speculative": "off"}
    return read_settings(flags, environ=terminal.environ, path=paths.settings_file())


def overflow_policy(settings: Settings) -> Policy:
    policy: Policy = settings.get("on_overflow") or "error"
    return policy


@contextmanager
def loaded(
    request: ClassifyRequest, named: str | None, settings: Settings, terminal: Terminal
) -> Iterator[tuple[TextGenerator, list[Notice]]]:
    """The model that classifies, and what was said of it."""
    choice = choose_model(named, settings, store_root(settings), terminal, pull=request.pull, accepted=request.accepted)
    folder = open_model(choice.model, trust=request.trust)
    share_buffer = settings.generation(model_options(folder))["past_present_share_buffer"].value
    options = GenerationOptions(past_present_share_buffer=share_buffer)
    notices = [*choice.notices]
    for notice in notices:
        terminal.notice(notice)
    plan = plan_model(choice.model, folder, settings, options=options)
    with load_model(plan, terminal, notices=notices) as generator:
        yield generator, notices


@dataclass
class _Smaller:
    """A generator with less room in its context, for prompts that leave the rest free."""

    generator: TextGenerator
    context_tokens: int

    @property
    def prompter(self) -> Prompter:
        return self.generator.prompter


def fit_choices(
    generator: TextGenerator, asked: str | Sequence[ChatMessage], choices: Sequence[str], policy: Policy
) -> Fitted:
    """A prompt that leaves room for the longest choice, cut by the policy. A text is taken as it stands."""
    prompter = generator.prompter
    prompt = prompter.raw(asked) if isinstance(asked, str) else prompter.chat(asked)
    continuations = [continuation_ids(generator.model, prompt, choice) for choice in choices]
    room = generator.context_tokens - max(map(len, continuations))
    if len(prompt.ids) <= room or policy == "error":
        return Fitted(prompt, (), ())
    smaller = _Smaller(generator, room + 1)
    try:
        if isinstance(asked, str):
            return fit_raw(smaller, asked, policy=policy, max_tokens=1)
        return fit_messages(smaller, asked, policy=policy, max_tokens=1)
    except DoesNotFit:
        check_room(len(prompt.ids), continuations, generator.context_tokens)
        raise


def classify_object(found: Classification, info: ModelInfo, notices: Sequence[Notice]) -> dict[str, Any]:
    """The JSON of one classification."""
    return {
        "best": found.best,
        "choices": [
            {
                "text": choice.text,
                "logprob": choice.logprob if math.isfinite(choice.logprob) else None,
                "probability": choice.probability,
                "share": choice.share,
                "tokens": choice.tokens,
            }
            for choice in found.choices
        ],
        "model": model_object(info),
        "usage": {"prompt_tokens": found.usage.prompt_tokens, "cached_tokens": found.usage.cached_tokens},
        "notices": [{"code": n.code, "text": n.text} for n in notices],
    }


def table(choices: Sequence[ChoiceScore], columns: int) -> list[str]:
    """A line for each of at most `columns`: text, probability, share."""
    most = max(10, columns - _FIGURES)
    texts = [text if len(text) <= most else f"{text[: most - 1]}…" for text in map(one_line, (c.text for c in choices))]
    width = max(map(len, texts))
    return [
        f"{text.ljust(width)}  {choice.probability:>9.4g}  {choice.share:>6.1%}"
        for text, choice in zip(texts, choices, strict=True)
    ]

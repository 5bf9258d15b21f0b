"""What `lmsupply classify` does with one prompt."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmsupply_cli.chat.files import read_text
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.cli.context import Context, notices_object
from lmsupply_cli.cli.inputs import PromptRequest, no_prompt, read_input
from lmsupply_cli.cli.prepare import ModelRequest, Prepared, load_model, overflow_policy, prepare
from lmsupply_cli.cli.run.output import model_object
from lmsupply_cli.config.table import GENERATION_KEYS
from lmsupply_cli.engine.classify import check_room
from lmsupply_cli.errors import DoesNotFit, UsageError
from lmsupply_cli.events import Notice
from lmsupply_cli.generation.classification import ChoiceScore, Classification, check_choices, continuation_ids
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.generation.fitting import Fitted, fit_messages, fit_raw
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.prompter import Prompter
from lmsupply_cli.render.sanitize import one_line
from lmsupply_cli.units import cut

_FIGURES = 21  # columns of the probability and the share, and the spaces before them


def classify_prompt(
    ctx: Context, wanted: ModelRequest, asked: PromptRequest, choices: Sequence[str], *, as_json: bool, every: bool
) -> None:
    """Print the best choice, all of them, or JSON. Raises the errors of what it uses; `main` reports them."""
    given = read_input(ctx, asked, model=wanted.name)
    if not given.prompt:
        raise no_prompt(asked.command, given.model or "")
    messages = given.messages
    with given.explained(asked.command), loaded(ctx, replace(wanted, name=given.model)) as generator:
        policy = overflow_policy(ctx.settings)
        fitted = fit_choices(generator, given.prompt if asked.raw else messages, choices, policy)
        for notice in fitted.notices:
            ctx.notice(notice)
        found = generator.classify_prompt(fitted.prompt, choices)
    if as_json:
        ctx.terminal.json(classify_object(found, generator.info, ctx.notices))
    elif every:
        for line in table(found.ranked, ctx.terminal.width):
            ctx.terminal.data(line)
    else:
        ctx.terminal.exact(found.best + "\n")


def read_choices(given: Sequence[str], file: str | None) -> tuple[str, ...]:
    """Of the options, without the blanks around them, then of the file, as is. Raises UsageError."""
    found = [choice.strip() for text in given for choice in text.split(",")]
    if file is not None:
        lines = read_text(Path(file)).split("\n")
        found += [line.removesuffix("\r") for line in lines if line.removesuffix("\r")]
    if not found:
        raise UsageError("there are no choices", hint="give at least two: --choices yes,no")
    return check_choices(found)


@contextmanager
def loaded(ctx: Context, wanted: ModelRequest) -> Iterator[TextGenerator]:
    """The model that classifies."""
    with load_model(ctx, prepared_for_choices(ctx, wanted).plan(ctx.settings)) as generator:
        yield generator


def prepared_for_choices(ctx: Context, wanted: ModelRequest) -> Prepared:
    """Nothing is generated, so only what concerns the cache is taken from the options."""
    return prepare(ctx, wanted, unused=[key for key in GENERATION_KEYS if key != "past_present_share_buffer"])


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
        "notices": notices_object(notices),
    }


def table(choices: Sequence[ChoiceScore], columns: int) -> list[str]:
    """A line for each of at most `columns`: text, probability, share."""
    most = max(10, columns - _FIGURES)
    texts = [cut(one_line(choice.text), most) for choice in choices]
    width = max(map(len, texts))
    return [
        f"{text.ljust(width)}  {choice.probability:>9.4g}  {choice.share:>6.1%}"
        for text, choice in zip(texts, choices, strict=True)
    ]

"""Which of some given answers a model finds most likely: the choices as tokens, and the result as a value."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from lmsupply_cli.chat.control import ControlTokenEscaper
from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.encoding import encode_inside
from lmsupply_cli.engine.base import TextModel, check_text
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import Usage


@dataclass(frozen=True, slots=True)
class ChoiceScore:
    """One choice: the probability that what follows the prompt begins with `text`, and its natural logarithm.

    `share`: the probability among the choices alone, which add up to 1; `tokens`: how many the text is."""

    text: str
    logprob: float
    probability: float
    share: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Classification:
    """`best`: the most likely choice, which is also `str()` of it; `choices` in the order given; `usage` counts no
    completion tokens, since nothing is generated.

    >>> from lmsupply import load
    >>> with load("guide") as model:
    ...     found = model.classify("thanks", ["Run", "Hello", "You are welcome!"])
    ...     print(found.best, [round(choice.share, 3) for choice in found.ranked])
    """

    best: str
    choices: tuple[ChoiceScore, ...]
    usage: Usage

    def __str__(self) -> str:
        return self.best

    @property
    def ranked(self) -> list[ChoiceScore]:
        """The choices, the most likely first."""
        return sorted(self.choices, key=lambda choice: -choice.logprob)


def check_choices(choices: Sequence[str]) -> tuple[str, ...]:
    """Raises UsageError for fewer than two, an empty one, one that is not text, or two that are the same."""
    if not isinstance(choices, (list, tuple)) or not all(isinstance(text, str) for text in choices):
        raise UsageError("choices must be a list of strings", hint='such as ["yes", "no"]')
    if len(choices) < 2:
        raise UsageError("there must be at least two choices", hint="give at least two")
    for number, text in enumerate(choices, 1):
        if not text:
            raise UsageError(f"choice {number} is empty", hint="leave it out, or write something")
        if text in choices[: number - 1]:
            raise UsageError(f"the choice {text!r} is given twice", hint="leave one of them out")
        check_text(text, f"choice {number}")
    return tuple(choices)


def continuation_ids(model: TextModel, prompt: Prompt, text: str) -> list[int]:
    """The tokens of `text` after the prompt: those that it has in the whole text, where the prompt's own tokens stay as
    they are, else those that it has by itself. Control strings in `text` stay plain text."""
    before = prompt.escaped.rsplit(prompt.sentinel, 1)[-1] if prompt.sentinel else prompt.text
    escaper = ControlTokenEscaper(prompt.control, avoid=text)
    first, *others = escaper.escape(text).split(escaper.sentinel)
    ids = _ids_after(model, before, prompt, first)
    for piece in others:
        ids += encode_inside(piece, model.encode)
    return ids


def _ids_after(model: TextModel, before: str, prompt: Prompt, text: str) -> list[int]:
    ids = prompt.ids
    for anchor in _anchors(before, prompt.control):
        base = model.encode(anchor)
        if tuple(ids[len(ids) - len(base) :]) == tuple(base):
            whole = model.encode(anchor + text)
            if whole[: len(base)] == base:
                return whole[len(base) :]
    return encode_inside(text, model.encode)


def _anchors(text: str, control_strings: Collection[str]) -> Iterator[str]:
    """Ends of `text` that may be encoded alone: from the last control string on, which no token reaches over, and all."""
    last = max((text.rfind(control) for control in control_strings), default=-1)
    if last > 0:
        yield text[last:]
    if text:
        yield text


def make_classification(
    texts: Sequence[str], continuations: Sequence[Sequence[int]], logprobs: Sequence[float], usage: Usage
) -> Classification:
    highest = max(logprobs)
    total = sum(math.exp(logprob - highest) for logprob in logprobs) if math.isfinite(highest) else math.inf
    choices = tuple(
        ChoiceScore(
            text,
            logprob,
            math.exp(logprob),
            math.exp(logprob - highest) / total if math.isfinite(highest) else 0.0,
            len(tokens),
        )
        for text, tokens, logprob in zip(texts, continuations, logprobs, strict=True)
    )
    return Classification(texts[list(logprobs).index(highest)], choices, usage)

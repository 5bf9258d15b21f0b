"""Make a prompt that fits the context, by the policy, and say what that took."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.overflow import Policy, drop_oldest_turn, truncate_last, truncate_text
from lmsupply_cli.chat.tools.spec import ToolRequest
from lmsupply_cli.engine.generate import overflow
from lmsupply_cli.events import Notice
from lmsupply_cli.generation.prompter import Prompter
from lmsupply_cli.units import shortened


class MakesPrompts(Protocol):
    """A generator, or what stands for it without its weights."""

    @property
    def context_tokens(self) -> int:
        """Tokens that a prompt and its answer may have together."""

    @property
    def prompter(self) -> Prompter:
        """Builds prompts."""


@dataclass(frozen=True)
class Fitted:
    """`messages` are those that the prompt holds; `notices` say what was left out."""

    prompt: Prompt
    messages: tuple[ChatMessage, ...]
    notices: tuple[Notice, ...]


def answer_room(generator: MakesPrompts, max_tokens: int) -> int:
    """Tokens that a shortened prompt leaves for the answer: what was asked for, at most a quarter of the context."""
    return max(1, min(max_tokens, generator.context_tokens // 4))


def fit_messages(
    generator: MakesPrompts,
    messages: Sequence[ChatMessage],
    *,
    policy: Policy,
    max_tokens: int,
    answer_prefix: str = "",
    tools: ToolRequest | None = None,
) -> Fitted:
    """`answer_prefix`: text that the answer starts with; `tools`: what it may call. `drop-oldest` also makes room for the
    answer: turns are dropped before the context is full. Raises DoesNotFit if the policy is `error` or cannot help."""
    prompt = generator.prompter.chat(messages, answer_prefix=answer_prefix, tools=tools)
    fitting = list(messages)
    whole = len(prompt.ids)
    limit = generator.context_tokens - answer_room(generator, max_tokens)
    if whole < generator.context_tokens and (policy != "drop-oldest" or whole <= limit):
        return Fitted(prompt, tuple(fitting), ())
    while len(prompt.ids) > limit:
        shorter = _shorter(generator, fitting, len(prompt.ids) - limit, policy)
        if shorter is None and policy == "drop-oldest" and len(prompt.ids) < generator.context_tokens:
            break  # the last turn alone leaves less room than it should, but some
        if shorter is None:
            raise overflow(whole, generator.context_tokens)
        fitting = shorter
        prompt = generator.prompter.chat(shorter, answer_prefix=answer_prefix, tools=tools)
    if len(prompt.ids) == whole:
        return Fitted(prompt, tuple(fitting), ())
    if policy == "drop-oldest":
        text = _dropped_text(messages, fitting) + f" ({whole:,} to {len(prompt.ids):,} tokens)"
    else:
        text = _cut_text(whole, len(prompt.ids), policy)
    return Fitted(prompt, tuple(fitting), (Notice("overflow", text),))


def fit_raw(generator: MakesPrompts, text: str, *, policy: Policy, max_tokens: int) -> Fitted:
    """As `fit_messages`, for text without a chat format."""
    prompt = generator.prompter.raw(text)
    whole = len(prompt.ids)
    if whole < generator.context_tokens:
        return Fitted(prompt, (), ())
    limit = generator.context_tokens - answer_room(generator, max_tokens)
    codec = generator.prompter.codec
    while len(prompt.ids) > limit:
        keep = _kept(policy)
        text = (
            truncate_text(text, len(prompt.ids) - limit, keep=keep, encode=codec.encode, decode=codec.decode)
            if keep
            else ""
        )
        if not text:
            raise overflow(whole, generator.context_tokens)
        prompt = generator.prompter.raw(text)
    return Fitted(prompt, (), (Notice("overflow", _cut_text(whole, len(prompt.ids), policy)),))


def _shorter(
    generator: MakesPrompts, messages: Sequence[ChatMessage], excess: int, policy: Policy
) -> list[ChatMessage] | None:
    if policy == "drop-oldest":
        return drop_oldest_turn(messages)
    keep = _kept(policy)
    if keep is None:
        return None
    codec = generator.prompter.codec
    return truncate_last(messages, excess, keep=keep, encode=codec.encode, decode=codec.decode)


def _dropped_text(messages: Sequence[ChatMessage], kept: Sequence[ChatMessage]) -> str:
    """What went, by its beginning."""
    gone = [m for m in messages if not any(m is other for other in kept)]
    turns = sum(1 for m in gone if m.role is ChatRole.USER)
    what = "the oldest turn was" if turns == 1 else f"the {turns} oldest turns were"
    return f"the context is full: {what} dropped, from “{shortened(gone[0].content, 40)}” on"


def _kept(policy: Policy) -> Literal["start", "end"] | None:
    """The side that stays."""
    kept: dict[Policy, Literal["start", "end"]] = {"truncate-start": "end", "truncate-end": "start"}
    return kept.get(policy)


def _cut_text(whole: int, kept: int, policy: Policy) -> str:
    side = "start" if policy == "truncate-start" else "end"
    return f"the prompt was cut at its {side} to fit the context: from {whole:,} to {kept:,} tokens"

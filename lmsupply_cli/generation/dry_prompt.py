"""What a run would send to a model, without its weights: the prompt, cut by the same rules, and the same notes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from lmsupply_cli.chat.formatter import PromptFormat
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.tokenizer import Tokenizer, load_tokenizer
from lmsupply_cli.errors import DoesNotFit, EngineError
from lmsupply_cli.events import Notice
from lmsupply_cli.generation.fitting import Fitted, fit_messages, fit_raw
from lmsupply_cli.generation.prompter import Prompter
from lmsupply_cli.loading.formats import FolderFormat, read_format
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.loading.plan import check_context
from lmsupply_cli.memory.budget import planning_bytes
from lmsupply_cli.memory.fit import LEAST_TOKENS, fit_context
from lmsupply_cli.memory.shape import read_shape

_MOST_TOKENS_PER_BYTE = 2  # one, and one more where a piece of its own begins


@dataclass
class DryGenerator:
    """Stands for a generator where prompts are made; it loads the tokenizer when something is counted."""

    folder: ModelFolder
    format: FolderFormat
    context_tokens: int

    @cached_property
    def prompter(self) -> Prompter:
        return Prompter(self.format.format, self._tokenizer)

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return load_tokenizer(self.folder, visible=self.format.visible)


@dataclass(frozen=True, slots=True)
class DryRequest:
    """`raw`: the last message as it stands; `policy`, `max_tokens`: as for a run."""

    messages: Sequence[ChatMessage]
    raw: bool = False
    policy: Policy = "error"
    max_tokens: int = 1

    def fitted(self, generator: DryGenerator) -> Fitted:
        if self.raw:
            text = self.messages[-1].content
            return fit_raw(generator, text, policy=self.policy, max_tokens=self.max_tokens)
        return fit_messages(generator, self.messages, policy=self.policy, max_tokens=self.max_tokens)


class DryPrompt(NamedTuple):
    """The exact text, what there is to say of it, and the format that made it."""

    text: str
    notices: tuple[Notice, ...]
    format: PromptFormat


def dry_prompt(folder: ModelFolder, request: DryRequest, options: LoadOptions) -> DryPrompt:
    """The tokenizer is loaded only where the prompt might be too long. Raises
    DoesNotFit, UsageError, ModelFilesError."""
    check_context(folder, options.context)
    chosen = read_format(
        folder, wanted=options.chat_format, enable_thinking=options.enable_thinking, effort=options.reasoning_effort
    )
    notices, last = list(chosen.notices), request.messages[-1].content
    if request.raw:
        begin = chosen.format.begin
        text = last if last.startswith(begin) else begin + last
    else:
        text = chosen.format.text(request.messages)
    most = len(text.encode()) * _MOST_TOKENS_PER_BYTE
    if most < min(options.context or LEAST_TOKENS, folder.model["context_length"]):
        return DryPrompt(text, tuple(notices), chosen.format)
    tokens = _context(folder, options)
    if most < tokens:
        return DryPrompt(text, tuple(notices), chosen.format)
    try:
        fitted = request.fitted(DryGenerator(folder, chosen, tokens))
    except EngineError as error:
        unknown = Notice("overflow", f"whether this prompt fits the context is not known: {error.message}")
        return DryPrompt(text, (*notices, unknown), chosen.format)
    shown = fitted.prompt.text if fitted.notices else text
    return DryPrompt(shown, (*notices, *fitted.notices), chosen.format)


def _context(folder: ModelFolder, options: LoadOptions) -> int:
    """As for a run, except that a prompt is shown whether or not the memory holds the model."""
    own: int = options.context or folder.model["context_length"]
    shape = read_shape(folder, provider=options.provider)
    limits = options.limits
    runs_on = folder.provider if options.provider == "auto" else options.provider
    budget = planning_bytes(limits.limit_bytes if limits else None, runs_on)
    if shape is None or budget is None:
        return own
    try:
        return fit_context(shape, budget, wanted_tokens=options.context).context_tokens
    except DoesNotFit:
        return own

"""What a run would send to a model, without its weights: the prompt, cut by the same rules, and the same notes."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from functools import cached_property

from lmsupply_cli.chat.formatter import ChatFormatter, Prompt, make_prompt, make_raw_prompt
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.genai_tokenizer import GenaiTokenizer, load_tokenizer
from lmsupply_cli.errors import DoesNotFit, EngineError
from lmsupply_cli.events import Notice
from lmsupply_cli.memory.fit import LEAST_TOKENS, fit_context
from lmsupply_cli.memory.shape import read_shape
from lmsupply_cli.runtime.budget import planning_bytes
from lmsupply_cli.runtime.fitting import Fitted, fit_messages, fit_raw
from lmsupply_cli.runtime.loader import check_context
from lmsupply_cli.runtime.prompting import read_format, render_prompt, set_thinking

_MOST_TOKENS_PER_BYTE = 2  # one, and one more where a piece of its own begins


class DryPrompter:
    """Stands for a generator where prompts are made; it loads the tokenizer when something is counted."""

    def __init__(
        self, folder: ModelFolder, formatter: ChatFormatter, *, context_tokens: int, bos: str, visible: Collection[str]
    ) -> None:
        self.context_tokens = context_tokens
        self._folder, self._formatter, self._visible = folder, formatter, visible
        self._bos_id = folder.bos_id if bos else None

    @cached_property
    def model(self) -> GenaiTokenizer:
        return load_tokenizer(self._folder, visible=self._visible)

    def chat_prompt(self, messages: Iterable[ChatMessage], *, begun: str = "") -> Prompt:
        return make_prompt(
            list(messages),
            self._formatter,
            control_strings=self._folder.control_strings,
            encode=self.model.encode,
            begun=begun,
        )

    def raw_prompt(self, text: str) -> Prompt:
        return make_raw_prompt(text, bos_id=self._bos_id, encode=self.model.encode)


def dry_prompt(
    folder: ModelFolder,
    messages: Sequence[ChatMessage],
    *,
    raw: bool,
    chat_format: str,
    thinks: bool,
    reasoning_effort: str | None,
    policy: Policy,
    max_tokens: int,
    context: int | None,
    provider: str,
    limit_bytes: int | None,
) -> tuple[str, list[Notice]]:
    """The text and what there is to say; `raw`: the last message as it stands, the others as for a run.

    The tokenizer is loaded only where the prompt might be too long. Raises DoesNotFit, UsageError, ModelFilesError.
    """
    check_context(folder, context)
    chosen = read_format(folder, wanted=chat_format)
    formatter, refused = set_thinking(chosen.formatter, chosen.markers, thinks=thinks, effort=reasoning_effort)
    notices = [Notice("chat_format", chosen.note)] if chosen.note else []
    notices += [Notice("reasoning", refused)] if refused else []
    text = messages[-1].content if raw else render_prompt(folder, messages, formatter)
    most = len(text.encode()) * _MOST_TOKENS_PER_BYTE
    if most < min(context or LEAST_TOKENS, folder.model["context_length"]):
        return text, notices
    tokens = _context(folder, provider, context, limit_bytes)
    if most < tokens:
        return text, notices
    visible = chosen.markers.visible if chosen.markers else ()
    prompter = DryPrompter(folder, formatter, context_tokens=tokens, bos=chosen.bos_token, visible=visible)
    try:
        fitted = _fit(prompter, messages, raw=raw, policy=policy, max_tokens=max_tokens)
    except EngineError as error:
        unknown = Notice("overflow", f"whether this prompt fits the context is not known: {error.message}")
        return text, [*notices, unknown]
    return (fitted.prompt.text if fitted.notices else text), [*notices, *fitted.notices]


def _fit(
    prompter: DryPrompter, messages: Sequence[ChatMessage], *, raw: bool, policy: Policy, max_tokens: int
) -> Fitted:
    if raw:
        return fit_raw(prompter, messages[-1].content, policy=policy, max_tokens=max_tokens)
    return fit_messages(prompter, messages, policy=policy, max_tokens=max_tokens)


def _context(folder: ModelFolder, provider: str, wanted: int | None, limit_bytes: int | None) -> int:
    """As for a run, except that a prompt is shown whether or not the memory holds the model."""
    own: int = wanted or folder.model["context_length"]
    shape = read_shape(folder, provider=provider)
    budget = planning_bytes(limit_bytes, folder.provider if provider == "auto" else provider)
    if shape is None or budget is None:
        return own
    try:
        return fit_context(shape, budget, wanted_tokens=wanted).context_tokens
    except DoesNotFit:
        return own

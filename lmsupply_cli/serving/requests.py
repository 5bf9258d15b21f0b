"""What a front end asks of models that are loaded elsewhere: values that cross a process boundary, and the protocols
that answer them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.tools.spec import ToolSpec
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.events import GenerationEvent, Notice
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.loading.options import LoadOptions


@dataclass(frozen=True, slots=True)
class AnswerRequest:
    """One answer. Exactly one of `messages`, `text` (a raw prompt, without the chat format) and `ids` (its tokens).

    `told`: the model is told of the tools even where it must not call one; `suffix`: what stands behind the answer to a `text`, None for an answer that goes on with it (`Prompter.infill`);
    `options`: generation options by name that override the model's own; `answer_prefix`: text that the answer starts
    with; `enable_thinking`, `reasoning_effort`: None for the model's default; `tool_choice` as in `generate_chat`;
    `thinking_is_wish`: a model that cannot do as those two say answers as it can, else it is an error.
    """

    messages: tuple[ChatMessage, ...] = ()
    text: str | None = None
    suffix: str | None = None
    ids: tuple[int, ...] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    answer_prefix: str = ""
    tools: tuple[ToolSpec, ...] = ()
    tool_choice: str | Mapping[str, Any] = "auto"
    parallel_tool_calls: bool = True
    told: bool = False
    guidance: Guidance | None = None
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None
    thinking_is_wish: bool = False


class Answer(Protocol):
    """An accepted request: its prompt is built and fits. Iterate over its events once; the last one is `Finished`.
    Whoever stops before that calls `cancel`."""

    prompt_tokens: int
    notices: tuple[Notice, ...]

    def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        """The events. Raises what the generation raises; WorkerDied if the process of the model ended."""

    def cancel(self) -> None:
        """End the answer within one step, if it has not finished; a second call does nothing. It never blocks."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model that can be asked for. `loaded`: its weights are in memory now. `modified`: seconds since the epoch;
    `size_bytes`: on disk. `digest`: of its record, as hex digits."""

    ref: str
    aliases: tuple[str, ...]
    context_length: int
    size_bytes: int
    modified: float
    digest: str
    family: str = ""
    parameters: float | None = None
    precision: str = ""
    license: str = ""
    tools: bool = False
    thinking: bool = False
    loaded: bool = False


@dataclass(frozen=True, slots=True)
class LoadedWorker:
    """A model in memory. `bytes`: measured, of its process; `context_tokens`: of one conversation; `expires_s`: seconds
    until it is unloaded if nobody asks for it, None for never; `running` and `waiting` requests."""

    ref: str
    bytes: int
    context_tokens: int
    provider: str
    pid: int
    pinned: bool
    expires_s: float | None
    running: int
    waiting: int
    answered: int


@dataclass(frozen=True, slots=True)
class WarmModel:
    """A model in memory, and how it came to be so. `load`: as it was asked for; `notices`: of the load."""

    info: ModelInfo
    context_tokens: int
    load: LoadOptions
    notices: tuple[Notice, ...] = ()


class Models(Protocol):
    """Answers by model. Model names are refs or aliases of installed models and of the guide, never paths."""

    def installed(self) -> Sequence[ServedModel]:
        """The models that can be asked for."""

    def loaded(self) -> Sequence[LoadedWorker]:
        """The models in memory."""

    def find(self, model: str) -> ServedModel:
        """Raises ModelNotFound, ModelNotInstalled."""

    def warm(self, model: str) -> WarmModel | None:
        """A model that is in memory now, None for another. Raises ModelNotFound, ModelNotInstalled."""

    async def answer(self, model: str, request: AnswerRequest, *, keep_alive_s: float | None = None) -> Answer:
        """Load the model if needed, wait for a place in its queue, build the prompt. `keep_alive_s`: how long the model
        stays loaded afterwards (0: unload when idle, infinity: never unload, None: the server's default). Raises
        ModelNotFound, ModelNotInstalled, LicenseNotAccepted, UsageError, ContextOverflow, DoesNotFit, QueueFull,
        QueueTimeout, WorkerDied."""

    async def count_tokens(self, model: str, request: AnswerRequest) -> int:
        """Tokens of the prompt. Raises what `answer` raises, except for the queue's."""

    async def load(self, model: str, *, keep_alive_s: float | None = None) -> None:
        """Load a model without asking it."""

    async def unload(self, model: str) -> bool:
        """Unload a model after its running answers; whether it was loaded."""

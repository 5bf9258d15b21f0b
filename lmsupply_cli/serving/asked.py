"""From a request to a prompt that is ready to be answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from lmsupply_cli.chat.cached_prompt import CachedPrompt
from lmsupply_cli.chat.control import ControlTokenEscaper
from lmsupply_cli.chat.formatter import Prompt
from lmsupply_cli.chat.tools.spec import ToolRequest
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.errors import UsageError
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.prompter import Prompter
from lmsupply_cli.serving.requests import AnswerRequest


class PolledCancel(CancelToken):
    """Looks for news each time it is asked: the engine asks before every chunk and every token."""

    def __init__(self, poll: Callable[[], None]) -> None:
        super().__init__()
        self._poll = poll

    @property
    def cancelled(self) -> bool:
        """Whether it was cancelled, or is by what has just arrived."""
        self._poll()
        return super().cancelled


@dataclass(eq=False)
class Asked:
    """A request whose prompt is made, without a cache. `common`: how many tokens its prompt has in common with that of
    another request, by its id, as far as anyone asked; `cached`: how many are in an idle cache, and when that was."""

    id: int
    prompt: Prompt
    options: GenerationOptions
    guidance: Guidance | None
    cancel: CancelToken = field(default_factory=CancelToken)
    common: dict[int, int] = field(default_factory=dict)
    cached: tuple[int, int] | None = None


class PromptMaker:
    """Makes prompts of requests. All have one sentinel where that is possible, so that any of them may go on with the
    cache of another."""

    def __init__(self, generator: TextGenerator, *, default_thinking: bool = True) -> None:
        """`default_thinking`: as the model was loaded."""
        self._generator, self._thinking = generator, default_thinking
        start = CachedPrompt("", (), ControlTokenEscaper(()).sentinel)
        self._prompter = replace(generator.prompter, cached=lambda: start)

    def make(self, id: int, request: AnswerRequest, cancel: CancelToken) -> Asked:
        """Raises UsageError, ContextOverflow for what cannot be answered."""
        generator = self._generator
        options = generator.options.replaced(**request.options)
        guidance = request.guidance or generator.guidance
        if guidance is not None:
            check_guidance(guidance)
        generator.check_options(options, guidance)
        prompt = self.prompt(request)
        generator.check_prompt(prompt)
        return Asked(id, prompt, options, request.guidance, cancel)

    def prompt(self, request: AnswerRequest) -> Prompt:
        """Raises UsageError."""
        given = [request.messages or None, request.text, request.ids]
        if sum(one is not None for one in given) != 1:
            raise UsageError("a request needs exactly one of messages, text and token IDs")
        if request.messages:
            tools = ToolRequest.of(request.tools, request.tool_choice, parallel=request.parallel_tool_calls)
            tools = replace(tools, told=request.told)
            prompter = self._with_thinking(request)
            return prompter.chat(request.messages, answer_prefix=request.answer_prefix, tools=tools)
        _check_raw(request)
        if request.ids is not None:
            return self._of_ids(request.ids)
        assert request.text is not None
        if request.suffix is not None:
            return self._prompter.infill(request.text, request.suffix)
        return self._prompter.raw(request.text)

    def with_cache(self, prompt: Prompt, cached: CachedPrompt | None) -> Prompt:
        """`prompt` with the ids of `cached` where their texts agree: those that were generated."""
        if cached is None or not prompt.escaped or cached.sentinel != prompt.sentinel:
            return prompt
        known = cached.reusable_prefix(prompt.escaped, prompt.control)
        if known is None:
            return prompt
        before, at = known
        escaper = ControlTokenEscaper(prompt.control, sentinel=prompt.sentinel)
        return replace(prompt, ids=(*before, *escaper.encode(prompt.escaped[at:], self._prompter.codec.encode)))

    def _with_thinking(self, request: AnswerRequest) -> Prompter:
        if request.enable_thinking is None and request.reasoning_effort is None:
            return self._prompter
        enable = self._thinking if request.enable_thinking is None else request.enable_thinking
        prompter, refused = self._prompter.with_thinking(enable, effort=request.reasoning_effort)
        if refused and not request.thinking_is_wish:
            asked = "enable_thinking" if "switch" in refused else "reasoning_effort"
            raise UsageError(refused).of(asked)
        return prompter

    def _of_ids(self, ids: tuple[int, ...]) -> Prompt:
        size = self._generator.model.shape.vocabulary
        if beyond := [token for token in ids if not 0 <= token < size]:
            raise UsageError(f"token {beyond[0]} is outside the vocabulary of {size:,}")
        return Prompt("", ids, (), continues=True, control=self._prompter.format.control)


def _check_raw(request: AnswerRequest) -> None:
    """Raises UsageError for what only a chat has."""
    for name in ("tools", "answer_prefix", "enable_thinking", "reasoning_effort"):
        if getattr(request, name) not in (None, "", ()):
            raise UsageError(f"`{name}` needs messages, not a raw text", hint=f"leave out `{name}`").of(name)

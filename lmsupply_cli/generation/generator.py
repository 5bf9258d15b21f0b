"""TextGenerator: a loaded model that answers prompts and chats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from lmsupply_cli.chat.formatter import ChatFormatter, Prompt, PromptFormat
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.chat.tools.spec import ToolRequest
from lmsupply_cli.engine.base import Decoder, TextModel
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.classify import check_continuations, check_room, score_continuations
from lmsupply_cli.engine.generate import Drafting, Growth, Task, overflow, stream_events
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import Matcher, check_guidance
from lmsupply_cli.engine.options import GenerationKeywords, GenerationOptions, check_bias
from lmsupply_cli.engine.prefill import Run
from lmsupply_cli.errors import DoesNotFit, LmsupplyError, UsageError
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    Notice,
    Usage,
)
from lmsupply_cli.generation.answers import Answers, Messages, check_type
from lmsupply_cli.generation.classification import Classification, check_choices, continuation_ids, make_classification
from lmsupply_cli.generation.completion import Completion, ModelInfo
from lmsupply_cli.generation.prompt_cache import PromptCache
from lmsupply_cli.generation.prompter import Prompter
from lmsupply_cli.generation.reading import AnswerReader, Watched
from lmsupply_cli.generation.speculation import Speculation
from lmsupply_cli.generation.tools import form_notice, guidance_for, text_rule
from lmsupply_cli.generation.turns import Turns
from lmsupply_cli.hardware.host import give_back_memory
from lmsupply_cli.memory.budget import MemoryBudget
from lmsupply_cli.memory.estimate import guidance_bytes
from lmsupply_cli.memory.shape import MemoryShape

if TYPE_CHECKING:
    pass

_SMALL_ROOM = 256  # tokens: an answer begins in what is left of a cache that has read most of its prompt
ROOM_TOKENS = 2048
"""Room in the first cache for an answer without a limit. The engine allocates and clears a whole cache at once, so one for a
long context would delay every short answer. An answer that outgrows its cache gets a larger one and is prefilled again."""


@dataclass(frozen=True)
class GeneratorLimits:
    """`context_tokens`: at most the model's own, by default that; `fitting_tokens`: the largest context that fits the
    memory; `reserve_tokens`: cache to allocate from the start, for chats; `budget`: a limit that is checked before and
    while text is generated; `memory_shape`: what the model's memory depends on, where that is known."""

    context_tokens: int | None = None
    fitting_tokens: int | None = None
    reserve_tokens: int = 0
    budget: MemoryBudget | None = None
    memory_shape: MemoryShape | None = None


def check_together(options: GenerationOptions, guidance: Guidance | None, vocabulary: int) -> None:
    """Raises UsageError for options that can't be combined with the guidance, or a vocabulary of this size."""
    if guidance and options.num_beams > 1:
        raise UsageError("beam search cannot be combined with a schema, regex or grammar", hint="leave out `num_beams`")
    check_bias(options, vocabulary)


class TextGenerator(Answers):
    """Generates with one model, one answer at a time. Use it in `with`, or close it.

    The prompt cache is kept between calls: only the part of a prompt that differs from the last one is processed.
    Options passed to a call override `options`. A call from a second thread while an answer is generated raises
    EngineError; use a GeneratorPool for several threads.

    >>> from lmsupply import load
    >>> with load("guide") as model:
    ...     for piece in model.stream_text("thanks", temperature=0, stop="!"):
    ...         print(piece, end="")
    """

    def __init__(
        self,
        model: TextModel,
        format: PromptFormat | ChatFormatter,
        info: ModelInfo,
        *,
        options: GenerationOptions | None = None,
        guidance: Guidance | None = None,
        limits: GeneratorLimits | None = None,
        speculation: Speculation | None = None,
    ) -> None:
        """`format`: how prompts are built; `options`, `guidance`: defaults for calls that pass none."""
        limits = limits or GeneratorLimits()
        self.model, self.info = model, info
        self.options = options or GenerationOptions()
        self.guidance, self.speculation = guidance, speculation
        self.budget, self.memory_shape = limits.budget, limits.memory_shape
        self.context_tokens = limits.context_tokens or info.context_length
        self.fitting_tokens = min(limits.fitting_tokens or info.context_length, info.context_length)
        self.load_s = 0.0
        self.notices: tuple[Notice, ...] = ()
        self.cache = self._new_cache(limits.reserve_tokens)
        own = format if isinstance(format, PromptFormat) else PromptFormat(format)
        self.prompter = Prompter(own, model, lambda: self.cache.cached)
        self._turns = Turns()
        self._is_owner = True

    def sibling(self, *, reserve_tokens: int = 0) -> TextGenerator:
        """A second generator that shares this model's weights, with its own prompt cache; closing it leaves the model
        loaded. `reserve_tokens`: KV cache to allocate from the start. Raises EngineError if this one is closed."""
        self._turns.check_open()
        limits = GeneratorLimits(
            self.context_tokens, self.fitting_tokens, reserve_tokens, self.budget, self.memory_shape
        )
        speculation = self.speculation.sibling() if self.speculation else None
        other = TextGenerator(
            self.model,
            self.prompter.format,
            self.info,
            options=self.options,
            guidance=self.guidance,
            limits=limits,
            speculation=speculation,
        )
        other.load_s, other.notices, other._is_owner = self.load_s, self.notices, False
        return other

    def warm_up(self) -> None:
        """Run one token, so that lazy initialization does not slow the first answer."""
        decoder = self._decoder_for(2, self.options)
        if not decoder.tokens:
            decoder.append([next(iter(self.prompter.format.begin_ids), 0)])
            decoder.logits()
            decoder.rewind(0)

    def stream(
        self,
        prompt: str,
        *,
        raw: bool = False,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Iterator[GenerationEvent]:
        """Like `generate`, as events: progress of the prefill, pieces of text, and `Finished`."""
        check_type(prompt, str, "prompt", "a string")
        made = self.prompter.raw(prompt) if raw else self.prompter.chat([ChatMessage.user(prompt)])
        return self.stream_prompt(made, self.options.replaced(**options), guidance=guidance, cancel=cancel)

    def stream_chat(
        self,
        messages: Messages,
        *,
        tools: Iterable[Any] | None = None,
        tool_choice: str | Mapping[str, Any] = "auto",
        parallel_tool_calls: bool = True,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> Iterator[GenerationEvent]:
        """Like `generate_chat`, as events."""
        request = ToolRequest.of(() if tools is None else tools, tool_choice, parallel=parallel_tool_calls)
        made = self.prompter.chat(as_messages(messages), tools=request)
        return self.stream_prompt(made, self.options.replaced(**options), guidance=guidance, cancel=cancel)

    def generate_batch(
        self,
        prompts: Sequence[str | Sequence[ChatMessage | Mapping[str, Any]]],
        *,
        batch_size: int | None = None,
        guidance: Guidance | None = None,
        **options: Unpack[GenerationKeywords],
    ) -> list[Completion]:
        """The answers to several prompts or chats, in order, `batch_size` at once, which is faster than one at a time.
        By default 8 or as many as fit in memory, and one at a time where that is faster because prompts share a long
        prefix. `guidance`: a constraint on each answer. Raises DoesNotFit, UsageError."""
        from lmsupply_cli.generation.batch import answer_all

        if isinstance(prompts, str):
            raise UsageError("prompts must be a list of prompts, not one string", hint="use generate for one prompt")
        chosen = self.options.replaced(**options)
        return answer_all(self, prompts, batch_size=batch_size, guidance=guidance, options=chosen)

    def classify(self, prompt: str | Messages, choices: Sequence[str], *, raw: bool = False) -> Classification:
        """How likely each of `choices` (at least two) is as the beginning of the answer to a prompt or a chat; nothing is
        generated. The probabilities are the model's own: sampling options and guidance are not used, and longer
        choices tend to be less likely. A choice that is a prefix of another is at least as likely, so choose texts that
        differ from the start. `raw` takes the prompt as is, without the chat format. A reasoning
        model thinks before it answers: load it with `enable_thinking=False`. Raises UsageError, DoesNotFit before any
        work."""
        if isinstance(prompt, str):
            made = self.prompter.raw(prompt) if raw else self.prompter.chat([ChatMessage.user(prompt)])
        elif raw:
            raise UsageError("raw takes a text, not a chat", hint="leave raw out, or give the text as it stands")
        else:
            made = self.prompter.chat(as_messages(prompt))
        return self.classify_prompt(made, choices)

    def classify_prompt(self, prompt: Prompt, choices: Sequence[str]) -> Classification:
        """Like `classify`, for an already built `Prompt`."""
        texts = check_choices(choices)
        self.check_prompt(prompt)
        continuations = [continuation_ids(self.model, prompt, text) for text in texts]
        check_continuations(continuations)
        check_room(len(prompt.ids), continuations, self.context_tokens)
        with self._turns.alone():
            run = Run()
            decoder = self._decoder_for(len(prompt.ids) + max(map(len, continuations)), self.options)
            logprobs = score_continuations(decoder, prompt.ids, continuations, run=run)
        return make_classification(texts, continuations, logprobs, Usage(len(prompt.ids), run.cached_tokens))

    def count_tokens(self, text: str) -> int:
        """Number of tokens of a message with this text, without its format."""
        check_type(text, str, "text", "a string")
        return self.prompter.count_tokens(text)

    @property
    def cached_tokens(self) -> int:
        """Tokens in the prompt cache now."""
        return len(self.cache.tokens)

    def cached_prefix_tokens(self, ids: Sequence[int]) -> int:
        """Length of the prefix of `ids` that is in the prompt cache."""
        return self.cache.cached_prefix_tokens(ids)

    def resize_context(self, tokens: int) -> None:
        """Set the context length to `tokens`. Raises UsageError if the model's own is smaller, DoesNotFit if it needs
        too much memory."""
        if not 0 < tokens <= self.info.context_length:
            raise UsageError(f"a context of {tokens:,} is not between 1 and the model's {self.info.context_length:,}")
        if tokens > self.fitting_tokens:
            raise DoesNotFit(
                f"a context of {tokens:,} tokens does not fit in memory", hint=f"{self.fitting_tokens:,} fits"
            )
        self.context_tokens = tokens

    def check_prompt(self, prompt: Prompt) -> None:
        """Raises LmsupplyError for a prompt without tokens, DoesNotFit for one that leaves no room for an answer."""
        if not prompt.ids:
            raise LmsupplyError("the prompt has no tokens", hint="write something to answer")
        if len(prompt.ids) >= self.context_tokens:
            raise overflow(len(prompt.ids), self.context_tokens)

    def needed_tokens(self, prompt: Prompt, options: GenerationOptions) -> int:
        """Tokens that the cache must hold when an answer to `prompt` begins; it gets a larger one when it needs that. An
        answer without a limit begins with less than the context, and one whose prompt is cached for the most part
        with what is left: most answers end before that, and in a larger cache all would be read again."""
        limited = options.max_tokens < self.context_tokens or options.num_beams > 1
        read = len(prompt.ids)
        needed = min(read + (options.max_tokens if limited else ROOM_TOKENS), self.context_tokens)
        held = self.cache.capacity_tokens
        if read + _SMALL_ROOM <= held < needed and options.num_beams == 1:
            needed = held if 2 * self.cached_prefix_tokens(prompt.ids) >= read else needed
        return needed

    def check_options(self, options: GenerationOptions, guidance: Guidance | None) -> None:
        """Raises UsageError for options that can't be combined with the guidance or the model."""
        check_together(options, guidance, self.model.shape.vocabulary)

    def stream_prompt(
        self,
        prompt: Prompt,
        options: GenerationOptions | None = None,
        *,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        pulses: bool = False,
    ) -> Iterator[GenerationEvent]:
        """Events for an already built `Prompt`; `pulses`: one for every step, so that others can take a turn. Raises
        DoesNotFit before any work, UsageError for options that exclude each other."""
        options, guidance = options or self.options, guidance or self.guidance
        if guidance is not None:
            check_type(guidance, Guidance, "guidance", "a Guidance, such as Guidance.json_schema(…)")
        prompt, guidance = self._with_tools(prompt, guidance)
        turn = prompt.tools
        self.check_options(options, guidance)
        self.check_prompt(prompt)
        task = Task(
            prompt.ids,
            options.replaced(stop=()) if turn else options,
            () if turn else prompt.stop,
            prompt.stop_ids,
            self.new_matcher(guidance, prompt.answer_prefix) if guidance else None,
            prompt.continues,
            turn.shown if turn else None,
            pulses,
        )
        stops = (*options.stop, *prompt.stop) if turn else ()
        return self._turns.guarded(self._events(prompt, task, stops, cancel))

    def _with_tools(self, prompt: Prompt, guidance: Guidance | None) -> tuple[Prompt, Guidance | None]:
        """With the guidance of its tools, beside another one for the text."""
        if prompt.tools is None:
            return prompt, guidance
        if guidance is None:
            return prompt, guidance_for(prompt.tools)
        if not prompt.tools.request.callable:
            return replace(prompt, tools=None), guidance
        check_guidance(guidance)
        turn = replace(prompt.tools, guided=text_rule(guidance))
        return replace(prompt, tools=turn), guidance_for(turn)

    def new_matcher(self, guidance: Guidance, answer_prefix: str = "") -> Matcher:
        """A matcher for one answer that follows `guidance` and begins with `answer_prefix`. Raises UsageError,
        DoesNotFit if the guidance tables exceed the memory limit."""
        shape = self.memory_shape
        if self.budget and shape and not shape.guided:
            self.budget.check(
                guidance_bytes(shape), "the tables of the guidance", hint="raise `memory_limit`, or use a smaller model"
            )
            self.memory_shape = replace(shape, guided=True)  # they are made once
        matcher = self.model.new_matcher(guidance)
        matcher.resume(answer_prefix)
        return matcher

    def clear_cache(self) -> None:
        """Free the KV cache, and abandon an answer that is being generated."""
        self._turns.abandon()
        self.cache.clear()

    def close(self) -> None:
        """Free cache and weights; a second call does nothing."""
        self._turns.close()
        self.cache.clear()
        if self._is_owner:
            self.model.close()
        if self.speculation:
            self.speculation.close(owner=self._is_owner)
        if self._is_owner:
            give_back_memory()

    def __enter__(self) -> TextGenerator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _new_cache(self, reserve_tokens: int) -> PromptCache:
        check = self.budget.check_cache if self.budget else lambda _: None
        return PromptCache(self.model, reserve_tokens=reserve_tokens, check=check)

    def _decoder_for(self, tokens: int, options: GenerationOptions) -> Decoder:
        """The decoder of the prompt cache, with room for so many tokens, at most the context."""
        most, share_buffer = self.context_tokens, options.past_present_share_buffer
        return self.cache.decoder_for(min(tokens, most), most=most, share_buffer=share_buffer)

    def _events(
        self, prompt: Prompt, task: Task, stops: Sequence[str], cancel: CancelToken | None
    ) -> Iterator[GenerationEvent]:
        """`stops`: of an answer that may call tools; the task's are found below."""
        options = task.options
        decoder = self._decoder_for(self.needed_tokens(prompt, options), options)
        ending, run, drafting = CancelToken(cancel), Run(), None
        if self.speculation:
            drafting, note = self.speculation.for_answer(decoder, options, self.model)
            if note:
                yield Notice("speculative", note)

        def enlarge(tokens: int) -> tuple[Decoder, Drafting | None]:
            larger = self._decoder_for(2 * tokens, options)
            again = self.speculation and drafting and self.speculation.enlarged(drafting, larger, self.model)
            return larger, again or None

        growth = Growth(self.context_tokens, enlarge)
        reader = AnswerReader(prompt, task, stops, ending)
        if prompt.tools and (notice := form_notice(prompt.tools)):
            yield notice
        events = stream_events(self.model, decoder, task, cancel=ending, run=run, drafting=drafting, growth=growth)
        watch = Watched(self.budget.watch(), ending) if self.budget else None
        try:
            for event in events:
                if isinstance(event, Finished):
                    yield from reader.end(event, load_s=self.load_s, memory=bool(watch and watch.critical))
                    return
                yield from reader.read(event, run.completion_tokens)
                if watch and (notice := watch.look()):
                    yield notice
        finally:
            self.cache.remember(prompt, run.ids)

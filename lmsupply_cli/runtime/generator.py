"""TextGenerator: a loaded model that answers prompts and chats."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace
from typing import Any

from lmsupply_cli.chat.formatter import ChatFormatter, Prompt, make_prompt, make_raw_prompt
from lmsupply_cli.chat.messages import ChatMessage, as_messages
from lmsupply_cli.chat.reasoning import Markers, Piece, make_splitter
from lmsupply_cli.chat.segments import Defuser
from lmsupply_cli.chat.spoken import Spoken
from lmsupply_cli.engine.base import Decoder, Guessing, TextModel
from lmsupply_cli.engine.cancel import CancelToken
from lmsupply_cli.engine.classify import check_continuations, check_room, score_continuations
from lmsupply_cli.engine.generate import Run, overflow, stream_events
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.engine.prompt_cache import plan_reuse
from lmsupply_cli.errors import DoesNotFit, LmsupplyError, UsageError
from lmsupply_cli.events import (
    Finished,
    FinishReason,
    GenerationEvent,
    Notice,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    Usage,
)
from lmsupply_cli.hardware.host import give_back_memory
from lmsupply_cli.memory.shape import MemoryShape
from lmsupply_cli.runtime.budget import MemoryBudget, memory_notice
from lmsupply_cli.runtime.classification import Classification, check_choices, continuation_ids, make_classification
from lmsupply_cli.runtime.completion import Completion, ModelInfo, complete
from lmsupply_cli.runtime.speculation import Speculation


class TextGenerator:
    """Generates with one model, one answer at a time. Use it in `with`, or close it.

    The prompt cache is kept between calls: a prompt that begins like the last one is read only
    from where it differs. Options given to a call override `options`.
    """

    def __init__(
        self,
        model: TextModel,
        formatter: ChatFormatter,
        info: ModelInfo,
        *,
        options: GenerationOptions | None = None,
        context_tokens: int | None = None,
        reserve_tokens: int = 0,
        begins_with: int | None = None,
        budget: MemoryBudget | None = None,
        load_s: float = 0.0,
        markers: Markers | None = None,
        fitting_tokens: int | None = None,
        notices: Sequence[Notice] = (),
        speculation: Speculation | None = None,
        guidance: Guidance | None = None,
        memory_shape: MemoryShape | None = None,
    ) -> None:
        """`context_tokens`: at most the model's own; `reserve_tokens`: cache to allocate from the start, for chats;
        `begins_with`: the token that raw text must begin with, where the model has one; `budget`: a limit that
        is checked before and while text is generated; `markers`: how the model marks its thoughts; `fitting_tokens`:
        the largest context that fits the memory; `notices`: what the user should know of how it was loaded;
        `speculation`: how to guess ahead; `guidance`: what answers follow that are not given another; `memory_shape`:
        what its memory depends on, where that is known."""
        self.model = model
        self.formatter = formatter
        self.info = info
        self.options = options or GenerationOptions()
        self.context_tokens = context_tokens or info.context_length
        self.load_s = load_s
        self.markers = markers
        self.speculation = speculation
        self.guidance = guidance
        self.memory_shape = memory_shape
        self.notices = tuple(notices)
        self.fitting_tokens = min(fitting_tokens or info.context_length, info.context_length)
        self._reserve = reserve_tokens
        self._begins_with = begins_with
        self._budget = budget
        self._decoder: Decoder | None = None
        self._made_for: tuple[bool | None, Guidance | None, Guessing | None] = (None, None, None)
        self._turn = 0
        self._noted = ""  # of guesses, last
        self._spoken: Spoken | None = None
        self._owner = True

    @property
    def model_info(self) -> ModelInfo:
        """What the model is, and how it is run."""
        return self.info

    @property
    def budget(self) -> MemoryBudget | None:
        """The limit that was set on its memory, None where none was."""
        return self._budget

    def sibling(self) -> TextGenerator:
        """Another one on the same model, with a prompt cache of its own; closing it leaves the model loaded."""
        other = copy(self)
        other._decoder, other._spoken, other._owner = None, None, False
        other.speculation = self.speculation.sibling() if self.speculation else None
        return other

    def warm_up(self) -> None:
        """Let the engine do once what it does for the first token, so that the first answer is not slower."""
        decoder = self._decoder_for(min(2, self.context_tokens), self.options, None)
        if not decoder.tokens:
            decoder.append([self._begins_with or 0])
            decoder.logits()
            decoder.rewind(0)

    def generate_batch(
        self,
        prompts: Sequence[str | Sequence[ChatMessage | Mapping[str, str]]],
        *,
        batch_size: int | None = None,
        guidance: Guidance | None = None,
        **options: Any,
    ) -> list[Completion]:
        """The answers to several prompts or chats, in order, `batch_size` at once: faster than one after the other.
        By default 8 or what fits the memory, and one after the other where that is faster, since long beginnings that
        prompts share are then read once. `guidance`: what each answer must follow. Raises DoesNotFit, UsageError."""
        from lmsupply_cli.runtime.batch_runner import answer_all

        return answer_all(
            self, prompts, batch_size=batch_size, guidance=guidance, options=self.options.replaced(**options)
        )

    def generate(
        self, prompt: str, *, raw: bool = False, guidance: Guidance | None = None, **options: Any
    ) -> Completion:
        """The answer to one prompt; `raw` sends the text as it stands, without the chat format; `guidance`: what the
        answer must follow."""
        return complete(self.stream(prompt, raw=raw, guidance=guidance, **options))

    def stream(
        self,
        prompt: str,
        *,
        raw: bool = False,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Iterator[GenerationEvent]:
        """Like `generate`, as events: progress of the prefill, pieces of text, and `Finished`."""
        made = self.raw_prompt(prompt) if raw else self.chat_prompt([ChatMessage.user(prompt)])
        return self.stream_prompt(made, self.options.replaced(**options), guidance=guidance, cancel=cancel)

    def generate_chat(
        self,
        messages: Iterable[ChatMessage | Mapping[str, str]],
        *,
        guidance: Guidance | None = None,
        **options: Any,
    ) -> Completion:
        """The assistant's next message."""
        return complete(self.stream_chat(messages, guidance=guidance, **options))

    def stream_chat(
        self,
        messages: Iterable[ChatMessage | Mapping[str, str]],
        *,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
        **options: Any,
    ) -> Iterator[GenerationEvent]:
        """Like `generate_chat`, as events."""
        made = self.chat_prompt(as_messages(messages))
        return self.stream_prompt(made, self.options.replaced(**options), guidance=guidance, cancel=cancel)

    def classify(
        self,
        prompt: str | Sequence[ChatMessage | Mapping[str, str]],
        choices: Sequence[str],
        *,
        raw: bool = False,
    ) -> Classification:
        """How likely each of `choices` (at least two) is as the beginning of the answer to a prompt or a chat; nothing is
        generated. The probabilities are the model's own: neither sampling options nor a guidance play a part, and a
        longer choice is less likely by its length. A choice that begins another one is at least as likely, so choose
        texts that differ from the start. `raw` takes the prompt as it stands, without the chat format. A reasoning
        model thinks before it answers: load it with `thinks=False`. Raises UsageError, DoesNotFit before any work."""
        if not isinstance(prompt, str):
            if raw:
                raise UsageError("raw takes a text, not a chat", hint="leave raw out, or give the text as it stands")
            return self.classify_prompt(self.chat_prompt(as_messages(prompt)), choices)
        made = self.raw_prompt(prompt) if raw else self.chat_prompt([ChatMessage.user(prompt)])
        return self.classify_prompt(made, choices)

    def classify_prompt(self, prompt: Prompt, choices: Sequence[str]) -> Classification:
        """As `classify`, for a prompt that is made already."""
        texts = check_choices(choices)
        self.check_prompt(prompt)
        continuations = [continuation_ids(self.model, prompt, text) for text in texts]
        check_continuations(continuations)
        check_room(len(prompt.ids), continuations, self.context_tokens)
        self._turn += 1  # an answer that was begun is given up
        decoder = self._decoder_for(len(prompt.ids) + max(map(len, continuations)), self.options, None)
        run = Run()
        logprobs = score_continuations(decoder, prompt.ids, continuations, run=run)
        return make_classification(texts, continuations, logprobs, Usage(len(prompt.ids), run.cached_tokens))

    def count_tokens(self, text: str) -> int:
        """How many tokens the text is, as a text of its own: without the chat format and a beginning."""
        return len(self.model.encode(text))

    @property
    def cached_tokens(self) -> int:
        """Tokens in the prompt cache now."""
        return len(self._decoder.tokens) if self._decoder is not None else 0

    def common_tokens(self, ids: Sequence[int]) -> int:
        """How many of `ids`, from the first, are in the prompt cache."""
        return plan_reuse(self._decoder.tokens, ids).rewind_to if self._decoder is not None else 0

    def resize_context(self, tokens: int) -> None:
        """Let the context hold `tokens`. Raises UsageError beyond the model's own, DoesNotFit beyond the memory."""
        if not 0 < tokens <= self.info.context_length:
            raise UsageError(f"a context of {tokens} is not between 1 and the model's {self.info.context_length}")
        if tokens > self.fitting_tokens:
            raise DoesNotFit(
                f"a context of {tokens:,} tokens does not fit the memory", hint=f"{self.fitting_tokens} fits"
            )
        self.context_tokens = tokens

    def chat_prompt(self, messages: Iterable[ChatMessage], *, begun: str = "") -> Prompt:
        """`begun`: text that the answer starts with."""
        return make_prompt(
            list(messages),
            self.formatter,
            control_strings=self.model.control_strings(),
            encode=self.model.encode,
            begun=begun,
            spoken=self._spoken,
        )

    def raw_prompt(self, text: str) -> Prompt:
        """The text as it stands, after the model's begin token where it wants one. Raises UsageError for a NUL or half a character."""
        return make_raw_prompt(text, bos_id=self._begins_with, encode=self.model.encode)

    def check_prompt(self, prompt: Prompt) -> None:
        """Raises LmsupplyError for one without tokens, DoesNotFit for one that leaves no room for an answer."""
        if not prompt.ids:
            raise LmsupplyError("the prompt has no tokens", hint="write something to answer")
        if len(prompt.ids) >= self.context_tokens:
            raise overflow(len(prompt.ids), self.context_tokens)

    def check_options(self, options: GenerationOptions, guidance: Guidance | None) -> None:
        """Raises UsageError for options that a guidance excludes."""
        if guidance and (options.num_beams > 1 or options.min_length or options.no_repeat_ngram_size):
            raise UsageError(
                "a schema, regex or grammar decides alone where an answer ends and repeats",
                hint="leave out --num-beams, --min-length and --no-repeat-ngram-size",
            )
        if options.min_p > 0 and self._by_engine(options, guidance):
            raise UsageError(
                "guessing ahead in a guided answer leaves the sampling to the engine, which knows no min_p",
                hint="leave out --min-p, or use --speculative off",
            )

    def stream_prompt(
        self,
        prompt: Prompt,
        options: GenerationOptions,
        *,
        guidance: Guidance | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[GenerationEvent]:
        """Events for a prompt that is made already. Raises DoesNotFit before any work, UsageError for options that
        exclude each other."""
        guidance = guidance or self.guidance
        self.check_options(options, guidance)
        self.check_prompt(prompt)
        self._turn += 1
        return self._events(prompt, options, guidance, cancel, self._turn)

    def _events(
        self,
        prompt: Prompt,
        options: GenerationOptions,
        guidance: Guidance | None,
        cancel: CancelToken | None,
        turn: int,
    ) -> Iterator[GenerationEvent]:
        decoder = self._decoder_for(min(len(prompt.ids) + options.max_tokens, self.context_tokens), options, guidance)
        watch, ending = self._budget.watch() if self._budget else None, CancelToken(cancel)
        critical, run = False, Run()
        splitter = make_splitter(self.markers, prompt.text) if prompt.marked and not guidance else None
        drafting = None
        if self.speculation:
            drafting, note = self.speculation.for_answer(decoder, options, guidance, self.model)
            if note and note != self._noted:
                yield Notice("speculative", note)
            self._noted = note
        events = stream_events(
            self.model,
            decoder,
            prompt.ids,
            options,
            stops=prompt.stop,
            stop_ids=prompt.stop_ids,
            cancel=ending,
            run=run,
            guided=guidance is not None,
            drafting=drafting,
        )
        try:
            for event in events:
                if isinstance(event, Finished):
                    if splitter:
                        yield from map(_as_event, splitter.flush())
                    reason: FinishReason = "memory" if critical else event.finish_reason
                    yield replace(event, finish_reason=reason, timings=replace(event.timings, load_s=self.load_s))
                    return
                if splitter and isinstance(event, TextDelta):
                    yield from map(_as_event, splitter.push(event.text))
                else:
                    yield event
                state = watch.look() if watch else ""
                if watch and state:
                    critical = critical or state == "critical"
                    yield memory_notice(watch, state)
                if critical:
                    ending.cancel()
                if turn != self._turn:
                    raise LmsupplyError("this answer was given up: another one was begun on the same model")
        finally:
            if turn == self._turn and self._decoder is not None:
                self._remember(prompt, run.ids)

    def _remember(self, prompt: Prompt, answer_ids: Sequence[int]) -> None:
        """What the cache stands for now; nothing where control strings were not kept apart."""
        if not prompt.marked:
            self._spoken = None
            return
        control, text = self.model.control_strings(), self.model.decode(answer_ids)
        if prompt.mark in text:
            self._spoken = None
            return
        before = self._spoken if self._spoken and self._spoken.mark == prompt.mark else None
        answer = Defuser(control, mark=prompt.mark).defuse(text)
        self._spoken = (before or Spoken("", (), prompt.mark)).then(prompt.marked, prompt.ids, answer, answer_ids)

    def _by_engine(self, options: GenerationOptions, guidance: Guidance | None) -> Guessing | None:
        return self.speculation.by_engine(self.model, options, guidance) if self.speculation else None

    def _decoder_for(self, tokens: int, options: GenerationOptions, guidance: Guidance | None) -> Decoder:
        """The decoder in use while it is large enough and follows the same; else a new one with room to grow, where
        there is any."""
        share = options.past_present_share_buffer
        guessing = self._by_engine(options, guidance)
        wanted = (share, guidance, guessing)
        if guessing and options.seed is not None and not options.greedy:
            self._made_for = (None, None, None)  # the engine draws by the seed only from the first answer on
        if self._decoder is not None and (self._decoder.capacity_tokens < tokens or wanted != self._made_for):
            if self._decoder.capacity_tokens < tokens:
                self._reserve = max(2 * self._decoder.capacity_tokens, tokens + tokens // 2)
            self._decoder.close()
            self._decoder = None
        if self._decoder is None:
            capacity = min(max(tokens, self._reserve), self.context_tokens)
            if self._budget:
                self._budget.check_cache(capacity)
            if guidance:
                self._decoder = self.model.new_guided_decoder(
                    guidance, capacity_tokens=capacity, guessing=guessing, share_buffer=share
                )
            else:
                self._decoder = self.model.new_decoder(capacity_tokens=capacity, share_buffer=share)
            self._made_for = wanted
        return self._decoder

    def forget(self) -> None:
        """Give the prompt cache back; the next answer reads its whole prompt, and one that was begun is given up."""
        self._turn += 1
        self._spoken = None
        self._drop_cache()

    def _drop_cache(self) -> None:
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def close(self) -> None:
        """Free cache and weights; a second call does nothing."""
        self._drop_cache()
        if self._owner:
            self.model.close()
        if self.speculation:
            self.speculation.close(owner=self._owner)
        if self._owner:
            give_back_memory()

    def __enter__(self) -> TextGenerator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _as_event(piece: Piece) -> GenerationEvent:
    if piece.kind == "retract":
        return TextWasReasoning()
    return TextDelta(piece.text) if piece.kind == "text" else ReasoningDelta(piece.text)

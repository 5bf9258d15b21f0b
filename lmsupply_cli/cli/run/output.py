"""What `lmsupply run` prints: text as it comes, one JSON object, or one JSON event per line; and the lines of --stats."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lmsupply_cli.cli.context import Context, notices_object
from lmsupply_cli.config.layers import Value
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    Notice,
    PrefillProgress,
    ReasoningDelta,
    SpeculativeStats,
    TextDelta,
    TextWasReasoning,
    TokenLogprob,
)
from lmsupply_cli.generation.answers import ChatGenerator
from lmsupply_cli.generation.completion import AnswerBuffer, Completion, ModelInfo, cut_notice
from lmsupply_cli.hardware.host import memory_used_bytes
from lmsupply_cli.render.answer import ThoughtStream, choose_stream, show_answer
from lmsupply_cli.units import format_bytes, format_rate, format_seconds


@dataclass(frozen=True, slots=True)
class Look:
    """How an answer is printed. `buffered`: when it is complete."""

    form: Literal["text", "json", "stream-json"] = "text"
    buffered: bool = False
    plain: bool = False
    stats: bool = False


class Output:
    """Prints the events of one answer."""

    def __init__(self, ctx: Context, look: Look, generator: ChatGenerator, options: dict[str, Value]) -> None:
        self._ctx, self._terminal, self._look = ctx, ctx.terminal, look
        self._info, self._options = generator.info, options
        self._place: str = getattr(generator, "place", "")
        self._context = {"context_tokens": generator.context_tokens, "fitting_tokens": generator.fitting_tokens}
        self._said = AnswerBuffer()
        self._think = ctx.settings.get("think")
        self._theme = "none" if look.plain else ctx.settings.get("theme")

    def take(self, events: Iterator[GenerationEvent]) -> Finished:
        finished = self._as_text(events) if self._look.form == "text" else self._as_json(events)
        if notice := cut_notice(finished, **self._context):
            self._ctx.notice(notice)
            if self._look.form == "stream-json":
                self._terminal.json_notice(notice)
        if self._look.form == "json":
            self._terminal.json(self._object(finished))
        elif self._look.form == "stream-json":
            whole = self._object(finished)
            for key in ("text", "reasoning", "notices", "logprobs"):
                whole.pop(key, None)
            self._terminal.json_event("finished", **whole)
        if self._look.stats:
            for line in stats_lines(finished, self._info, place=self._place):
                self._terminal.aside(line, always=True)
        return finished

    def _as_text(self, events: Iterator[GenerationEvent]) -> Finished:
        terminal = self._terminal
        stream = choose_stream(
            terminal.stdout,
            terminal=terminal.stdout_tty,
            dumb=terminal.dumb,
            color=terminal.color,
            theme=self._theme,
            hold=self._look.buffered,
        )
        thoughts = ThoughtStream(
            terminal.stderr, terminal=terminal.stderr_tty, color=terminal.color and not terminal.dumb
        )
        shown = None if self._think != "on" or terminal.quiet else thoughts
        return show_answer(self._kept(events), stream, terminal.status(), notice=terminal.notice, thoughts=shown)

    def _kept(self, events: Iterator[GenerationEvent]) -> Iterator[GenerationEvent]:
        for event in events:
            self._said.add(event)
            yield event

    def _as_json(self, events: Iterator[GenerationEvent]) -> Finished:
        emit = self._look.form == "stream-json"
        if emit:
            self._terminal.json_event("start", model=model_object(self._info), options=options_object(self._options))
            for notice in self._ctx.notices:
                self._terminal.json_notice(notice)
        for event in self._kept(events):
            if isinstance(event, Finished):
                return event
            if isinstance(event, Notice):
                self._ctx.notice(event)
            if emit:
                self._emit(event)
        raise AssertionError("an answer always ends with Finished")

    def _emit(self, event: GenerationEvent) -> None:
        """One event as a line of JSON."""
        terminal = self._terminal
        if isinstance(event, Notice):
            terminal.json_notice(event)
        elif isinstance(event, PrefillProgress):
            terminal.json_event("prefill", done_tokens=event.done_tokens, total_tokens=event.total_tokens)
        elif isinstance(event, TokenLogprob):
            terminal.json_event("logprob", **logprob_object(event))
        elif isinstance(event, TextDelta):
            terminal.json_event("delta", text=event.text)
        elif isinstance(event, ReasoningDelta) and self._think == "on":
            terminal.json_event("reasoning", text=event.text)
        elif isinstance(event, TextWasReasoning):
            terminal.json_event("reasoning", text="", text_was_reasoning=True)

    @property
    def text(self) -> str:
        """The answer so far, without reasoning."""
        return self._said.text

    def _object(self, finished: Finished) -> dict[str, Any]:
        return run_object(
            self._said.completion(finished), self._info, self._options, self._ctx.notices, thoughts=self._think == "on"
        )


def run_object(
    answer: Completion, info: ModelInfo, options: Mapping[str, Value], notices: Sequence[Notice], *, thoughts: bool
) -> dict[str, Any]:
    usage, timings = answer.usage, answer.timings
    return {
        "text": answer.text,
        "reasoning": (answer.reasoning or None) if thoughts else None,
        "model": model_object(info),
        "finish_reason": answer.finish_reason,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "completion_tokens": usage.completion_tokens,
        },
        "timings": {
            "load_s": round(timings.load_s, 4),
            "ttft_s": round(timings.ttft_s, 4),
            "prefill_s": round(timings.prefill_s, 4),
            "decode_s": round(timings.decode_s, 4),
        },
        **({} if answer.complete is None else {"complete": answer.complete}),
        **({"logprobs": [logprob_object(one) for one in answer.logprobs]} if answer.logprobs else {}),
        "options": options_object(options),
        **({"speculative": _speculative(answer.speculative)} if answer.speculative else {}),
        "notices": notices_object(notices),
    }


def logprob_object(scores: TokenLogprob) -> dict[str, Any]:
    top = [{"text": one.text, "token": one.token, "logprob": round(one.logprob, 6)} for one in scores.top]
    return {"text": scores.text, "token": scores.token, "logprob": round(scores.logprob, 6), "top": top}


def model_object(info: ModelInfo) -> dict[str, Any]:
    return {
        "ref": info.ref,
        "repo": info.repo or None,
        "commit": info.commit or None,
        "variant": info.variant or None,
        "provider": info.provider,
        "precision": info.precision,
    }


def options_object(options: Mapping[str, Value]) -> dict[str, Any]:
    return {key: {"value": _plain(value.value), "source": value.source} for key, value in options.items()}


def _plain(value: Any) -> Any:
    """Pairs of a logit bias as an object."""
    pairs = isinstance(value, tuple) and value and isinstance(value[0], tuple)
    return {str(token): number for token, number in value} if pairs else value


def _speculative(stats: SpeculativeStats) -> dict[str, float]:
    return {
        "proposed": stats.proposed,
        "accepted": stats.accepted,
        "rate": round(stats.rate, 4),
        "rounds": stats.rounds,
        "tokens_per_s": round(stats.tokens_per_s, 2),
    }


def stats_lines(finished: Finished, info: ModelInfo, *, place: str = "") -> list[str]:
    """`place`: where the model is loaded, if that is not this process."""
    usage, timings = finished.usage, finished.timings
    read = usage.prompt_tokens - usage.cached_tokens
    cached = f", {usage.cached_tokens} cached" if usage.cached_tokens else ""
    rows = [
        ("model", f"{info.ref} on {info.provider}, {info.threads} threads" + (f", on {place}" if place else "")),
        ("load", format_seconds(timings.load_s)),
        ("prefill", f"{read} tokens{cached}, {format_rate(read, timings.prefill_s)}"),
        ("first token", format_seconds(timings.ttft_s)),
        ("decode", f"{usage.completion_tokens} tokens, {format_rate(usage.completion_tokens, timings.decode_s)}"),
        *_speculation(finished),
        ("finish", finished.finish_reason),
        ("peak memory", format_bytes(memory_used_bytes()[1])),
    ]
    return [f"{name:<12} {value}" for name, value in rows]


def _speculation(finished: Finished) -> list[tuple[str, str]]:
    stats = finished.speculative
    if stats is None:
        return []
    return [
        (
            "drafted",
            f"{stats.accepted} of {stats.proposed} draft tokens accepted ({stats.rate:.0%}) in {stats.rounds} rounds",
        )
    ]

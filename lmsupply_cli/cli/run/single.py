"""What `lmsupply run` does: read, choose, load, generate, print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from lmsupply_cli import paths
from lmsupply_cli.chat.messages import ChatMessage
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.cli.choose import choose_model, store_root
from lmsupply_cli.cli.exit import ERROR, OK
from lmsupply_cli.cli.inputs import read_asked
from lmsupply_cli.cli.load import load_model, load_options, plan_model, say_plan
from lmsupply_cli.cli.run.guided import read_guidance
from lmsupply_cli.cli.run.output import logprob_object, model_object, options_object, run_object
from lmsupply_cli.cli.run.request import Request
from lmsupply_cli.cli.run.stats import stats_lines
from lmsupply_cli.config.layers import Settings, Source, Value, read_settings
from lmsupply_cli.engine.base import check_text
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.matcher import check_guidance
from lmsupply_cli.engine.model_options import model_options
from lmsupply_cli.engine.options import GenerationOptions, make_options, preset_values
from lmsupply_cli.errors import UsageError
from lmsupply_cli.events import (
    Finished,
    GenerationEvent,
    Notice,
    PrefillProgress,
    ReasoningDelta,
    TextDelta,
    TextWasReasoning,
    TokenLogprob,
)
from lmsupply_cli.generation.completion import AnswerBuffer, ModelInfo
from lmsupply_cli.generation.dry_prompt import DryRequest, dry_prompt
from lmsupply_cli.generation.fitting import fit_messages, fit_raw
from lmsupply_cli.render.answer import show_answer
from lmsupply_cli.render.stream import ThoughtStream, choose_stream
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.store.locate import is_ref
from lmsupply_cli.units import count


def answer(request: Request) -> int:
    """The exit code. Raises the errors of what it uses; `main` reports them."""
    terminal = Terminal.of_process(quiet=request.quiet)
    if request.both_json:
        raise UsageError("--json and --stream-json exclude each other", hint="use one of them")
    if request.dry_run and request.show_prompt:
        raise UsageError("--dry-run and --show-prompt exclude each other", hint="use one of them")
    if request.raw and request.system is not None:
        raise UsageError("--system cannot be combined with --raw", hint="write it into the prompt, or leave out --raw")
    guidance = read_guidance(
        json_schema=request.json_schema, regex=request.regex, grammar=request.grammar, form=request.format
    )
    if request.batch or request.out or request.batch_size is not None:
        from lmsupply_cli.cli.run.many import answer_many

        return answer_many(request, guidance)
    preset = preset_values(request.preset) if request.preset else None
    settings = read_settings(request.flags, preset=preset, environ=terminal.environ, path=paths.settings_file())
    root = store_root(settings)
    if request.dry_run:
        return _dry_run(request, guidance, settings, terminal)
    asked = read_asked(
        request.words, model=request.model, files=request.files, terminal=terminal, no_stdin=request.no_stdin, root=root
    )
    messages = [ChatMessage.user(asked.prompt)]
    if request.system:
        messages.insert(0, ChatMessage.system(request.system))
    for message in messages:
        check_text(message.content)
    if guidance and not request.show_prompt:
        check_guidance(guidance)
    choice = choose_model(asked.model, settings, root, terminal, pull=request.pull, accepted=request.accepted)
    folder = open_model(choice.model, trust=request.trust, weights=not request.show_prompt)
    values, options = read_options(settings, folder, guidance)
    if options.logprobs and request.form == "text":
        if "flag" in (values["logprobs"].source, values["top_logprobs"].source):
            raise UsageError("`logprobs` is only available in JSON output", hint="add --json or --stream-json")
        options = options.replaced(logprobs=False, top_logprobs=0)
    if request.show_prompt:
        return _show_prompt(request, folder, messages, settings, options, terminal)
    notices = [*choice.notices]
    if options.num_beams > 1:
        notices.append(Notice("beams", "beam search prints only at the end, and samples nothing"))
    for notice in notices:
        terminal.notice(notice)
    plan = plan_model(choice.model, folder, settings, options=options, guidance=guidance)
    with load_model(plan, terminal, notices=notices) as generator:
        policy: Policy = settings.get("on_overflow") or "error"
        if request.raw:
            fitted = fit_raw(generator, asked.prompt, policy=policy, max_tokens=options.max_tokens)
        else:
            fitted = fit_messages(generator, messages, policy=policy, max_tokens=options.max_tokens)
        for notice in fitted.notices:
            terminal.notice(notice)
        notices += fitted.notices
        output = _Output(request, settings, terminal, generator.info, values, notices)
        finished = output.take(generator.stream_prompt(fitted.prompt, options))
    if finished.complete is False:
        terminal.say("error: the answer ended before it was complete, so it need not parse")
        return ERROR
    return OK


def _dry_run(request: Request, guidance: Guidance | None, settings: Settings, terminal: Terminal) -> int:
    """How the model would be loaded; a prompt is not needed, and not read."""
    words, root = request.words, store_root(settings)
    named = request.model or (words[0] if words and is_ref(words[0], root) else None)
    if guidance:
        check_guidance(guidance)
    choice = choose_model(named, settings, root, terminal, pull=request.pull, accepted=request.accepted)
    folder = open_model(choice.model, trust=request.trust)
    _, options = read_options(settings, folder, guidance)
    for notice in choice.notices:
        terminal.notice(notice)
    plan = plan_model(choice.model, folder, settings, options=options, guidance=guidance)
    say_plan(plan, terminal, as_json=request.form != "text")
    return OK


def _show_prompt(
    request: Request,
    folder: ModelFolder,
    messages: Sequence[ChatMessage],
    settings: Settings,
    options: GenerationOptions,
    terminal: Terminal,
) -> int:
    """On stdout what a run would send, on stderr what it would say about it."""
    policy: Policy = settings.get("on_overflow") or "error"
    dry = DryRequest(messages, raw=request.raw, policy=policy, max_tokens=options.max_tokens)
    text, notices = dry_prompt(folder, dry, load_options(settings))
    for notice in notices:
        terminal.notice(notice)
    terminal.exact(text)
    return OK


def read_options(
    settings: Settings, folder: ModelFolder, guidance: Guidance | None = None
) -> tuple[dict[str, Value], GenerationOptions]:
    """The generation options with their sources, and as they are used."""
    own = model_options(folder)
    values = settings.generation(own)
    options = make_options({key: value.value for key, value in values.items()}, own)
    if options.repetition_penalty is None:
        penalty = options.penalty(guided=guidance is not None)
        source: Source = "model" if penalty == own.get("repetition_penalty") else "default"
        values["repetition_penalty"] = Value(penalty, source)
    return values, options


class _Output:
    """Sends the events of one answer to where the request wants them."""

    def __init__(
        self,
        request: Request,
        settings: Settings,
        terminal: Terminal,
        info: ModelInfo,
        options: dict[str, Value],
        notices: list[Notice],
    ) -> None:
        self._request, self._terminal = request, terminal
        self._info, self._options, self._notices = info, options, notices
        self._said = AnswerBuffer()
        self._think = settings.get("think")
        self._theme = "none" if request.plain else settings.get("theme")

    def take(self, events: Iterator[GenerationEvent]) -> Finished:
        finished = self._as_text(events) if self._request.form == "text" else self._as_json(events)
        if finished.finish_reason == "length":
            notice = Notice(
                "cut_by_length",
                f"the answer was cut after {count(finished.usage.completion_tokens, 'token')}; --max-tokens sets the limit",
            )
            self._notices.append(notice)
            self._terminal.notice(notice)
            if self._request.form == "stream-json":
                self._terminal.json_event("notice", code=notice.code, text=notice.text)
        if self._request.form == "json":
            self._terminal.json(self._object(finished))
        elif self._request.form == "stream-json":
            whole = self._object(finished)
            for key in ("text", "reasoning", "notices", "logprobs"):
                whole.pop(key, None)
            self._terminal.json_event("finished", **whole)
        if self._request.stats:
            for line in stats_lines(finished, self._info):
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
            hold=self._request.hold,
        )
        thoughts = ThoughtStream(
            terminal.stderr, terminal=terminal.stderr_tty, color=terminal.color and not terminal.dumb
        )
        shown = None if self._think != "on" or terminal.quiet else thoughts
        return show_answer(events, stream, terminal.status(), notice=terminal.notice, thoughts=shown)

    def _as_json(self, events: Iterator[GenerationEvent]) -> Finished:
        emit = self._request.form == "stream-json"
        if emit:
            self._terminal.json_event("start", model=model_object(self._info), options=options_object(self._options))
            for notice in self._notices:
                self._terminal.json_event("notice", code=notice.code, text=notice.text)
        finished: Finished | None = None
        for event in events:
            self._said.add(event)
            if isinstance(event, Notice):
                self._notices.append(event)
                self._terminal.notice(event)
                if emit:
                    self._terminal.json_event("notice", code=event.code, text=event.text)
            elif isinstance(event, PrefillProgress):
                if emit:
                    self._terminal.json_event("prefill", done_tokens=event.done_tokens, total_tokens=event.total_tokens)
            elif isinstance(event, TokenLogprob):
                if emit:
                    self._terminal.json_event("logprob", **logprob_object(event))
            elif isinstance(event, TextDelta):
                if emit:
                    self._terminal.json_event("delta", text=event.text)
            elif isinstance(event, ReasoningDelta):
                if emit and self._think == "on":
                    self._terminal.json_event("reasoning", text=event.text)
            elif isinstance(event, TextWasReasoning):
                if emit:
                    self._terminal.json_event("reasoning", text="", text_was_reasoning=True)
            elif isinstance(event, Finished):
                finished = event
        assert finished is not None
        return finished

    def _object(self, finished: Finished) -> dict[str, Any]:
        return run_object(
            self._said.completion(finished), self._info, self._options, self._notices, thoughts=self._think == "on"
        )

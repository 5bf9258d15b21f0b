"""What `lmsupply run` does with one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lmsupply_cli import paths
from lmsupply_cli.chat.messages import ChatMessage, ChatRole
from lmsupply_cli.chat.overflow import Policy
from lmsupply_cli.chats.last_run import Conversation, last_conversation, remember_run
from lmsupply_cli.cli.context import Context
from lmsupply_cli.cli.exit import ERROR, INTERRUPTED, OK
from lmsupply_cli.cli.idle import idle_thinking
from lmsupply_cli.cli.inputs import PromptRequest, RunInput, named_input, no_prompt, read_input, split_words
from lmsupply_cli.cli.prepare import (
    ModelRequest,
    load_options,
    open_generator,
    overflow_policy,
    prepare,
    say_load_plan,
)
from lmsupply_cli.cli.run.output import Look, Output
from lmsupply_cli.cli.warm import say_warm
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.engine.cancel import CancelToken, interrupts_cancel
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.errors import DoesNotFit, FileError, UsageError
from lmsupply_cli.events import Finished, Notice
from lmsupply_cli.generation.fitting import fit_messages, fit_raw

_LOGPROBS = ("top_logprobs", "logprobs")
_ONLY_RUN = (*_LOGPROBS, "num_beams")  # options that a chat does not have


def run_prompt(ctx: Context, wanted: ModelRequest, asked: PromptRequest, guidance: Guidance | None, look: Look) -> int:
    """The exit code. Raises the errors of what it uses; `main` reports them."""
    given = read_input(ctx, asked, model=wanted.name)
    wanted = replace(wanted, name=given.model)
    if not given.prompt:
        return _open_chat(ctx, wanted, asked, look, guidance, system=given.system)
    wanted, messages = _conversation(ctx, wanted, asked, given)
    unused = _without_logprobs(ctx.settings) if look.form == "text" else ()
    with given.explained(asked.command):
        prepared = prepare(ctx, wanted, guidance=guidance, unused=unused, fill_context=True)
    options = prepared.options
    if options.num_beams > 1:
        ctx.notice(Notice("beams", "beam search doesn't stream and ignores sampling settings"))
    with open_generator(ctx, prepared, wanted) as generator:
        policy = _policy(ctx, asked)
        if asked.raw:
            fitted = fit_raw(generator, given.prompt, policy=policy, max_tokens=options.max_tokens)
        else:
            fitted = fit_messages(generator, messages, policy=policy, max_tokens=options.max_tokens)
        for notice in fitted.notices:
            ctx.notice(notice)
        output, cancel = Output(ctx, look, generator, prepared.values), CancelToken()
        with interrupts_cancel(cancel):
            finished = output.take(generator.stream_prompt(fitted.prompt, options, cancel=cancel))
    if output.text and not asked.raw and not asked.no_save and ctx.settings.get("save_sessions"):
        try:
            remember_run(prepared.model.ref, [*messages, ChatMessage.assistant(output.text)])
        except FileError as error:
            ctx.notice(Notice("not_saved", f"--continue cannot resume this answer: {error.message}"))
    if finished.finish_reason == "cancelled":
        return INTERRUPTED
    if finished.finish_reason == "memory":
        way = "use a smaller model or `context`, or raise `memory_limit`"
        ctx.terminal.error("the answer was cut off: the memory ran out", hint=way)
        return DoesNotFit.exit_code
    if finished.complete is False:
        ctx.terminal.error("the answer was cut off, so it may not be valid", hint=_way_to_the_end(finished))
        return ERROR
    return OK


def _way_to_the_end(finished: Finished) -> str:
    """What may let a guided answer become complete."""
    if finished.cut_by == "context":
        return "use a larger `context`, a smaller schema or a larger model"
    return f"{'raise `max_tokens`' if finished.cut_by else 'leave out `stop`'}, or use a larger model"


def print_load_plan(
    ctx: Context, wanted: ModelRequest, asked: PromptRequest, guidance: Guidance | None, *, as_json: bool
) -> int:
    """Print how the model would be loaded; no prompt is needed or read."""
    model, words = split_words(ctx, asked, model=wanted.name)
    given = named_input(asked, model, words, guessed=wanted.name is None)
    named = _continued().model if given.model is None and asked.continues else given.model
    unused = () if as_json else _without_logprobs(ctx.settings)
    with given.explained(asked.command):
        prepared = prepare(ctx, replace(wanted, name=named), guidance=guidance, unused=unused, fill_context=True)
    if not wanted.no_server:
        say_warm(ctx, prepared)
    say_load_plan(ctx, prepared.plan(ctx.settings), as_json=as_json)
    return OK


def print_prompt(ctx: Context, wanted: ModelRequest, asked: PromptRequest, guidance: Guidance | None) -> int:
    """On stdout what a run would send, on stderr what it would say about it."""
    from lmsupply_cli.generation.dry_prompt import DryRequest, dry_prompt

    given = read_input(ctx, asked, model=wanted.name)
    if not given.prompt:
        raise no_prompt("run --show-prompt", given.model or "")
    wanted, messages = _conversation(ctx, replace(wanted, name=given.model), asked, given)
    with given.explained(asked.command):
        prepared = prepare(ctx, wanted, guidance=guidance, weights=False, unused=_LOGPROBS, fill_context=True)
    dry = DryRequest(messages, raw=asked.raw, policy=_policy(ctx, asked), max_tokens=prepared.options.max_tokens)
    found = dry_prompt(prepared.folder, dry, load_options(ctx.settings))
    for notice in (*idle_thinking(ctx.settings, found.format), *found.notices):
        ctx.notice(notice)
    ctx.terminal.exact(found.text)
    return OK


def _without_logprobs(settings: Settings) -> tuple[str, ...]:
    """The options that text cannot show. Raises UsageError if a flag requests them."""
    for key in _LOGPROBS:
        found = settings.value(key)
        if found.source == "flag" and found.value:
            raise UsageError(f"`{key}` is only available in JSON output", hint="add --json or --stream-json")
    return _LOGPROBS


def _policy(ctx: Context, asked: PromptRequest) -> Policy:
    return overflow_policy(ctx.settings, "drop-oldest" if asked.continues else "error")


def _conversation(
    ctx: Context, wanted: ModelRequest, asked: PromptRequest, given: RunInput
) -> tuple[ModelRequest, list[ChatMessage]]:
    """The messages to answer and the model: those of the last conversation if the prompt continues it."""
    if not asked.continues:
        return wanted, given.messages
    before = _continued()
    ctx.notice(Notice("continued", f"continuing with {wanted.name or before.model}: {before.title}"))
    return replace(wanted, name=wanted.name or before.model), _joined(before.messages, given.messages)


def _continued() -> Conversation:
    from lmsupply_cli.chats.archive import Archive

    found = last_conversation(Archive(paths.sessions_dir()))
    if found is None:
        raise UsageError("nothing to continue", hint="the next run, or a chat, can be continued")
    return found


def _joined(before: Sequence[ChatMessage], new: Sequence[ChatMessage]) -> list[ChatMessage]:
    """A new system prompt replaces the old one."""
    systems = [m for m in new if m.role is ChatRole.SYSTEM]
    kept = [m for m in before if not (systems and m.role is ChatRole.SYSTEM)]
    return [*systems, *kept, *(m for m in new if m.role is not ChatRole.SYSTEM)]


def _open_chat(
    ctx: Context,
    wanted: ModelRequest,
    asked: PromptRequest,
    look: Look,
    guidance: Guidance | None,
    *,
    system: str,
) -> int:
    """A model without a prompt, in a terminal. Elsewhere, or with options that a chat does not have, it is an error."""
    only_run = guidance or asked.raw or look.form != "text" or look.buffered or ctx.terminal.quiet
    only_run = only_run or any(ctx.settings.value(key).source == "flag" for key in _ONLY_RUN)
    if only_run or not (ctx.terminal.stdin_tty and ctx.terminal.stdout_tty):
        raise no_prompt("run", wanted.name or "")
    from lmsupply_cli.cli.chat.start import ChatRequest, start_chat

    chat = ChatRequest(system or None, asked.continues, None, asked.no_save, look.stats, look.plain)
    start_chat(ctx, wanted, chat)
    return OK

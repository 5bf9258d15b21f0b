"""`lmsupply chat`: talk with a model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import (
    ANSWERING,
    AcceptLicense,
    AllowTool,
    Debug,
    DryRun,
    Mcp,
    Model,
    NoServer,
    Plain,
    Preset,
    Pull,
    System,
    TemplateName,
    Tool,
    TrustModelFiles,
    check_one_of,
    takes_settings,
)
from lmsupply_cli.config.table import GENERATION_KEYS, SETTINGS

EXAMPLES = (
    ("lmsupply chat phi-4-mini", "chat with a model"),
    ("lmsupply chat --continue", "resume the last chat"),
    ("lmsupply chat --mcp servers.json --tool tools:weather", "let the model call tools"),
    ("lmsupply chat phi-4-mini -s 'Answer in French.' --temperature 0.2", "a system prompt and an option"),
)


@takes_settings(
    *(key for key in GENERATION_KEYS if key != "num_beams" and not SETTINGS[key].json_only),
    *ANSWERING,
    "history",
)
def chat(
    *,
    named: Annotated[str | None, typer.Argument(metavar="[MODEL]", show_default=False)] = None,
    model: Model = None,
    system: System = None,
    template: TemplateName = None,
    last: Annotated[bool, typer.Option("--continue", "-c", help="Resume the last saved chat.")] = False,
    resume: Annotated[
        str | None,
        typer.Option("--resume", "-r", metavar="NAME|N", help="Resume a saved chat by name, or the Nth most recent."),
    ] = None,
    no_save: Annotated[bool, typer.Option("--no-save", help="Don't save this chat.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Show tokens and speed after each answer.")] = False,
    plain: Plain = False,
    mcp: Mcp = None,
    tool: Tool = None,
    allow_tool: AllowTool = None,
    no_server: NoServer = False,
    trust_model_files: TrustModelFiles = False,
    pull: Pull = False,
    accept_license: AcceptLicense = False,
    preset: Preset = None,
    dry_run: DryRun = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Chat with a model.

    /help lists the commands of the chat. Ctrl-C stops an answer, Ctrl-D quits. Chats are saved automatically:
    --continue resumes the last one.
    """
    from lmsupply_cli.cli.chat.start import ChatRequest, print_load_plan, start_chat
    from lmsupply_cli.cli.chat.tools import ToolOptions
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.prepare import ModelRequest
    from lmsupply_cli.config.templates import read_template
    from lmsupply_cli.errors import UsageError

    if named and model:
        raise UsageError(f"two models are named: {named} and {model}", hint="leave one out")
    check_one_of({"--continue": last, "--resume": resume})
    check_one_of({"--plain": plain, "--theme": flags.get("theme")})
    check_one_of({"--pull": pull, "--offline": flags.get("offline")})
    saved = read_template(template) if template else None
    ctx = Context.of(flags, preset=preset, template=saved, debug=debug)
    if saved and saved.prompt:
        ctx.terminal.say("note: a chat uses the system prompt, model and options of a template, not its prompt")
    if saved and system is None:
        system = saved.system
    wanted = ModelRequest(
        named or model or (saved.model if saved else None),
        pull=pull,
        accepted=accept_license,
        trust=trust_model_files,
        dry_run=dry_run,
        no_server=no_server,
    )
    tools = ToolOptions(mcp or (), tool or (), allow_tool or ())
    asked = ChatRequest(system, last, resume, no_save, stats, plain, tools)
    if dry_run:
        print_load_plan(ctx, wanted, asked)
    else:
        start_chat(ctx, wanted, asked)

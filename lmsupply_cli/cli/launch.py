"""`lmsupply launch`: a coding agent on a local model."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, takes_settings

EXAMPLES = (
    ("lmsupply launch claude --dry-run", "show the variables, the command and the cost of the prompt"),
    ("lmsupply launch codex --model qwen3-4b", "start Codex with this model"),
    ("lmsupply launch aider -- app.py", "arguments after -- go to the agent"),
)


@takes_settings()
def launch(
    *,
    client: Annotated[str, typer.Argument(metavar="AGENT", show_default=False)],
    words: Annotated[list[str] | None, typer.Argument(metavar="[-- ARGUMENT...]", show_default=False)] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", metavar="MODEL", help="The model. Default: the loaded one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and its cost, and stop.")] = False,
    json: Json = False,
    debug: Debug = False,  # read by main
    flags: dict[str, Any],
) -> None:
    """Start a coding agent on a running server: claude, codex, aider or opencode.

    Sets the environment variables and arguments that the agent needs, for this run only, and changes no file. First it
    measures the model, and prints how many tokens the agent's own prompt has, how long its prefill takes on this machine,
    and how much memory it needs. If the prompt is longer than the context, the agent is not started.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.launching import plan_launch, start
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.render.sanitize import one_line

    if json and not dry_run:
        raise UsageError("--json needs --dry-run", hint="add --dry-run")
    context = Context.of(flags)
    plan = plan_launch(context, client, model or "", words or [])
    if json:
        context.terminal.json({"plan": plan.as_dict()})
    elif dry_run:
        for line in plan.lines():
            context.terminal.styled(one_line(line))
    else:
        raise typer.Exit(start(context, plan))

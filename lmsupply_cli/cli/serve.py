"""`lmsupply serve`: models over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.help import SERVER
from lmsupply_cli.cli.options import AcceptLicense, Debug, Json, Pull, Quiet, takes_settings

if TYPE_CHECKING:
    from lmsupply_cli.cli.context import Context

DEFAULT_PORT = "11535"
EXAMPLES = (
    ("lmsupply serve", "every installed model, loaded on its first request"),
    ("lmsupply serve phi-4-mini", "load this one now, and keep it in memory"),
    ("lmsupply serve --host 0.0.0.0 --api-key-file key.txt", "for other machines too"),
    ("lmsupply serve --self-test --url http://127.0.0.1:11434", "check another server"),
)


def _option(*names: str, metavar: str, help: str) -> Any:
    return typer.Option(*names, metavar=metavar, help=help, rich_help_panel=SERVER)


@takes_settings(
    "context",
    "memory_limit",
    "threads",
    "provider",
    "precision",
    "cache_dir",
    "offline",
    "chat_format",
    "think",
    "reasoning_effort",
    "speculative",
    "draft_tokens",
)
def serve(
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", show_default=False)] = None,
    host: Annotated[str, _option("--host", metavar="ADDRESS", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[str, _option("--port", metavar="N", help="The port; 0 picks a free one.")] = DEFAULT_PORT,
    api_key: Annotated[
        str | None,
        _option("--api-key", metavar="KEY", help="Clients must send this key. Also LMSUPPLY_API_KEY."),
    ] = None,
    api_key_file: Annotated[
        str | None, _option("--api-key-file", metavar="FILE", help="Clients must send one of the keys in this file.")
    ] = None,
    cors: Annotated[
        list[str] | None,
        _option("--cors", metavar="ORIGIN", help="Allow web pages of this origin to call the server; repeatable."),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        _option("--allow-host", metavar="NAME", help="Also accept this host name in the Host header; repeatable."),
    ] = None,
    keep_alive: Annotated[
        str, _option("--keep-alive", metavar="TIME", help="How long an idle model stays loaded, or forever.")
    ] = "10m",
    max_models: Annotated[
        str | None, _option("--max-models", metavar="N", help="Maximum number of models in memory.")
    ] = None,
    max_queue: Annotated[
        str,
        _option("--max-queue", metavar="N", help="Requests that may wait for a model; further ones get status 429."),
    ] = "64",
    ping: Annotated[
        str,
        _option(
            "--ping", metavar="SECONDS", help="Send a comment after this many silent seconds of a stream; 0 is off."
        ),
    ] = "15",
    log_requests: Annotated[
        bool, typer.Option("--log-requests", help="Log a line for each request.", rich_help_panel=SERVER)
    ] = False,
    log_prompts: Annotated[
        bool, typer.Option("--log-prompts", help="Log requests with their prompts.", rich_help_panel=SERVER)
    ] = False,
    self_test: Annotated[
        bool, typer.Option("--self-test", help="Check a server's APIs, and exit.", rich_help_panel=SERVER)
    ] = False,
    url: Annotated[
        str | None, _option("--url", metavar="URL", help="The server that --self-test checks, such as Ollama's.")
    ] = None,
    json: Json = False,
    pull: Pull = False,
    accept_license: AcceptLicense = False,
    quiet: Quiet = False,
    debug: Debug = False,  # read by main
    flags: dict[str, Any],
) -> None:
    """Serve models over HTTP, for programs that speak the API of OpenAI, Anthropic or Ollama.

    Clients can use every installed model. Each is loaded on its first request, within the memory limit. Each MODEL named
    here is loaded at the start and stays loaded. Other machines can reach the server only with --host, which requires a key.
    Ctrl-C stops the server after its running answers; a second Ctrl-C stops it at once.

    --self-test starts a temporary server, checks its APIs, and prints the expected and the actual result of each check. With
    --url, it checks another server.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.serving import ServeRequest, run_server

    if self_test:
        used = {"--host": host != "127.0.0.1", "--port": port != DEFAULT_PORT, "--cors": cors, "--pull": pull,
                "--log-requests": log_requests, "--log-prompts": log_prompts, "--allow-host": allow_host}  # fmt: skip
        _self_test(names or [], url or "", (api_key, api_key_file), used=used, flags=flags, json=json)
        return
    if url is not None or json:
        from lmsupply_cli.errors import UsageError

        raise UsageError("--url and --json need --self-test", hint="add --self-test")
    request = ServeRequest.of(
        host=host,
        port=port,
        keys=(api_key, api_key_file),
        cors=cors or (),
        allow_host=allow_host or (),
        limits={"keep_alive": keep_alive, "max_models": max_models, "max_queue": max_queue, "ping": ping},
        logs=(log_requests or log_prompts, log_prompts),
    )
    context = Context.of(flags, quiet=quiet)
    if code := run_server(context, request, _refs(context, names or [], pull=pull, accepted=accept_license)):
        raise typer.Exit(code)


def _self_test(
    names: list[str],
    url: str,
    keys: tuple[str | None, str | None],
    *,
    used: dict[str, Any],
    flags: dict[str, Any],
    json: bool,
) -> None:
    """Raises LmsupplyError."""
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.cli.self_test import self_test
    from lmsupply_cli.cli.serving import read_keys
    from lmsupply_cli.errors import UsageError

    given = [name for name, value in used.items() if value]
    given += ["--" + name.replace("_", "-") for name, value in flags.items() if value is not None]
    if given:
        raise UsageError(f"--self-test can't be combined with {given[0]}", hint="leave it out")
    key = next(iter(read_keys(*keys)), "")
    if not self_test(Context.of(flags), url=url, models=names, key=key, as_json=json):
        raise typer.Exit(1)


def _refs(context: Context, names: list[str], *, pull: bool, accepted: bool) -> tuple[str, ...]:
    """The models that are loaded at the start; those that are missing are pulled as `run` would. Raises LmsupplyError."""
    from shlex import quote

    from lmsupply_cli.catalogue.entry import GUIDE_REF
    from lmsupply_cli.cli.prepare import ModelRequest, choose_model
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.store.judging import open_model

    refs = []
    for name in names:
        model = choose_model(context, ModelRequest(name, pull=pull, accepted=accepted))
        if not (model.key or model.external or model.ref == GUIDE_REF):
            raise UsageError(f"{name} has no name that clients can use", hint=f"lmsupply add {quote(name)} NAME")
        own, wanted = open_model(model).model["context_length"], context.settings.get("context")
        if wanted and wanted > own:
            raise UsageError(
                f"`context={wanted}` is more than the maximum of {model.ref}, {own:,} tokens",
                hint=f"use `context={own}` or less",
            )
        refs.append(model.ref)
    return tuple(dict.fromkeys(refs))

"""`lmsupply search`: models on the Hugging Face Hub that run here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, takes_settings, whole_number

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.loading.searching import SearchResult


_NOT_ALLOWED = "license not allowed"
EXAMPLES = (
    ("lmsupply search qwen", "models on the Hub that run here"),
    ("lmsupply search phi --limit 5 --json", "the first five as JSON"),
)


@takes_settings("provider", "precision", "cache_dir", "offline")
def search(
    *,
    text: Annotated[list[str], typer.Argument(metavar="TEXT...", show_default=False)],
    limit: Annotated[str, typer.Option("--limit", "-n", metavar="N", help="Show at most N, from 1 to 100.")] = "10",
    json: Json = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Search the Hugging Face Hub for models that run here.

    Finds repositories in ONNX GenAI format whose name contains TEXT, the most downloaded first. SIZE
    is the download for this machine. lmsupply pull MODEL downloads one.
    """
    from dataclasses import replace

    from lmsupply_cli.cli.consent import allowed_by
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.loading.recommend import machine_wish
    from lmsupply_cli.loading.searching import search as find
    from lmsupply_cli.store.locate import installed_models

    context = Context.of(flags)
    terminal, settings = context.terminal, context.settings
    status, words = terminal.status(), " ".join(text)
    status.show(f"searching the Hub for {words} …")
    try:
        results = find(
            words,
            machine_wish(settings.get("provider"), settings.get("precision")),
            limit=whole_number("--limit", limit, 1, 100),
            offline=settings.get("offline"),
        )
    finally:
        status.clear()
    allowed = allowed_by(settings)
    results = [r if r.license is None or allowed(r.license) else replace(r, reason=_NOT_ALLOWED) for r in results]
    here = {model.repo.lower() for model in installed_models(context.root)}
    running, others = [r for r in results if r.runs], [r for r in results if not r.runs]
    if json:
        terminal.json(
            {
                "models": [_row(result, here) for result in running],
                "skipped": [{"repo": result.repo, "reason": result.reason} for result in others],
            }
        )
        return
    if running:
        _say(running, here, context)
    elif not others:
        terminal.say(f"no models on the Hub match {words!r}")
    if others:
        names = ", ".join(result.repo for result in others)
        verb = "does" if len(others) == 1 else "do"
        more = (
            f"{len(others)} more {verb} not run here"
            if running
            else f"none of the models that match {words!r} runs here"
        )
        terminal.say(f"{more}: {names}")


def _row(result: SearchResult, here: Collection[str]) -> dict[str, Any]:
    variant, entry = result.variant, result.entry
    return {
        "ref": entry.ref if entry else result.repo,
        "repo": result.repo,
        "license": result.license.as_dict() if result.license else None,
        "variant": variant.folder if variant else None,
        "precision": (variant.precision or None) if variant else None,
        "size_bytes": variant.size_bytes if variant else None,
        "downloads": result.downloads,
        "installed": result.repo.lower() in here,
        "reason": result.reason or None,
    }


def _say(results: Sequence[SearchResult], here: Collection[str], context: Context) -> None:
    from lmsupply_cli.render.table import Column, print_table
    from lmsupply_cli.units import format_bytes

    columns = [
        Column("MODEL", [r.repo for r in results]),
        Column("SIZE", [format_bytes(r.variant.size_bytes) if r.variant else "?" for r in results], right=True, rank=2),
        Column("DOWNLOADS", [f"{r.downloads:,}" for r in results], right=True, rank=4),
        Column("LICENSE", [r.license.name if r.license else "?" for r in results], rank=3),
        Column("NOTE", [_note(r, here) for r in results], rank=1),
    ]
    print_table(context.terminal, columns)


def _note(result: SearchResult, here: Collection[str]) -> str:
    if result.repo.lower() in here and result.reason != _NOT_ALLOWED:
        return "installed"
    return result.reason.removeprefix(f"{result.repo} is ")

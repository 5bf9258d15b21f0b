"""`lmsupply search`: models on the Hugging Face Hub that run here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, Json, takes_settings, whole_number

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.loading.searching import SearchResult


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
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.loading.searching import search as find
    from lmsupply_cli.store.locate import installed_models

    context = Context.of(flags)
    terminal, settings = context.terminal, context.settings
    status, words = terminal.status(), " ".join(text)
    status.show(f"searching the Hub for {words} …")
    try:
        results = find(
            words,
            limit=whole_number("--limit", limit, 1, 100),
            provider=settings.get("provider"),
            precision=settings.get("precision"),
            offline=settings.get("offline"),
        )
    finally:
        status.clear()
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
    else:
        terminal.say(f"no models on the Hub match {words!r}")
    if others:
        count = len(others)
        terminal.say(f"{count} more {'does' if count == 1 else 'do'} not run here: {', '.join(r.repo for r in others)}")


def _row(result: SearchResult, here: Collection[str]) -> dict[str, Any]:
    from lmsupply_cli.cli.fetching import license_json

    variant, entry = result.variant, result.entry
    return {
        "ref": entry.ref if entry else result.repo,
        "repo": result.repo,
        "license": license_json(result.license) if result.license else None,
        "variant": variant.folder if variant else None,
        "precision": (variant.precision or None) if variant else None,
        "size_bytes": variant.size_bytes if variant else None,
        "downloads": result.downloads,
        "installed": result.repo.lower() in here,
        "reason": result.reason or None,
    }


def _say(results: Sequence[SearchResult], here: Collection[str], context: Context) -> None:
    from lmsupply_cli.units import format_bytes

    head = ("MODEL", "SIZE", "DOWNLOADS", "LICENSE", "")
    rows = [
        (
            result.repo,
            format_bytes(result.variant.size_bytes) if result.variant else "?",
            f"{result.downloads:,}",
            "?" if not result.license else result.license.id.replace("unknown", "not stated"),
            "installed" if result.repo.lower() in here else result.reason.removeprefix(f"{result.repo} is "),
        )
        for result in results
    ]
    widths = [max(len(row[at]) for row in (head, *rows)) for at in range(len(head))]
    for row in (head, *rows):
        cells = (
            cell.rjust(width) if at in (1, 2) else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        context.terminal.data("  ".join(cells).rstrip(), indent=4)

"""`lmsupply rm`: remove installed models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmsupply_cli.cli.options import Debug, takes_settings

if TYPE_CHECKING:
    from lmsupply_cli.render.terminal import Terminal
    from lmsupply_cli.store.leftovers import Leftovers
    from lmsupply_cli.store.manifest import Manifest
    from lmsupply_cli.store.remove import Removal


EXAMPLES = (
    ("lmsupply rm phi-4-mini", "remove a model"),
    ("lmsupply rm --partial -y", "remove files left by interrupted downloads"),
)


@takes_settings("cache_dir")
def rm(
    *,
    names: Annotated[list[str] | None, typer.Argument(metavar="[MODEL]...", show_default=False)] = None,
    partial: Annotated[bool, typer.Option("--partial", help="Remove unfinished downloads and removals.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Don't ask for confirmation.")] = False,
    debug: Debug = False,
    flags: dict[str, Any],
) -> None:
    """Remove installed models.

    Files that another installed model shares are kept. Folders you added are unregistered but not
    deleted. Other tools' models are never touched.
    """
    from lmsupply_cli.cli.context import Context
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.store.leftovers import Leftovers, find_leftovers
    from lmsupply_cli.store.model_store import find_manifests
    from lmsupply_cli.store.remove import plan_removal
    from lmsupply_cli.units import format_bytes

    context = Context.of(flags)
    terminal, root = context.terminal, context.root
    if not names and not partial:
        raise UsageError(
            "name a model to remove",
            hint="lmsupply models --installed lists them; --partial removes unfinished downloads",
        )
    removal = plan_removal(root, find_manifests(names or [], root))
    left = find_leftovers(root) if partial else Leftovers()
    _say_removal(removal, root, terminal)
    _say_leftovers(left, root, terminal)
    if partial and not left.any and not left.busy:
        terminal.say("no unfinished downloads")
    freed = removal.freed_bytes + left.size_bytes
    if dry_run:
        terminal.say(f"{format_bytes(freed)} would be freed")
        return
    deletes = left.any or any(not m.added for m in removal.manifests)
    if deletes and not yes and not _confirmed(freed, terminal):
        terminal.say("nothing was removed")
        return
    freed = _remove(removal, left, root, terminal)
    if deletes:
        terminal.say(f"{format_bytes(freed)} freed")


def _confirmed(freed: int, terminal: Terminal) -> bool:
    """Raises UsageError if there is no terminal to ask on."""
    from lmsupply_cli.errors import UsageError
    from lmsupply_cli.units import format_bytes

    if not terminal.stdin_tty:
        raise UsageError("can't ask for confirmation: input is not a terminal", hint="use -y, or try --dry-run")
    if not terminal.stderr_tty:
        raise UsageError("can't ask for confirmation: stderr is not a terminal", hint="use -y, or try --dry-run")
    return terminal.ask(f"Free {format_bytes(freed)}?" if freed else "Remove it?")


def _remove(removal: Removal, left: Leftovers, root: Path, terminal: Terminal) -> int:
    """The bytes that were freed."""
    from lmsupply_cli.store.leftovers import free_leftovers
    from lmsupply_cli.store.remove import carry_out

    def waiting(repo: str) -> None:
        terminal.say(f"waiting for another lmsupply process that uses {repo}")

    freed = carry_out(root, removal.manifests, waiting=waiting).freed_bytes if removal.manifests else 0
    if left.any:
        more, busy = free_leftovers(root)
        freed += more
        for repo in set(busy) - set(left.busy):
            terminal.say(f"{repo} is in use; its files are kept")
    return freed


def _say_removal(removal: Removal, root: Path, terminal: Terminal) -> None:
    from lmsupply_cli.store.manifest import read_manifests
    from lmsupply_cli.store.unique_refs import refs_of_records

    every = read_manifests(root)
    called, going = refs_of_records(every, root), {manifest.key for manifest in removal.manifests}
    for manifest in removal.manifests:
        if manifest.added:
            terminal.say(f"unregister {manifest.ref} (files in {manifest.folder} are kept)")
        else:
            name, variant = called[manifest.key], manifest.variant or manifest.folder
            shown = name if name.endswith(f":{variant}") else f"{name} {variant}"
            terminal.say(f"remove {shown}" + _sources(manifest))
    for ref in dict.fromkeys(manifest.ref for manifest in removal.manifests):
        if kept := [called[m.key] for m in every if m.ref == ref and m.key not in going]:
            terminal.say(f"kept: {', '.join(kept)}")
    if removal.shared:
        count = len(removal.shared)
        files = "1 file is" if count == 1 else f"{count} files are"
        terminal.say(f"{files} kept: another installed model shares {'it' if count == 1 else 'them'}")


def _sources(manifest: Manifest) -> str:
    """That the files of a local import stay."""
    if not manifest.source or manifest.repo:
        return ""
    first = Path(manifest.source.files[0].path)
    place = first if manifest.source.format == "gguf" else first.parent
    return f" (imported from {place}, which is kept)"


def _say_leftovers(left: Leftovers, root: Path, terminal: Terminal) -> None:
    from lmsupply_cli.files import folder_bytes, is_folder, size_of
    from lmsupply_cli.store.remove import freed_bytes
    from lmsupply_cli.units import format_bytes

    for repo, files in left.files.items():
        terminal.say(f"remove unfinished files of {repo}: {format_bytes(freed_bytes(files))}")
    for name, paths in left.imports.items():
        size = sum(folder_bytes(path) if is_folder(path) else max(0, size_of(path)) for path in paths)
        terminal.say(f"remove an unfinished import of {name}: {format_bytes(size)}")
    if left.parts:
        size = sum(max(0, size_of(part)) for part in left.parts)
        terminal.say(f"remove {len(left.parts)} partly downloaded files: {format_bytes(size)}")
    for path in left.temporary:
        terminal.say(f"remove {path.relative_to(root)}")
    for repo in left.busy:
        terminal.say(f"{repo} is in use; its files are kept")

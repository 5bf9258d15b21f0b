"""What `lmsupply rm` and `lmsupply verify` do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from lmsupply_cli import paths
from lmsupply_cli.cli.context import store_root
from lmsupply_cli.config.layers import Settings, read_settings
from lmsupply_cli.errors import HubError, ModelNotInstalled, UsageError
from lmsupply_cli.files import size_of
from lmsupply_cli.render.progress import pull_progress
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.leftovers import Leftovers, find_leftovers, free_leftovers
from lmsupply_cli.store.locate import installed_models, locate
from lmsupply_cli.store.manifest import Manifest, read_manifests, read_records
from lmsupply_cli.store.pull import run_pull
from lmsupply_cli.store.remove import Removal, carry_out, freed_bytes, plan_removal
from lmsupply_cli.store.repair import plan_repair
from lmsupply_cli.store.verify import ModelCheck, verify
from lmsupply_cli.units import format_bytes


def remove(names: Sequence[str], *, partial: bool, dry_run: bool, yes: bool, flags: dict[str, Any]) -> None:
    terminal = Terminal.of_process()
    root = store_root(read_settings(flags, environ=terminal.environ, path=paths.settings_file()))
    if not names and not partial:
        raise UsageError(
            "name a model to remove",
            hint="lmsupply models --installed -q lists them; --partial removes unfinished pulls",
        )
    removal = plan_removal(root, find_manifests(names, root))
    left = find_leftovers(root) if partial else Leftovers()
    _say_removal(removal, terminal)
    _say_leftovers(left, root, terminal)
    freed = removal.freed_bytes + left.size_bytes
    if dry_run:
        terminal.say(f"{format_bytes(freed)} would be freed")
        return
    if not yes:
        if not (terminal.stdin_tty and terminal.stderr_tty):
            raise UsageError("this removes files, and nobody can be asked", hint="add -y, or look first with --dry-run")
        if not terminal.ask(f"Free {format_bytes(freed)}?"):
            terminal.say("nothing was removed")
            return
    freed = 0
    if removal.manifests:
        freed += carry_out(root, removal.manifests, waiting=lambda repo: terminal.say(_busy(repo))).freed_bytes
    if partial:
        more, busy = free_leftovers(root)
        freed += more
        for repo in set(busy) - set(left.busy):
            terminal.say(f"{repo} is in use; its files are kept")
    terminal.say(f"{format_bytes(freed)} freed")


def _say_removal(removal: Removal, terminal: Terminal) -> None:
    for manifest in removal.manifests:
        kept = " (its files stay: the folder was added)" if manifest.added else ""
        terminal.say(f"remove {manifest.ref} {manifest.variant or manifest.folder}{kept}")
    if removal.shared:
        terminal.say(f"{len(removal.shared)} files stay: another installed model shares them")


def _say_leftovers(left: Leftovers, root: Path, terminal: Terminal) -> None:
    for repo, files in left.files.items():
        terminal.say(f"remove what an unfinished pull or removal left of {repo}: {format_bytes(freed_bytes(files))}")
    if left.parts:
        size = sum(max(0, size_of(part)) for part in left.parts)
        terminal.say(f"remove parts of {len(left.parts)} files that did not arrive whole: {format_bytes(size)}")
    for path in left.temporary:
        terminal.say(f"remove {path.relative_to(root)}")
    for repo in left.busy:
        terminal.say(f"{repo} is in use; its files are kept")


def _busy(repo: str) -> str:
    return f"another lmsupply is working on {repo}; waiting for it"


def check(names: Sequence[str], *, repair: bool, as_json: bool, flags: dict[str, Any]) -> None:
    terminal = Terminal.of_process()
    settings = read_settings(flags, environ=terminal.environ, path=paths.settings_file())
    root, status = store_root(settings), terminal.status()
    records = read_records(root)
    manifests = find_manifests(names, root) if names else list(records.manifests)
    for skipped in records.skipped:
        terminal.say(f"note: skipped a record: {skipped}")
    checks = []
    for manifest in manifests:
        found = verify(root, manifest, on_file=lambda path, ref=manifest.ref: status.show(f"checking {ref} {path}"))  # type: ignore[misc]
        status.clear()
        if not found.ok and repair and not manifest.added:
            _repair(found, root, settings, terminal)
            found = verify(root, manifest)
        checks.append(found)
    if as_json:
        rows = [
            {
                "ref": c.manifest.ref,
                "ok": c.ok,
                "files": [{"path": f.path, "ok": f.ok, "reason": f.reason or None} for f in c.files],
            }
            for c in checks
        ]
        terminal.json({"models": rows})
    else:
        for found in checks:
            terminal.data(f"{found.manifest.ref}: {'good' if found.ok else 'bad'} ({len(found.files)} files)")
            for file in found.files:
                if not file.ok:
                    terminal.data(f"  {file.path}: {file.reason}", indent=4)
        if not checks:
            terminal.data("no model is installed")
        elif not all(found.ok for found in checks) and not repair:
            terminal.say("hint: lmsupply verify --repair fetches the bad files again")
    if not all(found.ok for found in checks):
        raise typer.Exit(1)


def find_manifests(names: Sequence[str], root: Path) -> list[Manifest]:
    """What of ours the names stand for. Raises ModelNotFound, ModelNotInstalled, UsageError."""
    by_key = {m.key: m for m in read_manifests(root)}
    found = []
    for name in names:
        model = locate(name, root)
        if model.external:
            raise UsageError(f"{name} belongs to another tool: {model.path}", hint="remove it with that tool")
        if model.key not in by_key:
            known = ", ".join(m.ref for m in installed_models(root)) or "none"
            raise ModelNotInstalled(f"{name} is not a model of the store", hint=f"installed: {known}")
        found.append(by_key[model.key])
    return list({m.key: m for m in found}.values())


def _repair(found: ModelCheck, root: Path, settings: Settings, terminal: Terminal) -> None:
    """Fetch the bad files again, at the commit that was pulled."""
    manifest = found.manifest
    if settings.get("offline"):
        raise HubError(f"{manifest.ref} cannot be repaired offline", hint="go online and run it again")
    plan = plan_repair(found, root)
    terminal.say(f"fetching {len(found.bad)} bad files of {manifest.ref} again")
    with pull_progress(terminal) as listener:
        run_pull(plan, root, listener=listener)

"""`lmsupply models --found`: the models that other programs have on this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lmsupply_cli.cli.places import say_notes, shown_place
from lmsupply_cli.render.table import Column, print_table
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.found import FoundModel, found_models
from lmsupply_cli.store.found_imports import FoundImports
from lmsupply_cli.store.manifest import read_manifests
from lmsupply_cli.store.unique_refs import refs_of_records
from lmsupply_cli.units import format_bytes

_IN_PLACE = "used in place"


def list_found(terminal: Terminal, root: Path, text: str, *, paths: bool, quiet: bool, as_json: bool) -> None:
    """Print those whose name or program contains `text`."""
    found = found_models(root)
    models = [m for m in found.models if text.lower() in f"{m.name} {m.tool}".lower()]
    imported = _imports_of(models, root)
    say_notes(terminal, [f"skipped: {line}" for line in found.skipped])
    if as_json:
        terminal.json({"models": [_json(model, imported) for model in models]})
    elif quiet:
        for model in models:
            terminal.data(model.name)
    elif not models:
        terminal.say(
            "No models of other programs were found." if not text else f"No model of another program matches {text!r}."
        )
    else:
        columns = [
            Column("MODEL", [model.name for model in models]),
            Column("PROGRAM", [model.tool for model in models], rank=2),
            Column("SIZE", [format_bytes(model.size_bytes) for model in models], right=True),
            Column("FORMAT", [_format(model) for model in models], rank=3),
            Column("USE", [_use(model, imported) for model in models], rank=1),
        ]
        print_table(terminal, columns)
        if paths:
            for model in models:
                terminal.styled(f"{model.name}: {shown_place(model.path)}")
        else:
            terminal.remark("Run one: lmsupply run MODEL. Files of other programs are never changed. Paths: --paths.")


def _imports_of(models: Sequence[FoundModel], root: Path) -> dict[str, str]:
    """By the name of each model that is imported: the ref of the import."""
    imports, refs = FoundImports(root), refs_of_records(read_manifests(root), root)
    found = {model.name: imports.of(model) for model in models if model.files}
    return {name: name if m.ref == name else refs[m.key] for name, m in found.items() if m}


def _format(model: FoundModel) -> str:
    return {"gguf": "GGUF", "genai": "ONNX GenAI"}.get(model.format, model.format)


def _use(model: FoundModel, imported: Mapping[str, str]) -> str:
    if not model.files:
        return _IN_PLACE
    ref = imported.get(model.name, "")
    return "imported on first use" if not ref else "imported" if ref == model.name else f"imported as {ref}"


def _json(model: FoundModel, imported: Mapping[str, str]) -> dict[str, Any]:
    return {
        "ref": model.name,
        "program": model.tool,
        "format": model.format,
        "size_bytes": model.size_bytes,
        "installed": not model.files or model.name in imported,
        "imported_as": imported.get(model.name),
        "path": str(model.path),
    }

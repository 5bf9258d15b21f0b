"""What `lmsupply show` knows about a model, from the disk, the Hub or the catalogue."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lmsupply_cli.addresses import without_user
from lmsupply_cli.catalogue.entry import CatalogueEntry, License
from lmsupply_cli.catalogue.lookup import entry_of_repo
from lmsupply_cli.cli.consent import named_for
from lmsupply_cli.cli.fetching import obstacle_rows, obstacles_json
from lmsupply_cli.cli.importing import kind_rows
from lmsupply_cli.cli.prepare import load_options, required_precision
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.errors import HubError, LmsupplyError, ModelNotFound, ModelNotInstalled
from lmsupply_cli.files import folder_bytes, is_file, listed, read_bytes
from lmsupply_cli.genai_config import count_of, object_of
from lmsupply_cli.hub.client import HubClient, kept_offline_by
from lmsupply_cli.hub.licenses import license_of
from lmsupply_cli.hub.resolve import Resolution
from lmsupply_cli.hub.tree import RepoTree
from lmsupply_cli.hub.variant import LICENSE_FILE
from lmsupply_cli.loading.formats import prepare_format, read_format
from lmsupply_cli.loading.plan import plan_load
from lmsupply_cli.loading.recommend import catalogue_variants, expected_variant, machine_wish
from lmsupply_cli.memory.estimate import MemoryEstimate, estimate_memory
from lmsupply_cli.memory.shape import read_shape, shape_by_config
from lmsupply_cli.render.fields import Row
from lmsupply_cli.render.flags import as_flags
from lmsupply_cli.store.judging import look_at_model
from lmsupply_cli.store.locate import LocatedModel, locate, named_repo
from lmsupply_cli.store.manifest import ImportSource
from lmsupply_cli.store.pull import fetch_pinned, resolve_here
from lmsupply_cli.units import format_bytes, format_parameters

MEMORY_TOKENS = 4096


@dataclass(frozen=True)
class Description:
    """`source`: where it was read: disk, Hub or catalogue. Unknown figures are None."""

    ref: str
    source: str
    repo: str
    commit: str
    license: License
    parameters: float | None
    context_length: int | None
    shape: dict[str, int | None]
    prompt_format: str | None
    resolution: Resolution | None
    path: Path | None
    size_bytes: int | None
    external: bool = False
    uncertain: tuple[str, ...] = ()
    memory: MemoryEstimate | None = None  # at `MEMORY_TOKENS` of context
    loading: tuple[Row, ...] = ()  # how it would be loaded now
    obstacles: tuple[Obstacle, ...] = ()
    imported: ImportSource | None = None


def describe(name: str, settings: Settings, root: Path) -> Description:
    """Raises ModelNotFound, HubError, UsageError."""
    name = named_for(name, settings)
    try:
        model = locate(name, root, precision=required_precision(settings))
    except ModelNotInstalled as missing:
        try:
            return _from_hub(name, settings)
        except ModelNotFound:  # an added folder that is gone
            raise missing from None
    folder, obstacles = look_at_model(model)
    renderer = prepare_format(folder)  # alive until the end, so that both readers of the format share it
    found = _from_disk(model, folder, obstacles)
    found = found if obstacles else replace(found, loading=_loading_rows(model, settings))
    del renderer
    return found


def license_text(name: str, settings: Settings, root: Path) -> str:
    """The text of the license, from the disk or the Hub. Raises LmsupplyError."""
    name = named_for(name, settings)
    try:
        model = locate(name, root, precision=required_precision(settings))
        for folder in (model.path, *list(model.path.parents)[: 2 + model.variant.count("/")]):
            for path in listed(folder):
                if is_file(path) and LICENSE_FILE.search(path.name):
                    return read_bytes(path).decode("utf-8", errors="replace")
            if (folder.parent.name == "snapshots") or not model.repo:
                break
        license = model.license
    except ModelNotInstalled:
        entry, tree = _tree(name, settings)
        found = [path for path in tree.files if LICENSE_FILE.search(path)]
        if found:
            with HubClient() as hub:
                return hub.fetch_text(tree, found[0])
        license = license_of(tree, entry)
    where = f"; read it at {license.url}" if license.url else ""
    raise LmsupplyError(
        f"{without_user(name)} has no license text: {license.label}{where}",
        hint=f"lmsupply show {without_user(name)}",
    )


def description_rows(shown: Description) -> list[Row]:
    license, shape = shown.license, shown.shape
    rows = [("model", shown.ref), ("source", shown.source)]
    if shown.repo:
        rows.append(("repo", shown.repo + (f" at {shown.commit[:12]}" if shown.commit else "")))
    rows += [
        ("license", license.terms),
        *([("", license.url)] if license.url else []),
        ("parameters", format_parameters(shown.parameters)),
        ("context", f"{shown.context_length:,} tokens" if shown.context_length else "unknown"),
        ("architecture", _architecture(shape) or "unknown"),
        ("chat format", shown.prompt_format or "unknown until the model is installed"),
    ]
    if shown.size_bytes:
        rows.append(("size", format_bytes(shown.size_bytes)))
    if shown.memory:
        terms = shown.memory
        tokens = min(MEMORY_TOKENS, shown.context_length or MEMORY_TOKENS)
        parts = {
            "weights": terms.weights_bytes,
            "KV cache": terms.cache_bytes,
            "tokenizer": terms.tokenizer_bytes,
            "computation": terms.work_bytes,
            "process": terms.process_bytes,
        }
        rows += [
            ("memory", f"{format_bytes(terms.steady_bytes)} with a context of {tokens:,} tokens"),
            ("", " · ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())),
            ("", f"at most {format_bytes(terms.peak_bytes)} while loading or processing a prompt"),
        ]
    rows += shown.loading
    rows += obstacle_rows(shown.obstacles)
    rows += _import_rows(shown.imported)
    if shown.path:
        rows.append(("files", f"{shown.path}" + (" (belongs to another tool)" if shown.external else "")))
    if shown.resolution:
        chosen = shown.resolution.chosen
        reasons = ", ".join(shown.resolution.reasons)
        rows.append(("variant", f"{chosen.name} · {_size(chosen.size_bytes)} · {reasons}"))
        rows += [
            ("not chosen", f"{v.name} · {_size(v.size_bytes)} · {reason}") for v, reason in shown.resolution.rejected
        ]
    if shown.uncertain:
        rows.append(("approximate", ", ".join(shown.uncertain)))
    return rows


def _import_rows(source: ImportSource | None) -> list[Row]:
    """What it was imported from, and how its weights are represented."""
    if source is None:
        return []
    files = [f"{file.path}, {format_bytes(file.size_bytes)}, {file.digest}" for file in source.files]
    fate = "kept" if source.kept else "removed after the import"
    block = f", block {source.block_size}" if source.block_size else ""
    return [
        ("imported from", f"{source.format.upper() if source.format == 'gguf' else source.format}, {fate}"),
        *(("", file) for file in files),
        ("imported as", source.precision + block),
        *kind_rows(source.kinds, source.forms),
    ]


def _import_json(source: ImportSource | None) -> dict[str, Any] | None:
    if source is None:
        return None
    return {
        "format": source.format,
        "files": [{"path": f.path, "size_bytes": f.size_bytes, "digest": f.digest} for f in source.files],
        "kept": source.kept,
        "precision": source.precision,
        "block_size": source.block_size or None,
        "kinds": dict(source.kinds),
        "forms": dict(source.forms),
    }


def description_json(shown: Description) -> dict[str, Any]:
    resolution = shown.resolution
    chosen = resolution.chosen if resolution else None
    return {
        "ref": shown.ref,
        "source": shown.source,
        "repo": shown.repo or None,
        "commit": shown.commit or None,
        "license": shown.license.as_dict(),
        "parameters": round(shown.parameters * 1e9) if shown.parameters else None,
        "context_length": shown.context_length,
        "shape": shown.shape,
        "prompt_format": shown.prompt_format,
        "chosen": {"variant": chosen.folder, "size_bytes": chosen.size_bytes, "reasons": list(resolution.reasons)}
        if chosen and resolution
        else None,
        "rejected": [
            {"variant": v.folder, "size_bytes": v.size_bytes, "reason": reason} for v, reason in resolution.rejected
        ]
        if resolution
        else [],
        "size_bytes": shown.size_bytes,
        "installed": shown.path is not None,
        "external": shown.external,
        "path": str(shown.path) if shown.path else None,
        "uncertain": list(shown.uncertain),
        "memory": _memory_json(shown.memory),
        "obstacles": obstacles_json(shown.obstacles),
        "import": _import_json(shown.imported),
    }


def _memory_json(terms: MemoryEstimate | None) -> dict[str, int] | None:
    if terms is None:
        return None
    return {
        "context_tokens": MEMORY_TOKENS,
        **asdict(terms),
        "steady_bytes": terms.steady_bytes,
        "peak_bytes": terms.peak_bytes,
    }


def _loading_rows(model: LocatedModel, settings: Settings) -> tuple[Row, ...]:
    """How the model would be loaded on this machine, or why it would not."""
    try:
        rows = dict(plan_load(model, load_options(settings)).rows())
    except LmsupplyError as error:
        return (("loads with", as_flags(f"{error.message}; {error.hint}" if error.hint else error.message)),)
    return (("loads with", f"{rows['provider']}, context {rows['context']}; {rows.get('memory', 'memory unknown')}"),)


def _from_disk(model: LocatedModel, folder: ModelFolder, obstacles: tuple[Obstacle, ...]) -> Description:
    decoder = folder.decoder
    shape = _shape(decoder)
    try:
        prompt = read_format(folder).format.formatter.name
    except LmsupplyError as error:
        prompt = f"broken: {as_flags(error.message)}"
    resolution, memory = _installed_variant(model), read_shape(folder)
    return Description(
        ref=model.ref,
        source="disk",
        repo=model.repo,
        commit=model.commit,
        license=model.license,
        parameters=model.parameters,
        context_length=folder.model["context_length"],
        shape=shape,
        prompt_format="the model's own template" if prompt == "template" else prompt,
        resolution=resolution,
        path=model.path,
        size_bytes=folder_bytes(model.path),
        memory=estimate_memory(memory, min(MEMORY_TOKENS, memory.context_length)) if memory else None,
        external=model.external,
        obstacles=obstacles,
        imported=model.source,
    )


def _installed_variant(model: LocatedModel) -> Resolution | None:
    """The variant that is here, among those that the catalogue knows."""
    variants = catalogue_variants(model.entry) if model.entry and model.repo else []
    here = next((v for v in variants if v.folder == model.variant), None)
    if here is None:
        return None
    return Resolution(here, ("it is installed",), tuple((v, "not installed") for v in variants if v != here))


def _from_hub(name: str, settings: Settings) -> Description:
    entry, wanted = named_repo(name)
    try:
        entry, tree = _tree(name, settings)
    except (HubError, ModelNotInstalled):
        if entry is None:
            raise
        return _from_catalogue(entry, settings)
    wish = machine_wish(settings.get("provider"), settings.get("precision"), wanted.variant)
    with HubClient() as hub:
        resolution, obstacles = resolve_here(tree, wish, entry, lambda path: hub.fetch_text(tree, path))
    model = object_of(resolution.chosen.config, "model")
    decoder = object_of(model, "decoder")
    return Description(
        ref=entry.ref if entry else tree.repo,
        source="Hub",
        repo=tree.repo,
        commit=tree.commit,
        license=license_of(tree, entry),
        parameters=entry.parameters if entry else None,
        context_length=count_of(model, "context_length"),
        shape=_shape(decoder),
        prompt_format=entry.prompt_format if entry else None,
        resolution=resolution,
        path=None,
        size_bytes=resolution.chosen.size_bytes,
        memory=_by_config(resolution.chosen.config, resolution.chosen.size_bytes, wish.provider),
        obstacles=obstacles,
    )


def _shape(decoder: dict[str, Any]) -> dict[str, int | None]:
    return {
        "layers": count_of(decoder, "num_hidden_layers"),
        "kv_heads": count_of(decoder, "num_key_value_heads"),
        "head_size": count_of(decoder, "head_size"),
    }


def _architecture(shape: dict[str, int | None]) -> str:
    layers, heads, size = (shape.get(key) for key in ("layers", "kv_heads", "head_size"))
    parts = [
        f"{layers} layers" if layers else "",
        f"{heads} KV heads" if heads else "",
        f"head size {size}" if size else "",
    ]
    return " · ".join(filter(None, parts))


def _by_config(config: dict[str, Any], size_bytes: int, provider: str) -> MemoryEstimate | None:
    """From the config and the sizes alone, as they are known before a pull."""
    shape = shape_by_config(object_of(config, "model"), size_bytes, provider=provider)
    return estimate_memory(shape, min(MEMORY_TOKENS, shape.context_length)) if shape else None


def _from_catalogue(entry: CatalogueEntry, settings: Settings) -> Description:
    resolution = expected_variant(entry, machine_wish(settings.get("provider"), settings.get("precision")))
    return Description(
        ref=entry.ref,
        source="catalogue (offline)",
        repo=entry.repo,
        commit=entry.revision or "",
        license=entry.license,
        parameters=entry.parameters,
        context_length=entry.context_length,
        shape={"layers": entry.layers, "kv_heads": entry.kv_heads, "head_size": entry.head_size},
        prompt_format=entry.prompt_format,
        resolution=resolution,
        path=None,
        size_bytes=(resolution.chosen.size_bytes or None) if resolution else None,
        uncertain=entry.uncertain,
    )


def _tree(name: str, settings: Settings) -> tuple[CatalogueEntry | None, RepoTree]:
    entry, wanted = named_repo(name)
    if cause := kept_offline_by(settings.get("offline")):
        hint = f"leave out {cause} to look it up on the Hub"
        raise ModelNotInstalled(f"{without_user(name)} is not installed and lmsupply is offline", hint=hint)
    with HubClient() as hub:
        return entry or entry_of_repo(wanted.repo), fetch_pinned(hub, entry, wanted)


def _size(count: int) -> str:
    return format_bytes(count) if count else "unknown size"

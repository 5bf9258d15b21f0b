"""Models of the Hub that are imported: a GGUF file or safetensors is chosen, looked into, fetched and converted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.errors import ModelFilesError, ModelNotFound, UsageError
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.files import our_io_error, parse_json
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.hub.sources import GGUF, MODEL_CONFIG, SourceVariant
from lmsupply_cli.importer.plan import (
    BLOCK_SIZES,
    EXACT,
    QUANTIZED_HERE,
    VERSION,
    check_wish,
    choose_precision,
    open_source,
    plan_import,
)
from lmsupply_cli.loading.importing import ImportWish, check_new, check_room, convert_to, write_model
from lmsupply_cli.loading.recommend import named_by_role
from lmsupply_cli.memory.rough import MARGIN, PACKED, PROCESS_BYTES
from lmsupply_cli.store.imports import begin_import
from lmsupply_cli.store.manifest import ImportForm, Manifest
from lmsupply_cli.store.plan import PullPlan, SourcePlan
from lmsupply_cli.store.pull import SourceRules, plan_any, refuse_what_never_runs
from lmsupply_cli.store.sources import FetchedSource, fetch_source

# bytes written for each of the source: of exact imports about, since scales and corrections become floats of 32 bits; of
# the others from weights of 16 bits
_GROWTH = {"exact": 1.4, "int4": 0.36, "int8": 0.6, "fp16": 1.0, "fp32": 2.0}
_TEXT_BYTES = 20_000_000  # tokenizer and configs, on the safe side
_HEAD_BYTES = 262_144  # of a GGUF file: its architecture stands before its vocabulary
_FLOATS = ("F16", "FP16", "BF16", "F32", "FP32")


@dataclass(frozen=True, slots=True)
class SourceImport:
    """What is known of the import of a model of the Hub before the download. `form`: in which its weights are stored, and
    `reason`: why."""

    plan: SourcePlan
    form: ImportForm
    reason: str

    @property
    def ref(self) -> str:
        return self.plan.ref

    @property
    def installed(self) -> Manifest | None:
        return self.plan.imported_as(self.form)

    @property
    def write_bytes(self) -> int:
        """About what the model will take on the disk."""
        weights = sum(file.size_bytes for file in self.plan.source.weights)
        return int(weights * _GROWTH[self.form.precision]) + _TEXT_BYTES

    @property
    def memory_bytes(self) -> int:
        """About what it will need in memory, without the cache."""
        return int(PACKED * self.write_bytes) + PROCESS_BYTES


def plan_model(
    name: str,
    root: Path,
    wish: VariantWish,
    convert: ImportWish = ImportWish(),  # noqa: B008  # frozen
    *,
    offline: bool = False,
    listener: ProgressListener | None = None,
) -> PullPlan | SourceImport:
    """What a pull of `name` would do: fetch a variant or, of a repo without one, import a GGUF file or safetensors. The
    header of a source is read, so that what cannot be imported is refused before the download.

    Raises ModelNotFound, ModelNotInstalled, ModelFilesError, HubError, UsageError.
    """
    check_wish(convert.precision, convert.block_size)
    look = _Inspection()
    room = int(detect_memory().available_bytes * MARGIN / (PACKED * _GROWTH["exact"]))
    plan = plan_any(named_by_role(name), root, wish, SourceRules(room, look), offline=offline, listener=listener)
    if isinstance(plan, PullPlan):
        return plan
    found = _source_import(plan, convert, packed=look.packed)
    stored = found.form.precision
    if wish.exact and stored not in (EXACT, wish.precision) and wish.precision != "auto":
        raise UsageError(
            f"`precision={wish.precision}` cannot be the precision of an import",
            hint=f"choose another, such as `precision={stored}`, or leave it out",
        )
    return found


class _Inspection:
    """Looks into the first bytes of a source. `packed`: its safetensors are quantized."""

    def __init__(self) -> None:
        self.packed = False

    def __call__(self, source: SourceVariant, read: Callable[[str, int], bytes]) -> tuple[Obstacle, ...]:
        try:
            if source.format == GGUF:
                _check_gguf(source.weights[0].path, read)
            else:
                config = next(file for file in source.files if file.path.rpartition("/")[2] == MODEL_CONFIG)
                self.packed = _check_config(config.path, read(config.path, config.size_bytes))
        except ModelFilesError as error:
            return (Obstacle(error.message, error.hint, file=error.message.partition(":")[0]),)
        return ()


def _check_gguf(path: str, read: Callable[[str, int], bytes]) -> None:
    from lmsupply_cli.importer.gguf_file import read_metadata
    from lmsupply_cli.importer.gguf_source import check_architecture

    check_architecture(read_metadata(read(path, _HEAD_BYTES), path))


def _check_config(path: str, data: bytes) -> bool:
    """Whether the weights are quantized. Raises ModelFilesError."""
    from lmsupply_cli.importer.architectures import supported, titles

    config: Any = parse_json(data, f"{path} is damaged: it", error=ModelFilesError)
    if not isinstance(config, dict):
        raise ModelFilesError(f"{path} is not an object", hint="use another repo")
    if problem := supported(config):
        raise ModelFilesError(f"{path}: {problem}", hint=f"supported: {titles()}")
    return bool(config.get("quantization_config"))


def _source_import(plan: SourcePlan, wish: ImportWish, *, packed: bool) -> SourceImport:
    source = plan.source
    floats = not packed and (source.format != GGUF or source.quantization in _FLOATS)
    kinds = [] if floats else [source.quantization or source.format]
    precision, reason = choose_precision(kinds, source.format, wish.precision, wish.preferred)
    quantized = precision in QUANTIZED_HERE
    if wish.block_size is not None and not quantized:
        raise UsageError(f"`block_size` has no effect with `precision={precision}`", hint="leave it out")
    return SourceImport(plan, ImportForm(precision, (wish.block_size or BLOCK_SIZES[0]) if quantized else 0), reason)


def fetch_and_import(
    planned: SourceImport,
    root: Path,
    *,
    consent: Callable[[SourcePlan], None],
    keep: bool = False,
    listener: ProgressListener | None = None,
) -> Manifest:
    """Carry out a plan; `consent` raises LicenseNotAccepted; `keep`: the files that were downloaded stay. Raises HubError,
    ModelFilesError, FileError."""
    listener = listener or ProgressListener()
    refuse_what_never_runs(planned.plan)
    consent(planned.plan)
    reserving = replace(planned.plan, reserved_bytes=planned.write_bytes)
    with fetch_source(reserving, root, planned.form, keep=keep, listener=listener) as fetched:
        if fetched.installed:
            return fetched.installed
        plan = plan_import(_opened(fetched), planned.form.precision, planned.form.block_size or None)
        new = replace(fetched.new, source=replace(fetched.new.source, importer=VERSION))
        with begin_import(root, new, needed_bytes=plan.write_bytes, listener=listener) as staging:
            if staging.installed:
                return staging.installed
            _copy_licenses(fetched, staging.folder)
            return write_model(plan, staging, listener)


def import_again(manifest: Manifest, root: Path, *, listener: ProgressListener | None = None) -> Manifest:
    """Fetch the source of an import once more and replace its files; the record stays. Raises HubError, ModelNotFound,
    ModelFilesError, FileError."""
    source = manifest.source
    if source is None:
        raise UsageError(f"{manifest.ref} was not imported", hint="pull it again")
    listener = listener or ProgressListener()
    variant = manifest.variant.removesuffix(f"-{source.form}")
    plan = plan_any(f"{manifest.repo}@{manifest.commit}:{variant}", root, listener=listener)
    if isinstance(plan, PullPlan):
        raise ModelNotFound(
            f"{manifest.repo} no longer has {variant}", hint=f"lmsupply rm {manifest.ref}, then pull it again"
        )
    with fetch_source(plan, root, source.form, keep=source.kept, again=True, listener=listener) as fetched:
        converted = plan_import(_opened(fetched), source.precision, source.block_size or None)
        new = replace(fetched.new, ref=manifest.ref, revision=manifest.revision, variant=manifest.variant,
                      source=replace(fetched.new.source, importer=VERSION))  # fmt: skip
        with begin_import(root, new, needed_bytes=converted.write_bytes, again=True, listener=listener) as staging:
            _copy_licenses(fetched, staging.folder)
            return write_model(converted, staging, listener)


def fetch_and_convert(
    planned: SourceImport,
    root: Path,
    folder: Path,
    *,
    consent: Callable[[SourcePlan], None],
    keep: bool = False,
    listener: ProgressListener | None = None,
) -> None:
    """As `fetch_and_import`, into a folder outside of the store, which is new or empty. Raises UsageError too."""
    check_new(folder)
    check_room(folder, planned.write_bytes)
    refuse_what_never_runs(planned.plan)
    consent(planned.plan)
    with fetch_source(planned.plan, root, planned.form, keep=keep, again=True, listener=listener) as fetched:
        plan = plan_import(_opened(fetched), planned.form.precision, planned.form.block_size or None)
        convert_to(plan, folder, listener=listener)
        _copy_licenses(fetched, folder)


def _opened(fetched: FetchedSource) -> Any:
    first = fetched.files[0]
    return open_source(first if first.suffix.lower() == ".gguf" else first.parent)


def _copy_licenses(fetched: FetchedSource, folder: Path) -> None:
    """They travel with the weights."""
    for path in fetched.licenses:
        with our_io_error(folder / path.name):
            shutil.copyfile(path, folder / path.name)

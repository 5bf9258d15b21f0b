"""Import a GGUF file or a folder of safetensors into the store: the plan, then the model."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import NamedTuple

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import License
from lmsupply_cli.errors import FileError, ModelNotFound, UsageError
from lmsupply_cli.events import FileProgress, Notice, ProgressListener
from lmsupply_cli.files import (
    absolute,
    expanded,
    free_bytes,
    is_absent,
    is_file,
    is_folder,
    listed,
    our_io_error,
    size_of,
)
from lmsupply_cli.foreign import plain
from lmsupply_cli.genai_config import CONFIG
from lmsupply_cli.hub.licenses import strictest_license, tier_of
from lmsupply_cli.importer.forms import PRECISIONS
from lmsupply_cli.importer.plan import VERSION, ImportPlan, check_wish, open_source, plan_import, run_import
from lmsupply_cli.locks import Busy, is_held, locked
from lmsupply_cli.store.imports import (
    NewImport,
    Staging,
    begin_import,
    check_name,
    find_import,
    finish_import,
    name_for,
)
from lmsupply_cli.store.inherited import known_licenses
from lmsupply_cli.store.locate import LocatedModel, located
from lmsupply_cli.store.manifest import ImportForm, ImportSource, Manifest
from lmsupply_cli.store.source_paths import SourcePath, as_place, no_source, read_digests, source_at
from lmsupply_cli.units import format_bytes

_ELSEWHERE = "name a folder that can be written"
_STAGING, _MODEL, _LOCK = ".lmsupply-partial", "model", "lock"  # in the folder that a model is written to


class ImportWish(NamedTuple):
    """How the weights are stored. `precision` None: as `importer.plan` chooses, where `preferred` is that of weights in full
    precision (None: as the format suggests); `block_size` None: 32, of weights that are quantized here."""

    precision: str | None = None
    block_size: int | None = None
    preferred: str | None = None

    @classmethod
    def of(cls, preferred: str, precision: str | None = None, block_size: int | None = None) -> ImportWish:
        """`preferred`: a precision of the settings, which know more of them: "auto", and "bf16", which is stored as fp16.
        Raises UsageError."""
        check_wish(precision, block_size)
        stored = {"bf16": "fp16"}.get(preferred, preferred)
        return cls(precision, block_size, stored if stored in PRECISIONS else None)


@dataclass(frozen=True, slots=True)
class LocalImport:
    """The import of a file or folder on this machine. `installed`: the model, if this source is imported in this form
    already, under whatever name; `ref`: the name it gets."""

    ref: str
    at: SourcePath
    plan: ImportPlan
    license: License
    installed: Manifest | None = None

    @property
    def form(self) -> ImportForm:
        return form_of(self.plan)

    @property
    def precision(self) -> str | None:
        """Of most weights, such as "int4"."""
        form, plan = self.form, self.plan
        return ImportSource(self.at.format, (), *form, plan.kinds, plan.forms).stored_precision

    @property
    def is_done(self) -> bool:
        """There is nothing to do: the model is there under this name."""
        return self.installed is not None and self.installed.ref == self.ref

    @property
    def moved(self) -> bool:
        """The files that the model was imported from are gone: these are the ones to import it from again."""
        source = self.installed.source if self.installed and not self.installed.repo else None
        return source is not None and any(size_of(Path(file.path)) < 0 for file in source.files)


def import_model(
    source: Path | str,
    name: str | None = None,
    *,
    precision: str | None = None,
    block_size: int | None = None,
    cache_dir: Path | str | None = None,
    listener: ProgressListener | None = None,
) -> LocatedModel:
    """Import a GGUF file or a folder of safetensors, so that it runs like any other model. A source that was imported in
    the same form before is not imported again.

    `precision`: "exact" carries quantized weights over as they are, "int4" and "int8" quantize, in blocks of
    `block_size` inputs (32, 64 or 128), "fp16" and "fp32" store floats. By default quantized weights are carried over,
    and floats are quantized: those of safetensors to int4, those of a GGUF file to int8. `name`: by default that of the
    file or folder.

    Raises ModelNotFound, ModelFilesError for a source that is damaged or unsupported, UsageError, FileError.
    """
    root = paths.store_root(cache_dir)
    planned = plan_local(find_source(source), root, ImportWish(precision, block_size), name=name, listener=listener)
    return located(import_local(planned, root, listener=listener), root)


def find_source(source: Path | str) -> SourcePath:
    """Raises ModelNotFound for what is neither a GGUF file nor a folder of safetensors, UsageError for several models."""
    found = source_at(source if isinstance(source, Path) else as_place(source))
    if found:
        return found
    if missing := no_source(str(source)):
        raise missing
    path = expanded(str(source))
    if is_file(path / CONFIG):
        raise ModelNotFound(f"{source} is already in ONNX GenAI format", hint=f"lmsupply run {quote(str(source))}")
    raise ModelNotFound(
        f"{source} contains no model to import"
        if is_file(path) or is_folder(path)
        else f"no such file or folder: {source}",
        hint="name a GGUF file, or a folder of safetensors with its config.json",
    )


def plan_local(
    at: SourcePath,
    root: Path,
    wish: ImportWish = ImportWish(),  # noqa: B008  # frozen
    *,
    name: str | None = None,
    listener: ProgressListener | None = None,
) -> LocalImport:
    """Reads no weights, unless a checksum tells whether this source was imported before. Raises ModelFilesError, UsageError,
    FileError."""
    plan = plan_source(at, wish)
    form = form_of(plan)
    found = find_import(root, at.files, form, listener=listener)
    if name is not None:
        name = check_name(root, name, at)
    ref = name or (found.ref if found else name_for(root, at, form))
    return LocalImport(ref, at, plan, license_of(plan, at, root, listener=listener), found)


def plan_source(at: SourcePath, wish: ImportWish) -> ImportPlan:
    """Raises UsageError, ModelFilesError."""
    check_wish(wish.precision, wish.block_size)
    return plan_import(open_source(at.path), wish.precision, wish.block_size, preferred=wish.preferred)


def license_of(plan: ImportPlan, at: SourcePath, root: Path, *, listener: ProgressListener | None = None) -> License:
    """The strictest of what the source states and what is known of these weights on this machine. Raises FileError."""
    stated = plain(plan.source.license, 100).strip()
    known = known_licenses(root, at, listener=listener)
    own = [License(stated or "unknown", tier_of(stated))] if stated or not known else []
    return strictest_license([*known, *own])


def import_local(
    planned: LocalImport, root: Path, *, listener: ProgressListener | None = None, again: bool = False
) -> Manifest:
    """Carry out the plan; `again`: although the model is installed. Raises ModelFilesError, FileError."""
    listener = listener or ProgressListener()
    if planned.installed and planned.is_done and not (again or planned.moved):
        return planned.installed
    plan, form = planned.plan, planned.form
    files = read_digests(root, planned.at.files, listener=listener)
    source = ImportSource(
        planned.at.format, files, form.precision, form.block_size, {}, {}, kept=True, importer=VERSION
    )
    new = NewImport(planned.ref, source, planned.license)
    with begin_import(root, new, needed_bytes=plan.write_bytes, again=again, listener=listener) as staging:
        return staging.installed or write_model(plan, staging, listener)


def write_model(plan: ImportPlan, staging: Staging, listener: ProgressListener) -> Manifest:
    """Convert into the folder of `staging` and install it."""
    _convert(plan, staging.folder, listener)
    return finish_import(staging, kinds=plan.kinds, forms=plan.forms, parameters=plan.parameters, listener=listener)


def convert_to(
    plan: ImportPlan, folder: Path, *, copied: Iterable[Path] = (), listener: ProgressListener | None = None
) -> None:
    """Write the model into `folder`, which is new or empty, outside of the store, with the files `copied`; nothing is left
    of an import that fails. Raises UsageError, ModelFilesError, FileError."""
    listener = listener or ProgressListener()
    check_new(folder)
    check_room(folder, plan.write_bytes)
    with _new_folder(absolute(folder)) as staging:
        for path in copied:
            with our_io_error(folder / path.name):
                shutil.copyfile(path, staging / path.name)
        _convert(plan, staging, listener)


def check_new(folder: Path) -> None:
    """Raises UsageError unless a model may be written into `folder`: it is new, or empty but for what a killed conversion
    left there."""
    if is_absent(folder) or (is_folder(folder) and all(_is_ours(path) for path in listed(folder))):
        return
    raise UsageError(f"{folder} already exists", hint="use a new or empty folder")


def _is_ours(path: Path) -> bool:
    """A folder of a conversion that is at work, or was killed: beside the model it holds nothing but locks."""
    return path.name == _STAGING and all(below.name == _MODEL or _LOCK in below.name for below in listed(path))


def check_room(folder: Path, needed_bytes: int) -> None:
    """Raises FileError if that does not fit the disk of `folder`."""
    if (free := free_bytes(folder)) < needed_bytes:
        raise FileError(
            f"{format_bytes(needed_bytes)} to write, but only {format_bytes(free)} is free on the disk of {folder}",
            hint="free some space, or name a folder on another disk",
        )


@contextmanager
def _new_folder(folder: Path) -> Iterator[Path]:
    """A folder in `folder`, whose files come into `folder` if the block ends without an error: the configuration last, so
    that a model is there as a whole or not at all. What a killed process left goes with the next one. Raises FileError,
    UsageError if somebody else writes there."""
    made, staging = is_absent(folder), folder / _STAGING
    try:
        with our_io_error(folder, hint=_ELSEWHERE):
            staging.mkdir(parents=True, exist_ok=True)
        with locked(staging / _LOCK):
            try:
                shutil.rmtree(staging / _MODEL, ignore_errors=True)
                with our_io_error(folder, hint=_ELSEWHERE):
                    (staging / _MODEL).mkdir()
                yield staging / _MODEL
                with our_io_error(folder, hint=_ELSEWHERE):
                    for path in sorted(listed(staging / _MODEL), key=lambda path: path.name == CONFIG):
                        path.replace(folder / path.name)
            finally:
                shutil.rmtree(staging / _MODEL, ignore_errors=True)
    except Busy:
        raise UsageError(
            f"another lmsupply process is writing {folder}", hint="wait for it, or use another folder"
        ) from None
    else:
        made = False
    finally:
        if not is_held(staging / _LOCK):
            with suppress(OSError):  # it is somebody else's by now
                (staging / _LOCK).unlink(missing_ok=True)
                staging.rmdir()
                if made:
                    folder.rmdir()


def _convert(plan: ImportPlan, folder: Path, listener: ProgressListener) -> None:
    for note in run_import(plan, folder, _counter(plan, listener)):
        listener.notice(Notice("import", note))


def form_of(plan: ImportPlan) -> ImportForm:
    return ImportForm(plan.wish.precision, plan.block_size)


def _counter(plan: ImportPlan, listener: ProgressListener) -> Callable[[int], None]:
    """Bytes of the source, as progress of one file."""
    name, total, done = plan.source.files[0].name, plan.read_bytes, 0

    def count(read: int) -> None:
        nonlocal done
        done = min(total, done + read)
        listener.file(FileProgress(name, done, total, done, total, "convert"))

    return count

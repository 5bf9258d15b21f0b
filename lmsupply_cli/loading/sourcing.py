"""Models of the Hub that are imported: a GGUF file or safetensors is chosen, looked into, fetched and converted."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmsupply_cli.engine.runnable import Obstacle
from lmsupply_cli.errors import ModelFilesError, ModelNotFound, UsageError
from lmsupply_cli.events import ProgressListener
from lmsupply_cli.files import absolute, is_folder, our_io_error, parse_json
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.hub.sources import GGUF, MODEL_CONFIG, Room, SourceVariant
from lmsupply_cli.importer.forms import Wish
from lmsupply_cli.importer.plan import (
    BLOCK_SIZES,
    EXACT,
    QUANTIZED_HERE,
    VERSION,
    ImportPlan,
    check_wish,
    choose_precision,
    open_source,
    plan_import,
)
from lmsupply_cli.loading.importing import ImportWish, check_new, check_room, convert_to, write_model
from lmsupply_cli.loading.recommend import named_by_role
from lmsupply_cli.loading.source_sizes import (
    SourceFacts,
    facts_of_config,
    facts_of_gguf,
    is_exact,
    text_bytes,
    written_bytes,
)
from lmsupply_cli.memory.rough import MARGIN, PACKED, PROCESS_BYTES
from lmsupply_cli.store.imports import NewImport, begin_import
from lmsupply_cli.store.manifest import ImportForm, Manifest
from lmsupply_cli.store.plan import PullPlan, SourcePlan
from lmsupply_cli.store.pull import SourceRules, plan_any, refuse_what_never_runs
from lmsupply_cli.store.sources import FetchedSource, fetch_source

_HEAD_BYTES = 262_144  # of a GGUF file: its architecture stands before its vocabulary
_FLOATS = ("F16", "FP16", "BF16", "F32", "FP32")
_PIECES, _BYTES = ("llama", "gemma4"), "gpt2"  # kinds of tokenizers in GGUF files
_BESIDE = ("quantize_config.json", "quant_config.json")
_FREES = "lmsupply rm --partial frees what was downloaded"


@dataclass(frozen=True, slots=True)
class SourceImport:
    """What is known of the import of a model of the Hub before the download. `form`: in which its weights are stored, and
    `reason`: why; `facts`: what its first bytes tell."""

    plan: SourcePlan
    form: ImportForm
    reason: str
    facts: SourceFacts = SourceFacts()  # noqa: RUF009  # frozen

    @property
    def ref(self) -> str:
        return self.plan.ref

    @property
    def installed(self) -> Manifest | None:
        return self.plan.imported_as(self.form)

    @property
    def is_lossless(self) -> bool:
        return self.form.precision == EXACT and is_exact(self.plan.source)

    @property
    def write_bytes(self) -> int:
        """About what the model will take on the disk."""
        return written_bytes(self.plan.source, _stored(self.form), self.facts)

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

    def imported_bytes(source: SourceVariant) -> int:
        return written_bytes(source, _stored(_form_of(source, convert)[0]))

    room = Room(int((detect_memory().available_bytes * MARGIN - PROCESS_BYTES) / PACKED), imported_bytes)
    plan = plan_any(named_by_role(name), root, wish, SourceRules(room, look), offline=offline, listener=listener)
    if isinstance(plan, PullPlan):
        return plan
    form, reason = _form_of(plan.source, convert, is_packed=look.facts.packed is not None)
    if convert.block_size is not None and not form.block_size:
        raise UsageError(f"`block_size` has no effect with `precision={form.precision}`", hint="leave it out")
    found = SourceImport(plan, form, reason, look.facts)
    stored = found.form.precision
    if wish.exact and stored not in (EXACT, wish.precision) and wish.precision != "auto":
        raise UsageError(
            f"`precision={wish.precision}` cannot be the precision of an import",
            hint=f"choose another, such as `precision={stored}`, or leave it out",
        )
    return found


class _Inspection:
    """Looks into the first bytes of a source, and keeps the `facts` that they tell."""

    def __init__(self) -> None:
        self.facts = SourceFacts()

    def __call__(self, source: SourceVariant, read: Callable[[str, int], bytes]) -> tuple[Obstacle, ...]:
        path = source.weights[0].path if source.format == GGUF else _named(source, MODEL_CONFIG)[0]
        try:
            self.facts = _looked_at_gguf(path, read) if source.format == GGUF else _looked_at_config(source, path, read)
        except ModelFilesError as error:
            return (Obstacle(error.message, error.hint, file=path),)
        return ()


def _looked_at_gguf(path: str, read: Callable[[str, int], bytes]) -> SourceFacts:
    """Raises ModelFilesError for an architecture or a tokenizer that is not supported."""
    from lmsupply_cli.importer.gguf_file import read_metadata
    from lmsupply_cli.importer.gguf_source import check_architecture
    from lmsupply_cli.importer.tokenizer_gguf import read_vocabulary
    from lmsupply_cli.importer.vocabulary import pre_tokenizer

    file = read_metadata(read(path, _HEAD_BYTES), path)
    check_architecture(file)
    kind = file.text("tokenizer.ggml.model", "")  # "": it stands further back
    if kind == _BYTES:
        pre_tokenizer(file.text("tokenizer.ggml.pre", ""), path)
    elif kind and kind not in _PIECES:
        read_vocabulary(file)
    return facts_of_gguf(file)


def _looked_at_config(source: SourceVariant, path: str, read: Callable[[str, int], bytes]) -> SourceFacts:
    """Raises ModelFilesError for an architecture or a quantization that is not supported."""
    from lmsupply_cli.importer.architectures import supported, titles
    from lmsupply_cli.importer.prequantized import quantization_method

    def read_all(path: str) -> bytes:
        return read(path, next(file.size_bytes for file in source.files if file.path == path))

    config: Any = parse_json(read_all(path), f"{path} is damaged: it", error=ModelFilesError)
    if not isinstance(config, dict):
        raise ModelFilesError(f"{path} is not an object", hint="use another repo")
    if problem := supported(config):
        raise ModelFilesError(f"{path}: {problem}", hint=f"supported: {titles()}")
    with TemporaryDirectory(prefix="lmsupply-") as name:
        folder = Path(name)
        for beside in [] if "quantization_config" in config else _named(source, *_BESIDE):
            with our_io_error(folder):
                (folder / beside.rpartition("/")[2]).write_bytes(read_all(beside))
        with _naming(path, folder):
            method = quantization_method(folder, config)
    return facts_of_config(config, method.bits if method else 0)


def _named(source: SourceVariant, *names: str) -> list[str]:
    """The paths of its files with these names."""
    return [file.path for file in source.files if file.path.rpartition("/")[2] in names]


def _form_of(source: SourceVariant, wish: ImportWish, *, is_packed: bool = False) -> tuple[ImportForm, str]:
    """In which form the weights are stored, and why. `is_packed`: these safetensors are quantized."""
    floats = not is_packed and (source.format != GGUF or source.quantization in _FLOATS)
    kinds = [] if floats else [source.quantization or source.format]
    precision, reason = choose_precision(kinds, source.format, wish.precision, wish.preferred)
    default = BLOCK_SIZES[0] if floats else 0  # blocks of the source's are carried over unless others are asked for
    return ImportForm(precision, (wish.block_size or default) if precision in QUANTIZED_HERE else 0), reason


def _stored(form: ImportForm) -> Wish:
    return Wish(form.precision, form.block_size or BLOCK_SIZES[0])


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
    refuse_what_never_runs(planned.plan)
    consent(planned.plan)
    reserving = replace(planned.plan, reserved_bytes=planned.write_bytes)
    return _import(replace(planned, plan=reserving), root, keep=keep, listener=listener)


def import_again(manifest: Manifest, root: Path, *, listener: ProgressListener | None = None) -> Manifest:
    """Fetch the source of an import once more and replace its files; the record stays. Raises HubError, ModelNotFound,
    ModelFilesError, FileError."""
    source = manifest.source
    if source is None:
        raise UsageError(f"{manifest.ref} was not imported", hint="pull it again")
    variant = manifest.variant.removesuffix(f"-{source.form}")
    plan = plan_any(f"{manifest.repo}@{manifest.commit}:{variant}", root, listener=listener)
    if isinstance(plan, PullPlan):
        raise ModelNotFound(
            f"{manifest.repo} no longer has {variant}", hint=f"lmsupply rm {manifest.ref}, then pull it again"
        )
    planned = SourceImport(plan, source.form, "")
    return _import(planned, root, keep=source.kept, listener=listener, replaces=manifest)


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
    reserved = planned.write_bytes if _disk_of(folder) == _disk_of(root) else 0
    plan = replace(planned.plan, reserved_bytes=reserved)
    with (
        fetch_source(plan, root, planned.form, keep=keep, again=True, listener=listener) as fetched,
        _naming(plan.tree.repo, fetched.folder, hint=_FREES),
    ):
        convert_to(_planned(fetched, planned.form), folder, copied=fetched.licenses, listener=listener)


def _import(
    planned: SourceImport,
    root: Path,
    *,
    keep: bool,
    listener: ProgressListener | None,
    replaces: Manifest | None = None,
) -> Manifest:
    """`replaces`: the record of the import whose files are made anew."""
    plan, form, again = planned.plan, planned.form, replaces is not None
    listener = listener or ProgressListener()
    with fetch_source(plan, root, form, keep=keep, again=again, listener=listener) as fetched:
        if fetched.installed:
            return fetched.installed
        with _naming(plan.tree.repo, fetched.folder, hint=_FREES):
            converted = _planned(fetched, form)
            needed = converted.weights.size_bytes + text_bytes(plan.source, planned.facts)
            new = _recorded(fetched.new, replaces)
            with begin_import(root, new, needed_bytes=needed, again=again, listener=listener) as staging:
                if staging.installed:
                    return staging.installed
                _copy(fetched.licenses, staging.folder)
                return write_model(converted, staging, listener)


def _recorded(new: NewImport, replaces: Manifest | None) -> NewImport:
    new = replace(new, source=replace(new.source, importer=VERSION))
    if replaces is None:
        return new
    return replace(new, ref=replaces.ref, revision=replaces.revision, variant=replaces.variant)


def _planned(fetched: FetchedSource, form: ImportForm) -> ImportPlan:
    first = fetched.files[0]
    source = open_source(first if first.suffix.lower() == ".gguf" else first.parent)
    return plan_import(source, form.precision, form.block_size or None)


def _copy(licenses: Sequence[Path], folder: Path) -> None:
    """They travel with the weights."""
    for path in licenses:
        with our_io_error(folder / path.name):
            shutil.copyfile(path, folder / path.name)


def _disk_of(path: Path) -> int | None:
    """That holds `path`, which may not exist yet; None if it cannot be found out."""
    here = absolute(path)
    try:
        return next(folder.stat().st_dev for folder in (here, *here.parents) if is_folder(folder))
    except (OSError, StopIteration):
        return None


@contextmanager
def _naming(name: str, folder: Path, *, hint: str = "") -> Iterator[None]:
    """Errors about the files in `folder` say `name`, that of a repo or a file in it, in place of it. `hint` is added to
    theirs."""
    try:
        yield
    except ModelFilesError as error:
        message = error.message.replace(f"{folder}{os.sep}", "").replace(str(folder), name)
        if name not in message:
            message = f"{name}: {message}"
        # the download was verified: another one would be no better
        elsewhere = error.hint.startswith("name a ") or error.hint.endswith(
            ("download it again", "download them again")
        )
        own = "use another repo, or another file of it" if elsewhere else error.hint
        raise ModelFilesError(message, hint="; ".join(filter(None, (own, hint)))) from error

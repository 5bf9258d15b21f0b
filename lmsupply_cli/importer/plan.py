"""An import: open the source, decide what its weights become, then write the model folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

from lmsupply_cli.errors import ModelFilesError, UsageError
from lmsupply_cli.files import is_file, listed
from lmsupply_cli.importer import architectures
from lmsupply_cli.importer.forms import FLOAT_KINDS, PRECISIONS, WeightPlan, Wish, runnable
from lmsupply_cli.importer.model_config import ModelConfig, parse_model_config
from lmsupply_cli.importer.positional import Stamp, check_unchanged, stamp_at
from lmsupply_cli.importer.source import Source
from lmsupply_cli.importer.tokenizer_plan import PlannedTokenizer, plan_tokenizer
from lmsupply_cli.memory.estimate import MemoryEstimate, estimate_memory
from lmsupply_cli.memory.shape import MemoryShape

VERSION = 1  # of what is written: a newer one may ask to import again
BLOCK_SIZES = (32, 64, 128)
EXACT = "exact"
QUANTIZED_HERE = ("int4", "int8")
_POINTER = b"version https://git-lfs.github.com/"
_CONFIG_BYTES = 20_000  # genai_config.json and generation_config.json, on the safe side


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import would write, decided without reading a weight. `reason`: why the weights get this precision; `kinds`
    and `forms`: how many weights have each kind in the source, and each form in the result; `stamps`: of the files of the
    source; `notes`: sentences for the user."""

    source: Source
    wish: Wish
    reason: str
    weights: WeightPlan
    config: ModelConfig
    tokenizer: PlannedTokenizer
    stamps: Mapping[Path, Stamp]

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.weights.notes, *self.tokenizer.facts.notes)

    @property
    def write_bytes(self) -> int:
        return self.weights.size_bytes + self.tokenizer.size_bytes + _CONFIG_BYTES

    @property
    def read_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.source.tensors.values())

    @property
    def parameters(self) -> int:
        return sum(prod(tensor.shape) for tensor in self.source.tensors.values())

    @property
    def kinds(self) -> Mapping[str, int]:
        return _counted(form.kind for form in self.weights.forms)

    @property
    def forms(self) -> Mapping[str, int]:
        return _counted(form.form for form in self.weights.forms)

    @property
    def block_size(self) -> int:
        """Of the weights that are quantized here; 0 if `precision` says all. By default that is so too where the source has
        codes, of which some are carried over."""
        chosen = self.wish.anew or not _has_codes(self.source)
        return self.wish.block_size if self.wish.precision in QUANTIZED_HERE and chosen else 0

    def memory(self, context_tokens: int) -> MemoryEstimate:
        """What the model needs on the CPU, about: it is known exactly once the model is written."""
        config = self.config
        shape = MemoryShape(
            layers=config.layers,
            kv_heads=config.kv_heads,
            head_size=config.head_dim,
            hidden_size=config.hidden_size,
            vocabulary=config.vocab_size,
            context_length=config.context_length,
            cache_number_bytes=2 if self.wish.precision == "fp16" else 4,
            file_bytes=self.weights.size_bytes,
            window=config.sliding_window if any(config.sliding_layers) else 0,
            window_layers=sum(config.sliding_layers),
        )
        return estimate_memory(shape, min(context_tokens, config.context_length))


def open_source(path: Path) -> Source:
    """A GGUF file (any part of a split one), or a folder of safetensors. Raises ModelFilesError."""
    _refuse_pointers(path)
    with _naming(path):
        if is_file(path):  # whatever it is called: the blobs of Ollama have no extension
            from lmsupply_cli.importer.gguf_source import open_gguf

            return open_gguf(path)
        from lmsupply_cli.importer.safetensors_source import open_safetensors

        return open_safetensors(path)


def _refuse_pointers(path: Path) -> None:
    """A clone without Git LFS holds a few lines of text in place of each large file. Raises ModelFilesError."""
    for file in [path] if is_file(path) else listed(path, "*.safetensors"):
        with suppress(OSError), file.open("rb") as opened:  # what cannot be read is said when it is read
            if opened.read(len(_POINTER)) == _POINTER:
                raise ModelFilesError(f"{file} is a pointer of Git LFS, not the file itself", hint="run: git lfs pull")


def plan_import(
    source: Source, precision: str | None = None, block_size: int | None = None, *, preferred: str | None = None
) -> ImportPlan:
    """`precision` None: as `choose_precision`. Raises UsageError, ModelFilesError."""
    check_wish(precision, block_size)
    kinds, inexact = _kinds(source)
    chosen, reason = choose_precision(kinds, source.format, precision, preferred, inexact)
    if block_size is not None and chosen not in QUANTIZED_HERE:
        raise UsageError(
            f"`block_size` has no effect with `precision={chosen}`",
            hint=f"it is for weights that are quantized here: `precision={QUANTIZED_HERE[0]}`",
        )
    with _naming(_place(source)):
        if problem := architectures.supported(source.config):
            raise ModelFilesError(problem, hint=f"supported: {architectures.titles()}")
        stamps = {file: stamp_at(file) for file in source.files}
        wish = Wish(chosen, block_size or BLOCK_SIZES[0], anew=block_size is not None and _has_codes(source))
        weights, config = architectures.estimate(source, wish), parse_model_config(source.config)
        if chosen in QUANTIZED_HERE and not wish.anew and _has_codes(source):
            exact = architectures.estimate(source, Wish(EXACT))
            if exact.forms == weights.forms:
                reason = (
                    "its quantized weights are carried over as they are, since more bits would not make them more exact"
                )
                if _fewest_bits(source) == int(chosen.removeprefix("int")):
                    reason = f"its weights are {chosen} already, and are carried over as they are"
                wish, weights = Wish(EXACT), exact
        tokenizer = plan_tokenizer(source, config.vocab_size)
    notes = (*weights.notes, *_notes(source, wish, precision, inexact))
    return ImportPlan(source, wish, reason, replace(weights, notes=notes), config, tokenizer, stamps)


def _kinds(source: Source) -> tuple[set[str], set[str]]:
    """Of all matrices; and those quantized kinds of which none has an exact form."""
    matrices = [tensor for tensor in source.tensors.values() if len(tensor.shape) > 1]
    kinds = {tensor.kind for tensor in matrices}
    return kinds, kinds - {tensor.kind for tensor in matrices if runnable(tensor.coding)} - set(FLOAT_KINDS)


def _has_codes(source: Source) -> bool:
    return any(runnable(tensor.coding) for tensor in source.tensors.values())


def _fewest_bits(source: Source) -> int:
    return min(tensor.coding.bits for tensor in source.tensors.values() if tensor.coding)


def _notes(source: Source, wish: Wish, precision: str | None, inexact: Collection[str]) -> Iterator[str]:
    """What a wish costs, or does not do."""
    if wish.anew:
        yield f"its quantized weights are quantized again, in blocks of {wish.block_size}, which loses quality"
    elif wish.precision == "int8" and _has_codes(source) and _fewest_bits(source) < 8:
        yield "weights of fewer bits than 8 are carried over as they are: more bits would not make them more exact"
    if wish.precision == EXACT and precision and inexact:
        yield f"its {_listed(inexact)} weights have no exact form here, and become 8 bits"


def choose_precision(
    kinds: Collection[str],
    format: str,
    precision: str | None,
    preferred: str | None,
    inexact: Collection[str] = (),
) -> tuple[str, str]:
    """The precision for weights of these kinds, and why. By default quantized weights are carried over exactly, unless
    all of their kinds are `inexact`, without an exact form; floats become `preferred`; without it those of safetensors
    int4, and those of GGUF files int8, since whoever chose floats there wants to keep their quality."""
    if precision:
        return precision, "as requested"
    packed = set(kinds) - set(FLOAT_KINDS)
    if packed - set(inexact):
        less = f", but {_listed(inexact)} has no exact form here, and becomes 8 bits" if inexact else ""
        return EXACT, f"its quantized weights are carried over as they are{less}"
    found = ", ".join(sorted(kinds)) or "full precision"
    if preferred:
        return preferred, f"as preferred, from {found}"
    if packed:
        return "int8", f"its {_listed(packed)} weights have no exact form here, and become 8 bits"
    if format.upper() == "GGUF":
        return "int8", f"nearly as exact as its {found} weights, at a fraction of their size"
    return "int4", f"quantized from {found}"


def check_wish(precision: str | None, block_size: int | None) -> None:
    """Raises UsageError."""
    if precision is not None and precision not in PRECISIONS:
        raise UsageError(f"`precision` can't be {precision!r} here", hint=f"use one of {', '.join(PRECISIONS)}")
    if block_size is not None and block_size not in BLOCK_SIZES:
        sizes = ", ".join(map(str, BLOCK_SIZES))
        raise UsageError(f"`block_size` can't be {block_size}", hint=f"use one of {sizes}")


def run_import(plan: ImportPlan, folder: Path, progress: Callable[[int], None]) -> tuple[str, ...]:
    """Write the model into `folder`, which is empty. `progress` gets the bytes of the source read since its last call.
    Returns notes for the user. Raises ModelFilesError, FileError."""
    with _naming(_place(plan.source)):
        plan.tokenizer.write(folder)
        architectures.build(plan.source, folder, plan.wish, plan.tokenizer.facts, progress)
        for file, stamp in plan.stamps.items():
            check_unchanged(file, stamp)
    return plan.notes


def _place(source: Source) -> Path:
    return source.files[0] if source.format == "GGUF" else source.files[0].parent


@contextmanager
def _naming(place: Path) -> Iterator[None]:
    """Errors about the model name its file or folder."""
    try:
        yield
    except ModelFilesError as error:
        if str(place) in error.message or (is_file(place) and f"{place.parent}{os.sep}" in error.message):
            raise
        raise ModelFilesError(f"{place}: {error.message}", hint=error.hint) from error


def _listed(kinds: Collection[str]) -> str:
    return ", ".join(sorted(kinds))


def _counted(names: object) -> Mapping[str, int]:
    return dict(Counter(names).most_common())  # type: ignore[call-overload]

"""An import: open the source, decide what its weights become, then write the model folder."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lmsupply_cli.errors import ModelFilesError, UsageError
from lmsupply_cli.files import is_file, listed
from lmsupply_cli.importer import architectures
from lmsupply_cli.importer.forms import FLOAT_KINDS, PRECISIONS, WeightPlan, Wish
from lmsupply_cli.importer.model_config import ModelConfig, parse_model_config
from lmsupply_cli.importer.source import Source
from lmsupply_cli.memory.estimate import MemoryEstimate, estimate_memory
from lmsupply_cli.memory.shape import MemoryShape

VERSION = 1  # of what is written: a newer one may ask to import again
BLOCK_SIZES = (32, 64, 128)
EXACT = "exact"
QUANTIZED_HERE = ("int4", "int8")
_POINTER = b"version https://git-lfs.github.com/"
_OTHER_BYTES = 20_000_000  # tokenizer and configs, on the safe side


@dataclass(frozen=True, slots=True)
class ImportPlan:
    """What an import would write, decided without reading a weight. `reason`: why the weights get this precision; `kinds`
    and `forms`: how many weights have each kind in the source, and each form in the result."""

    source: Source
    wish: Wish
    reason: str
    weights: WeightPlan
    config: ModelConfig

    @property
    def write_bytes(self) -> int:
        return self.weights.size_bytes + _OTHER_BYTES

    @property
    def read_bytes(self) -> int:
        return sum(tensor.size_bytes for tensor in self.source.tensors.values())

    @property
    def kinds(self) -> Mapping[str, int]:
        return _counted(form.kind for form in self.weights.forms)

    @property
    def forms(self) -> Mapping[str, int]:
        return _counted(form.form for form in self.weights.forms)

    @property
    def block_size(self) -> int:
        """Of the weights that are quantized here; 0 if `precision` says all."""
        return self.wish.block_size if self.wish.precision in QUANTIZED_HERE else 0

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
    kinds = {tensor.kind for tensor in source.tensors.values() if len(tensor.shape) > 1}
    chosen, reason = choose_precision(kinds, source.format, precision, preferred)
    if block_size is not None and chosen not in QUANTIZED_HERE:
        raise UsageError(
            f"`block_size` has no effect with `precision={chosen}`",
            hint=f"it is for weights that are quantized here: `precision={QUANTIZED_HERE[0]}`",
        )
    with _naming(_place(source)):
        if problem := architectures.supported(source.config):
            raise ModelFilesError(problem, hint=f"supported: {architectures.titles()}")
        wish = Wish(chosen, block_size or BLOCK_SIZES[0])
        weights, config = architectures.estimate(source, wish), parse_model_config(source.config)
    if chosen == "int8" and any(tensor.coding and tensor.coding.bits < 8 for tensor in source.tensors.values()):
        note = "weights of fewer bits than 8 are carried over as they are: more bits would not make them more exact"
        weights = replace(weights, notes=(*weights.notes, note))
    return ImportPlan(source, wish, reason, weights, config)


def choose_precision(
    kinds: Collection[str], format: str, precision: str | None, preferred: str | None
) -> tuple[str, str]:
    """The precision for weights of these kinds, and why. By default quantized weights are carried over exactly; floats
    become `preferred`; without it those of safetensors int4, and those of GGUF files int8, since whoever chose floats
    there wants to keep their quality."""
    if precision:
        return precision, "as requested"
    if not set(kinds) <= set(FLOAT_KINDS):
        return EXACT, "its quantized weights are carried over as they are"
    found = ", ".join(sorted(kinds)) or "full precision"
    if preferred:
        return preferred, f"as preferred, from {found}"
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
        tokenizer = plan.source.write_tokenizer(folder)
        architectures.build(plan.source, folder, plan.wish, tokenizer, progress)
    return (*plan.weights.notes, *tokenizer.notes)


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


def _counted(names: object) -> Mapping[str, int]:
    return dict(Counter(names).most_common())  # type: ignore[call-overload]

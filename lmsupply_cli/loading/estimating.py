"""What a model would take of the memory, asked by name."""

from __future__ import annotations

from pathlib import Path

from lmsupply_cli.catalogue.lookup import forgiving_entry
from lmsupply_cli.config.values import check_value
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.errors import ModelFilesError, ModelNotInstalled
from lmsupply_cli.hub.resolve import VariantWish
from lmsupply_cli.loading.plan import find_model
from lmsupply_cli.loading.recommend import expected_variant, named_by_role
from lmsupply_cli.memory.estimate import MemoryEstimate
from lmsupply_cli.memory.estimate import estimate_memory as estimate_shape
from lmsupply_cli.memory.shape import MemoryShape, read_shape

_HIDDEN, _VOCABULARY = 4096, 200_000  # of a model that is not here: on the safe side


def estimate_memory(
    ref: str | Path, *, context: int = 4096, provider: str = "auto", cache_dir: Path | str | None = None
) -> MemoryEstimate:
    """The memory that a model needs, in bytes, for `context` tokens (at most the model's own). For a model that is not
    installed, a conservative estimate from the catalogue. Raises ModelNotFound, ModelNotInstalled, ModelFilesError,
    UsageError."""
    check_value("provider", provider)
    try:
        path = ref if isinstance(ref, Path) else find_model(ref, cache_dir).path
    except ModelNotInstalled:
        shape = _by_catalogue(named_by_role(str(ref)), provider)
        if shape is None:
            raise
    else:
        shape = read_shape(open_folder(path), provider=provider)
    if shape is None:
        raise ModelFilesError(f"the config of {ref} does not tell its sizes", hint="lmsupply show tells what is known")
    return estimate_shape(shape, min(context, shape.context_length))


def _by_catalogue(ref: str, provider: str) -> MemoryShape | None:
    entry = forgiving_entry(ref)
    expected = expected_variant(entry, VariantWish("cpu" if provider == "auto" else provider)) if entry else None
    if entry is None or expected is None or not expected.chosen.size_bytes:
        return None
    if not (entry.layers and entry.kv_heads and entry.head_size):
        return None
    return MemoryShape(
        layers=entry.layers,
        kv_heads=entry.kv_heads,
        head_size=entry.head_size,
        hidden_size=_HIDDEN,
        vocabulary=_VOCABULARY,
        context_length=entry.context_length,
        cache_number_bytes=4 if provider in ("auto", "cpu") else 2,
        file_bytes=expected.chosen.size_bytes,
    )

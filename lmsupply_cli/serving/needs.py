"""How much memory a model needs, before it is loaded."""

from __future__ import annotations

from lmsupply_cli.files import folder_bytes
from lmsupply_cli.memory.estimate import estimate_memory
from lmsupply_cli.memory.rough import PROCESS_BYTES
from lmsupply_cli.memory.shape import read_shape
from lmsupply_cli.store.judging import open_model
from lmsupply_cli.store.locate import LocatedModel


def model_bytes(model: LocatedModel, context: int, *, provider: str = "auto", own_process: bool) -> int:
    """The peak with that context, at most the model's own; `own_process`: with the process that it runs in. Raises
    ModelFilesError, UntrustedModelFiles."""
    folder = open_model(model)
    shape = read_shape(folder, provider=provider)
    if shape is None:
        return folder_bytes(folder.path, below=False) + (PROCESS_BYTES if own_process else 0)
    estimate = estimate_memory(shape, min(context, shape.context_length))
    return estimate.peak_bytes - (0 if own_process else estimate.process_bytes)

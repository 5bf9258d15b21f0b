"""Look at a guidance before a model is loaded: the built-in one compiles it, which takes a moment."""

from __future__ import annotations

from lmsupply_cli import paths
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.errors import UsageError


def check_guidance(guidance: Guidance) -> None:
    """Raises UsageError for what the engine does not take, and for what no answer but an empty one can follow."""
    import numpy as np

    from lmsupply_cli.engine.genai import GenaiModel
    from lmsupply_cli.engine.genai_decoders import GuidedGenaiDecoder

    with GenaiModel(open_folder(paths.builtin_model("guide"))) as model:
        decoder = GuidedGenaiDecoder(model, capacity_tokens=16, search={}, guidance=guidance)
        ends = sorted(model.shape.eos_ids)
        decoder.append([next(token for token in range(model.shape.vocabulary) if token not in ends)])
        scores = np.zeros(model.shape.vocabulary, np.float32)
        scores[ends] = -1.0  # taken only where nothing else is allowed
        if decoder.step(scores) in ends:
            raise UsageError(
                f"the {guidance.name} cannot be satisfied: no answer can begin", hint="is there a circle in it?"
            )

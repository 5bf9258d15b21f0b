"""Look at a guidance before a model is loaded: the built-in one compiles it, which takes a moment."""

from __future__ import annotations

from lmsupply_cli import paths
from lmsupply_cli.engine.folder import open_folder
from lmsupply_cli.engine.guidance import Guidance


def check_guidance(guidance: Guidance) -> None:
    """Raises UsageError for what the engine does not take."""
    from lmsupply_cli.engine.genai import GenaiModel

    with GenaiModel(open_folder(paths.builtin_model("guide"))) as model:
        model.new_generator(capacity_tokens=16, guidance=guidance)

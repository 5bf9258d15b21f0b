"""A model and the smaller one that guesses for it, composed into one folder.

The engine guesses with a second model only where one config names both (`model.draft`, onnxruntime-genai 0.18), and
refuses file names that leave the config's folder. So a config of our own stands beside links to the two folders, which
are not touched. The engine reads the folder again for each guidance: it must stay as long as the model is loaded.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from lmsupply_cli.engine.folder import PROVIDER_NAMES, ModelFolder
from lmsupply_cli.errors import EngineError
from lmsupply_cli.genai_config import CONFIG

_TARGET, _DRAFT = "target", "draft"


def why_no_pair(target: ModelFolder, draft: ModelFolder) -> str:
    """Why the engine cannot take the two together, "" where it can."""
    if any(folder.graphs != [folder.decoder.get("filename")] for folder in (target, draft)):
        return "one of the two is made of several graphs"
    return ""


def compose_pair(target: ModelFolder, draft: ModelFolder, into: Path, *, provider: str = "auto") -> ModelFolder:
    """Fill the empty folder `into`; `provider` as in GenaiModel. Raises EngineError where the system links no files."""
    try:
        _link_folder(target.path, into / _TARGET)
        _link_folder(draft.path, into / _DRAFT)
        for file in target.path.iterdir():  # the tokenizer is looked for beside the config
            if file.is_file() and file.name not in (CONFIG, target.decoder["filename"]):
                _link_file(file, into / file.name)
        config = _composed(target, draft, provider)
        (into / CONFIG).write_text(json.dumps(config), encoding="utf-8")
    except OSError as error:
        raise EngineError(
            f"the two models cannot be linked into {into}: {error.strerror}", hint="--speculative ngram"
        ) from error
    return replace(target, path=into, config=config)


def with_own_paths(text: str, target: ModelFolder, draft: ModelFolder, into: Path) -> str:
    """`text` of the engine, with the folders that the user knows."""
    for name, folder in ((_DRAFT, draft), (_TARGET, target)):
        text = text.replace(str(into / name), str(folder.path))
    return text.replace(str(into), str(target.path))


def _composed(target: ModelFolder, draft: ModelFolder, provider: str) -> dict[str, Any]:
    session: dict[str, Any] = target.decoder.get("session_options", {})
    if provider != "auto":
        named: list[dict[str, Any]] = [{PROVIDER_NAMES[provider]: {}}] if provider in PROVIDER_NAMES else []
        session = session | {"provider_options": named}
    both = {"session_options": session}  # they must run on the same provider
    large = target.decoder | both | {"filename": f"{_TARGET}/{target.decoder['filename']}"}
    small = draft.decoder | both | {"filename": f"{_DRAFT}/{draft.decoder['filename']}"}
    return target.config | {"model": target.model | {"decoder": large, "draft": small}}


def _link_folder(source: Path, at: Path) -> None:
    try:
        at.symlink_to(source.resolve(), target_is_directory=True)
    except OSError:  # Windows lets administrators and developers make those
        at.mkdir()
        for file in source.iterdir():
            if file.is_file():
                os.link(file.resolve(), at / file.name)


def _link_file(source: Path, at: Path) -> None:
    try:
        at.symlink_to(source.resolve())
    except OSError:
        os.link(source.resolve(), at)

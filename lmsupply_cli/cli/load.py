"""Load the chosen model by the settings, with a line on the terminal while it takes."""

from __future__ import annotations

from lmsupply_cli.cli.choose import store_root
from lmsupply_cli.cli.provider import load_provider
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.events import Notice
from lmsupply_cli.files import folder_bytes
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.runtime.budget import MemoryOptions
from lmsupply_cli.runtime.generator import TextGenerator
from lmsupply_cli.runtime.loader import find_draft, load_folder
from lmsupply_cli.store.locate import LocatedModel

_SHOW_BYTES = 50_000_000  # a smaller model is there before the line could be read


def load_model(
    model: LocatedModel,
    folder: ModelFolder,
    settings: Settings,
    options: GenerationOptions,
    terminal: Terminal,
    *,
    notices: list[Notice],
    reserve_tokens: int = 0,
    guidance: Guidance | None = None,
) -> TextGenerator:
    """What is said of the provider is added to `notices`; `guidance`: what every answer will follow."""
    provider, said = load_provider(settings, model, folder)
    for notice in said:
        terminal.notice(notice)
    notices += said
    root = store_root(settings)
    draft = find_draft(settings.get("speculative"), root)
    status = terminal.status()
    if folder_bytes(folder.path) > _SHOW_BYTES:
        status.show(f"loading {model.ref} …")
    try:
        generator = load_folder(
            model,
            folder,
            options=options,
            provider=provider,
            threads=settings.get("threads"),
            context=settings.get("context"),
            reserve_tokens=reserve_tokens,
            limits=MemoryOptions(settings.get("memory_limit")) if settings.get("memory_limit") else None,
            chat_format=settings.get("chat_format") or "",
            thinks=settings.get("think") != "off",
            reasoning_effort=settings.get("reasoning_effort"),
            draft=draft,
            draft_tokens=settings.get("draft_tokens"),
            guidance=guidance,
            root=root,
        )
    finally:
        status.clear()
    for notice in generator.notices:
        terminal.notice(notice)
    notices += generator.notices
    return generator

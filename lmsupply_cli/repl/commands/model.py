"""/model and /models: switch models, and list them."""

from __future__ import annotations

from collections.abc import Iterable

from lmsupply_cli.files import folder_bytes
from lmsupply_cli.repl.chat import Chat
from lmsupply_cli.repl.command import Command
from lmsupply_cli.units import format_bytes


def _model(chat: Chat, rest: str) -> None:
    if rest:
        chat.change_model(rest)
        return
    info = chat.session.generator.info
    chat.say(f"{info.ref} on {info.provider}. /models lists the others, /model REF switches.")


def _models(chat: Chat, rest: str) -> None:
    current = chat.session.generator.info.ref
    rows = []
    for model in chat.world.installed_models():
        if rest.lower() in model.ref.lower():
            about = [format_bytes(folder_bytes(model.path)), model.precision or "", model.license.id]
            here = ["in use"] if model.ref == current else []
            rows.append((model.ref, " · ".join(filter(None, [*about, *here]))))
    if rows:
        chat.say_rows(rows)
    else:
        chat.say(f"No installed model matches {rest!r}." if rest else "No model is installed.")
    chat.say("/model REF switches. `lmsupply models` lists models to download.")


def _names(chat: Chat, rest: str) -> Iterable[str]:
    return [name for name in chat.world.model_names() if name.startswith(rest)]


MODEL = (
    Command(
        ("/model",),
        "[REF]",
        "switch models, or show which one is in use",
        _model,
        _names,
        details="The chat continues; the new model reprocesses it.",
        example="/model guide",
        synonyms=("/use", "/switch"),
    ),
    Command(
        ("/models",),
        "[TEXT]",
        "list the installed models, or those matching TEXT",
        _models,
        synonyms=("/list", "/ls", "/ps"),
    ),
)

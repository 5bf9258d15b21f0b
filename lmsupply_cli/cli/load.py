"""Plan and load the chosen model by the settings, with a line on the terminal while it takes."""

from __future__ import annotations

from dataclasses import replace

from lmsupply_cli.cli.choose import store_root
from lmsupply_cli.cli.provider import load_provider
from lmsupply_cli.cli.run.output import notices_object
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.engine.folder import ModelFolder
from lmsupply_cli.engine.guidance import Guidance
from lmsupply_cli.engine.options import GenerationOptions
from lmsupply_cli.events import Notice
from lmsupply_cli.files import folder_bytes
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.load import load_plan
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.loading.plan import LoadPlan, plan_folder
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.locate import LocatedModel

_SHOW_BYTES = 50_000_000  # a smaller model is there before the line could be read


def load_options(settings: Settings, *, trust: bool = False) -> LoadOptions:
    """The load options from the settings."""
    return LoadOptions(
        provider=settings.get("provider"),
        threads=settings.get("threads"),
        context=settings.get("context"),
        cache_dir=store_root(settings),
        memory_limit=settings.get("memory_limit"),
        trust_model_files=trust,
        chat_format=settings.get("chat_format") or "",
        enable_thinking=settings.get("think") != "off",
        reasoning_effort=settings.get("reasoning_effort"),
        speculative=settings.get("speculative"),
        draft_tokens=settings.get("draft_tokens"),
    )


def plan_model(
    model: LocatedModel,
    folder: ModelFolder,
    settings: Settings,
    *,
    options: GenerationOptions,
    guidance: Guidance | None = None,
    reserve_tokens: int = 0,
) -> LoadPlan:
    """`options`, `guidance`: what answers follow. The notices of the plan say what was decided on the way."""
    provider, said = load_provider(settings, model, folder)
    wanted = replace(
        load_options(settings, trust=folder.trusted),
        provider=provider,
        options=options,
        guidance=guidance,
        reserve_tokens=reserve_tokens,
    )
    plan = plan_folder(model, folder, wanted)
    return replace(plan, notices=(*said, *plan.notices))


def load_model(plan: LoadPlan, terminal: Terminal, *, notices: list[Notice]) -> TextGenerator:
    """Print the model's notices and add them to `notices`."""
    status = terminal.status()
    if folder_bytes(plan.folder.path) > _SHOW_BYTES:
        status.show(f"loading {plan.model.ref} …")
    try:
        generator = load_plan(plan)
    finally:
        status.clear()
    for notice in generator.notices:
        terminal.notice(notice)
    notices += generator.notices
    return generator


def say_plan(plan: LoadPlan, terminal: Terminal, *, as_json: bool = False) -> None:
    """Print the plan on stdout."""
    for notice in plan.notices:
        terminal.notice(notice)
    if as_json:
        terminal.json({"plan": plan.as_dict(), "notices": notices_object(plan.notices)})
        return
    rows = plan.rows()
    width = max(len(name) for name, _ in rows)
    terminal.exact("".join(f"{name:<{width}}  {text}\n" for name, text in rows))

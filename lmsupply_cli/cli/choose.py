"""Which model answers, and may it: the pinned rules, as a value with its notices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import GUIDE_REF
from lmsupply_cli.cli.consent import check_allowed
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.errors import ModelNotInstalled
from lmsupply_cli.events import Notice
from lmsupply_cli.hardware.host import detect_memory
from lmsupply_cli.loading.recommend import named_by_role, recommend_model
from lmsupply_cli.render.terminal import Terminal
from lmsupply_cli.store.locate import LocatedModel, best_installed, guide, locate
from lmsupply_cli.store.manifest import mark_used


@dataclass(frozen=True, slots=True)
class Choice:
    model: LocatedModel
    notices: tuple[Notice, ...]


def choose_model(
    named: str | None, settings: Settings, root: Path, terminal: Terminal, *, pull: bool = False, accepted: bool = False
) -> Choice:
    """What the user named; else the setting default_model; else the best installed; else the guide.

    A named model that is missing is pulled as `auto_pull` says (`pull`: always); without a name
    nothing is ever downloaded. Raises ModelNotFound, ModelNotInstalled, LicenseNotAccepted, HubError.
    """
    name = named or settings.get("default_model")
    notices: tuple[Notice, ...] = ()
    if name:
        name = named_by_role(name, lambda: detect_memory().available_bytes)
        try:
            model = locate(name, root)
        except ModelNotInstalled as error:
            model = _pulled(name, error, settings, root, terminal, pull=pull, accepted=accepted)
    elif best := best_installed(root):
        model, notices = best, (Notice("model_chosen", f"using {best.ref}, the largest installed model"),)
    else:
        model, notices = guide(), (_guide_notice(),)
    check_allowed(model.ref, model.license, settings)
    if model.key:
        mark_used(root, model.key)
    return Choice(model, notices)


def store_root(settings: Settings) -> Path:
    return paths.store_root(settings.get("cache_dir"))


def _pulled(
    name: str,
    missing: ModelNotInstalled,
    settings: Settings,
    root: Path,
    terminal: Terminal,
    *,
    pull: bool,
    accepted: bool,
) -> LocatedModel:
    """Pull it now: `always`, or `ask` with a terminal. With a terminal on stderr only, it is shown and done."""
    wish = "always" if pull else settings.get("auto_pull")
    if wish == "never" or (wish == "ask" and not terminal.stderr_tty):
        raise missing
    from lmsupply_cli.cli.fetching import ask_to_pull, plan_for, pull_plan, say_plan
    from lmsupply_cli.store.locate import located

    plan = plan_for(name, settings, root, terminal)
    say_plan(plan, terminal)
    if wish == "ask" and terminal.stdin_tty:
        if not ask_to_pull(plan, terminal):
            raise ModelNotInstalled(f"{plan.ref} was not pulled")
        accepted = True
    return located(pull_plan(plan, root, terminal, accepted=accepted), root)


def _guide_notice() -> Notice:
    ref = recommend_model(detect_memory().available_bytes).entry.ref
    return Notice("guide", f"no model is installed, so the built-in {GUIDE_REF} answers; get one: lmsupply pull {ref}")

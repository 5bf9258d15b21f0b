"""Which model answers, and may it: the pinned rules, as a value with its notices."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lmsupply_cli import paths
from lmsupply_cli.catalogue.entry import GUIDE_REF
from lmsupply_cli.config.layers import Settings
from lmsupply_cli.errors import LicenceNotAccepted
from lmsupply_cli.events import Notice
from lmsupply_cli.store.locate import LocatedModel, best_installed, guide, locate


@dataclass(frozen=True, slots=True)
class Choice:
    model: LocatedModel
    notices: tuple[Notice, ...]


def choose_model(named: str | None, settings: Settings, root: Path) -> Choice:
    """What the user named; else the setting default_model; else the best installed; else the guide.

    Raises ModelNotFound, ModelNotInstalled, LicenceNotAccepted.
    """
    name = named or settings.get("default_model")
    if name:
        model = locate(name, root)
        return Choice(_allowed(model, settings), ())
    best = best_installed(root)
    if best:
        return Choice(
            _allowed(best, settings), (Notice("model_chosen", f"using {best.ref}, the largest installed model"),)
        )
    return Choice(_allowed(guide(), settings), (_guide_notice(),))


def store_root(settings: Settings) -> Path:
    return paths.store_root(settings.get("cache_dir"))


def _guide_notice() -> Notice:
    from lmsupply_cli.hardware.host import detect_host
    from lmsupply_cli.runtime.recommend import recommend_model

    ref = recommend_model(detect_host().available_bytes).entry.ref
    return Notice("guide", f"no model is installed, so the built-in {GUIDE_REF} answers; get one: lmsupply pull {ref}")


def _allowed(model: LocatedModel, settings: Settings) -> LocatedModel:
    check_allowed(model.ref, model.licence.id, model.licence.tier, settings)
    return model


def check_allowed(ref: str, licence: str, tier: str, settings: Settings) -> None:
    """The settings allowed_licenses and allowed_tiers hold for every command. Raises LicenceNotAccepted."""
    for key, have in (("allowed_licenses", licence), ("allowed_tiers", tier)):
        wanted = settings.get(key)
        if wanted and have.lower() not in {name.lower() for name in wanted}:
            raise LicenceNotAccepted(
                f"{ref} has the licence {licence} ({tier}), and {key} allows only {', '.join(wanted)}",
                hint=f"lmsupply models --license {wanted[0]}"
                if key == "allowed_licenses"
                else "lmsupply models lists the tiers",
            )

"""Names that tell the models of a list apart: each leads to one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from lmsupply_cli.store.locate import LocatedModel, choose_named, located
from lmsupply_cli.store.manifest import Manifest

_COMMIT_DIGITS = 12


def unique_refs(models: Sequence[LocatedModel]) -> list[str]:
    """For each model its ref or, where another one has that too, a name that leads to this one alone: `owner/repo:variant`,
    `mine:int8`, or its folder."""
    refs = Counter(model.ref.lower() for model in models)
    return [model.ref if refs[model.ref.lower()] == 1 else _unique_ref(model, models) for model in models]


def refs_of_records(records: Sequence[Manifest], root: Path) -> dict[str, str]:
    """The same by the keys of records."""
    return dict(zip((m.key for m in records), unique_refs([located(m, root) for m in records]), strict=True))


def leads_to(name: str, model: LocatedModel, models: Sequence[LocatedModel]) -> bool:
    """Is `model` the one of `models` that `name` stands for? Those of the store come first."""
    ours = [m for m in models if not m.external]
    found = choose_named(name, ours)[0] or choose_named(name, [m for m in models if m.external])[0]
    return found is model


def _unique_ref(model: LocatedModel, models: Sequence[LocatedModel]) -> str:
    return next((name for name in _names(model, models) if leads_to(name, model, models)), str(model.path))


def _names(model: LocatedModel, models: Sequence[LocatedModel]) -> Iterator[str]:
    """From the shortest to the most exact."""
    if model.repo:
        variant, commit = f":{model.variant}" if model.variant else "", model.commit[:_COMMIT_DIGITS]
        if variant:
            yield f"{model.repo}{variant}"
        yield f"{model.repo}@{commit}"
        yield f"{model.repo}@{commit}{variant}"
    elif model.source:
        forms = [m.source.precision for m in models if m.source and m.ref == model.ref]
        if forms.count(model.source.precision) == 1:
            yield f"{model.ref}:{model.source.precision}"
        yield f"{model.ref}:{model.source.form}"

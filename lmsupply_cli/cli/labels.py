"""What lists call models, so that several forms of one import can be told apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmsupply_cli.store.locate import LocatedModel
    from lmsupply_cli.store.manifest import Manifest


def labels(models: Iterable[Manifest | LocatedModel]) -> dict[str, str]:
    """By the key of each import whose ref another model has too: `st (int4)`, with the size of its blocks (and its commit)
    where that takes it: `st (int4-64)`."""
    every = list(models)
    refs = Counter(model.ref for model in every)
    found: dict[str, str] = {}
    for model in every:
        if not model.source or refs[model.ref] == 1:
            continue
        others = [_forms(other) for other in every if other.ref == model.ref and other.key != model.key]
        forms = _forms(model)
        form = next((form for form in forms if not any(form in other for other in others)), forms[-1])
        found[model.key] = f"{model.ref} ({form})"
    return found


def _forms(model: Manifest | LocatedModel) -> tuple[str, ...]:
    """From the shortest to the most exact."""
    if not model.source:
        return ()
    form = model.source.form
    return (form.precision, str(form), f"{form}, {model.commit[:7]}")

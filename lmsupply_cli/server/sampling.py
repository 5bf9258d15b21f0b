"""Generation options from the fields of a request, whatever an API calls them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from lmsupply_cli.config.table import SETTINGS
from lmsupply_cli.config.values import check_value
from lmsupply_cli.errors import UsageError
from lmsupply_cli.server.errors import as_api_error

MOST_TOKENS = int(SETTINGS["max_tokens"].high or 0)  # the context ends an answer before that
_SEEDS = 2**63


def generation_options(values: Mapping[str, Any], *, names: Mapping[str, str] = MappingProxyType({})) -> dict[str, Any]:
    """Options for an AnswerRequest, checked; None is left out, and an answer without `max_tokens` ends with the context.
    `names`: the API's field by the option, where they differ. Raises ApiError that names the field."""
    options: dict[str, Any] = {"max_tokens": MOST_TOKENS}
    for key, value in values.items():
        if value is None:
            continue
        try:
            options[key] = check_value(key, value % _SEEDS if key == "seed" else value)
        except UsageError as error:
            raise as_api_error(error, param=names.get(key, key), names=names) from error
    return options


def seeded(options: Mapping[str, Any], number: int) -> dict[str, Any]:
    """The options of the answer with this number, from 0: each of several has a seed of its own."""
    seed = options.get("seed")
    return dict(options) if seed is None else {**options, "seed": (seed + number) % _SEEDS}

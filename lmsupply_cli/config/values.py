"""Check one value against its row of the table; every error names the place it came from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from lmsupply_cli.config.table import SETTINGS, Setting
from lmsupply_cli.errors import SettingsError, UsageError
from lmsupply_cli.units import cut

_PLAIN = 2**31 - 1  # a bound below this is named always, a larger one where it is passed
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def check_value(key: str, value: Any, *, place: str = "") -> Any:
    """`value` in the setting's own type, or UsageError. `place` is put before the message."""
    setting = SETTINGS[key]
    label = f"{place}: {key}" if place else f"`{key}`"
    error = SettingsError if place else UsageError
    if value is None and setting.default is None:
        return None
    checked = _typed(setting, value)
    if checked is None:
        raise error(f"{label} must be {_expected(setting)}, not {_shown(value)}")
    if setting.kind in ("text", "list"):
        try:
            for text in (checked,) if setting.kind == "text" else checked:
                _check_text(setting, text)
        except UsageError as cause:
            raise error(f"{label}{cause.message}", hint=cause.hint) from cause
    elif isinstance(checked, (int, float)) and (expected := _bounds(setting, checked)):
        raise error(f"{label} must be {expected}, not {_shown(value)}")
    return checked


def _check_text(setting: Setting, text: str) -> None:
    """Raises UsageError, whose message follows the name of the setting."""
    if setting.choices and text not in setting.choices:
        raise UsageError(f" must be one of {', '.join(setting.choices)}, not {_shown(text)}")
    if setting.check:
        try:
            setting.check(text)
        except UsageError as cause:
            raise UsageError(f": {cause.message}", hint=cause.hint) from cause


def _bounds(setting: Setting, number: float) -> str:
    """What is expected, if the number is not within the bounds."""
    low, high = setting.low, setting.high
    if high is not None and number > high:
        return _expected(setting) + (f" and at most {int(high)}" if high > _PLAIN else "")
    return _expected(setting) if low is not None and number < low else ""


def as_text(value: Any) -> str:
    """A value as it would be typed; a list with commas."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return ",".join(f"{one[0]}={one[1]:g}" if isinstance(one, (list, tuple)) else str(one) for one in value)
    return str(value)


def parse_text(key: str, text: str, *, place: str) -> Any:
    """A value written as text: an environment variable. Lists are comma-separated."""
    setting, value = SETTINGS[key], text.strip()
    typed: Any = value
    if setting.kind == "bool" and value.lower() in _TRUE | _FALSE:
        typed = value.lower() in _TRUE
    elif setting.kind in ("list", "bias"):
        typed = [part.strip() for part in text.split(",") if part.strip()]
    elif setting.kind in ("int", "float"):
        try:
            typed = int(value) if setting.kind == "int" else float(value)
        except ValueError:
            typed = value
    return check_value(key, typed, place=place)


def _typed(setting: Setting, value: Any) -> Any:
    match setting.kind:
        case "bool":
            return value if isinstance(value, bool) else None
        case "int":
            return value if isinstance(value, int) and not isinstance(value, bool) else None
        case "float":
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return _finite(value) if number else None
        case "list":
            value = (value,) if isinstance(value, str) else value
            if isinstance(value, (list, tuple)) and all(isinstance(item, str) and item for item in value):
                return tuple(value)
            return None
        case "bias":
            return _bias(value)
        case _:
            return value if isinstance(value, str) and value else None


_MOST_BIAS = 100


def _bias(value: Any) -> tuple[tuple[int, float], ...] | None:
    """Pairs of token id and number by id, from a mapping, pairs, or texts such as "13=-100"."""
    if isinstance(value, Mapping):
        value = list(value.items())
    if not isinstance(value, (list, tuple)):
        return None
    found: dict[int, float] = {}
    for one in value:
        pair = one.partition("=")[::2] if isinstance(one, str) else one
        try:
            token, number = pair
            token = int(token) if isinstance(token, (int, str)) and not isinstance(token, bool) else -1
            number = math.nan if isinstance(number, bool) else float(number)
        except (TypeError, ValueError, OverflowError):
            return None
        if token < 0 or not abs(number) <= _MOST_BIAS:  # not a number is neither
            return None
        found[token] = number
    return tuple(sorted(found.items()))


def _finite(value: float) -> float | None:
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond every float
        return None
    return number if math.isfinite(number) else None


def _shown(value: Any) -> str:
    """The value in a message; a long one is cut."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_shown, value)) or "nothing"
    try:
        text = _plain(value)
    except ValueError:  # more digits than Python writes
        return "such a long number"
    return cut(text, 60)


def _plain(value: Any) -> str:
    """As it was typed, wherever that was: in a file, as JSON, in Python."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value, default=repr, ensure_ascii=False) if isinstance(value, dict) else repr(value)


def _expected(setting: Setting) -> str:
    noun = {
        "bool": "true or false",
        "int": "a whole number",
        "float": "a number",
        "list": "a text or a list of texts, none of them empty",
        "bias": "token ids with numbers from -100 to 100",
    }
    words = noun.get(setting.kind, "a text that is not empty")
    if setting.high is not None and setting.low is not None and setting.high < _PLAIN:
        return f"{words} from {setting.low:g} to {setting.high:g}"
    return words if setting.low is None else f"{words}, at least {setting.low:g}"

"""A row of a models.toml, checked field by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

from lmsupply_cli.addresses import is_repo
from lmsupply_cli.catalogue.entry import TIERS, CatalogueEntry, License

_NEEDED = ("ref", "repo", "family", "license", "parameters", "context_length")
_MOST = 2**62


def entry_of(row: Any, licenses: Mapping[str, Any]) -> CatalogueEntry:
    """Raises ValueError, whose text names the field."""
    if not isinstance(row, dict):
        raise ValueError("an entry is a table")
    if unknown := sorted(set(row) - set(_FIELDS)):
        raise ValueError(f"unknown field {', '.join(unknown)}")
    for key in _NEEDED:
        if key not in row:
            raise ValueError(f"no {key!r}")
    for key, value in row.items():
        holds, what = _FIELDS[key]
        if not holds(value):
            raise ValueError(f"{key} must be {what}")
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in row.items()}
    name = row["license"]
    license = _license(name, licenses.get(name, {"tier": "unknown"}))
    return CatalogueEntry(**(values | {"ref": row["ref"].lower(), "license": license}))


def _license(name: str, known: Any) -> License:
    if not isinstance(known, dict) or not all(isinstance(value, str) for value in known.values()):
        raise ValueError(f"license {name} must be a table of texts")
    if unknown := sorted(set(known) - {"tier", "url", "restrictions"}):
        raise ValueError(f"license {name} has an unknown field {', '.join(unknown)}")
    tier = known.get("tier")
    if tier not in TIERS:
        raise ValueError(f"license {name} has the tier {tier}, not one of {', '.join(TIERS)}")
    return License(name, **known)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and value != "" and value.isprintable()


def _is_folder(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and _stays_inside(value)


def _stays_inside(path: str) -> bool:
    return not PurePosixPath(path).is_absolute() and ".." not in PurePosixPath(path).parts and "\\" not in path


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _is_length(value: Any) -> bool:
    return _is_count(value) and value > 0


def _is_size(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_word, value))


def _is_variants(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_folder(key) and _is_count(size) for key, size in value.items())


_FIELDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "ref": (_is_word, "a name"),
    "repo": (lambda value: value == "" or is_repo(value), "owner/name"),
    "family": (_is_word, "a name"),
    "license": (_is_word, "a name"),
    "parameters": (_is_size, "a number of billions"),
    "context_length": (_is_length, "a number of tokens"),
    "aliases": (_is_list, "a list of names"),
    "roles": (_is_list, "a list of names"),
    "revision": (_is_word, "a commit, a branch or a tag"),
    "folder": (_is_folder, "a folder of the repo"),
    "layers": (_is_count, "a whole number"),
    "kv_heads": (_is_count, "a whole number"),
    "head_size": (_is_count, "a whole number"),
    "prompt_format": (_is_text, "a text"),
    "uncertain": (_is_list, "a list of names"),
    "variants": (_is_variants, "a table of folders and their bytes"),
}

"""What a Hub says of a model: foreign JSON, checked for type and form before anything is made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lmsupply_cli.addresses import is_repo
from lmsupply_cli.foreign import plain
from lmsupply_cli.hub.licenses import strictest
from lmsupply_cli.hub.tree import RepoFile, is_commit, is_digest, is_safe_path

_MOST_BYTES = 1 << 53  # of one file
_LINK = 500  # characters of an address


class Unlike(Exception):
    """An answer that no Hub gives: says which key is wrong, and how."""


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """`repo` as the Hub spells it; `license` and `license_url` are safe to show."""

    repo: str
    commit: str
    license: str = ""
    license_url: str = ""


def read_info(answer: Any, repo: str) -> ModelInfo:
    """Raises Unlike."""
    info = _object(answer, "the answer")
    commit = info.get("sha")
    if not isinstance(commit, str) or not is_commit(commit):
        raise Unlike(f"sha is {_shown(commit)}, not 40 hexadecimal digits")
    spelled = _text(info, "id")
    card = _object({} if info.get("cardData") is None else info["cardData"], "cardData")
    return ModelInfo(
        repo=spelled if spelled.lower() == repo.lower() else repo,  # another name: it was renamed
        commit=commit,
        license=plain(strictest(_licenses(card))),
        license_url=plain(_text(card, "license_link", "cardData."), _LINK),
    )


@dataclass(frozen=True, slots=True)
class Found:
    """A repo in a list of search results. `files`: its paths, as far as the Hub names them."""

    repo: str
    downloads: int
    files: tuple[str, ...]


def read_found(answer: Any) -> list[Found]:
    """A page of search results; a row without a name is left out. Raises Unlike."""
    if not isinstance(answer, list):
        raise Unlike(f"the list of models is {_shown(answer)}, not a list")
    return [_found(row) for row in (_object(row, "a row of the list") for row in answer) if is_repo(row.get("id"))]


def _found(row: dict[str, Any]) -> Found:
    downloads, siblings = row.get("downloads"), row.get("siblings")
    paths = [s.get("rfilename") for s in siblings if isinstance(s, dict)] if isinstance(siblings, list) else []
    count = downloads if isinstance(downloads, int) and not isinstance(downloads, bool) else 0
    return Found(str(row["id"]), max(0, count), tuple(path for path in paths if isinstance(path, str)))


def _licenses(card: dict[str, Any]) -> list[str]:
    """All names on the card; "other" only says that a name follows."""
    named = card.get("license")
    names = [named or ""] if isinstance(named, str | None) else named
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise Unlike(f"cardData.license is {_shown(named)}, neither a text nor a list of texts")
    own = _text(card, "license_name", "cardData.")
    return [name for name in (*names, own) if name and not (own and name.lower() == "other")]


def read_rows(answer: Any) -> tuple[dict[str, RepoFile], set[str]]:
    """(the files of a page of a listing by path, the paths that are not safe). Raises Unlike."""
    if not isinstance(answer, list):
        raise Unlike(f"the listing is {_shown(answer)}, not a list")
    rows = [_object(row, "a row of the listing") for row in answer]
    files = [row for row in rows if _text(row, "type") == "file"]
    safe = [_file(row) for row in files if is_safe_path(_path(row))]
    return {file.path: file for file in safe}, {_path(row) for row in files} - {file.path for file in safe}


def _path(row: dict[str, Any]) -> str:
    if not isinstance(row.get("path"), str):
        raise Unlike(f"path is {_shown(row.get('path'))}, not a text")
    return str(row["path"])


def _file(row: dict[str, Any]) -> RepoFile:
    path, size = row["path"], row.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= _MOST_BYTES:
        raise Unlike(f"size of {path} is {_shown(size)}")
    if row.get("lfs") is not None:  # the content is elsewhere, and `oid` is that of a pointer to it
        oid = _object(row["lfs"], f"lfs of {path}").get("oid")
        return RepoFile(path, size, _digest("sha256", oid, f"lfs.oid of {path}", 64))
    oid = row.get("oid")
    return RepoFile(path, size, "" if oid is None else _digest("git-sha1", oid, f"oid of {path}", 40))


def _digest(kind: str, oid: Any, key: str, digits: int) -> str:
    digest = f"{kind}:{oid}"
    if not isinstance(oid, str) or not is_digest(digest):
        raise Unlike(f"{key} is {_shown(oid)}, not {digits} hexadecimal digits")
    return digest


def _object(value: Any, key: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unlike(f"{key} is {_shown(value)}, not an object")
    return value


def _text(values: dict[str, Any], key: str, within: str = "") -> str:
    value = values.get(key)
    if not isinstance(value, str | None):
        raise Unlike(f"{within}{key} is {_shown(value)}, not a text")
    return value or ""


def _shown(value: Any) -> str:
    if value is None:
        return "missing"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return plain(repr(value) if isinstance(value, str) else str(value), 60)

"""What a repository holds at one commit, and which of its paths may be written to a disk."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from lmsupply_cli.errors import HubError
from lmsupply_cli.foreign import UNPRINTABLE, plain

_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$) *(\..*)?", re.IGNORECASE)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_DIGEST = re.compile(r"|sha256:[0-9a-f]{64}|git-sha1:[0-9a-f]{40}")
_FORBIDDEN = re.compile(r'[<>:"|?*\\]')
_NAME_BYTES, _PATH_BYTES = 255, 1024  # what file systems take


@dataclass(frozen=True, slots=True)
class RepoFile:
    """`digest`: `sha256:…` of the content (large files), or `git-sha1:…`, git's name of it.

    `place`: where the file goes below the snapshot, "" for its own path.
    """

    path: str
    size_bytes: int
    digest: str = ""
    place: str = ""

    @property
    def target(self) -> str:
        """Where it is written, below the snapshot."""
        return self.place or self.path


@dataclass(frozen=True)
class RepoTree:
    """`files` by path. `license`: as the model card says, "" if it does not.

    `configs`: the genai_config.json texts that were read, by path. `unsafe`: paths that are never written; a repo
    may hold them where nothing needs them.
    """

    repo: str
    commit: str
    files: Mapping[str, RepoFile]
    license: str = ""
    license_url: str = ""
    revision: str = "main"
    configs: Mapping[str, str] = field(default_factory=dict)
    unsafe: frozenset[str] = frozenset()

    def file(self, path: str) -> RepoFile | None:
        """The file at `path`, None if there is none. Raises HubError for one that may not be written."""
        if path in self.unsafe:
            raise HubError(
                f"{self.repo} needs a file whose path is not safe: {plain(path)}", hint="do not use this repo"
            )
        return self.files.get(path)


def is_commit(text: object) -> bool:
    return isinstance(text, str) and _COMMIT.fullmatch(text) is not None


def is_digest(text: object) -> bool:
    """Of the form that `RepoFile.digest` has, "" included."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def is_safe_path(path: str) -> bool:
    """May this path of a repo be created below a folder, on any system, and shown on any terminal?

    Not absolute, no drive, no `..`, no characters or names that Windows reserves, nothing that steers a terminal.
    """
    if not path or path.startswith(("/", "~")) or _FORBIDDEN.search(path) or re.search(UNPRINTABLE, path):
        return False
    return len(path.encode()) <= _PATH_BYTES and all(_is_safe_name(name) for name in path.split("/"))


def _is_safe_name(name: str) -> bool:
    if name in ("", ".", "..") or name[-1] in ". " or _RESERVED.fullmatch(name):
        return False
    return len(name.encode()) <= _NAME_BYTES

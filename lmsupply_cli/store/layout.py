"""Every path in the store is made here, from strings that come from outside: a Hub, a user, a record on the disk.

    models--OWNER--NAME/snapshots/COMMIT/…   model files, as the Hugging Face cache lays them out
    models--OWNER--NAME/refs/REVISION        the commit of a revision
    .lmsupply/manifests/KEY.json             the record of an installed model
    .lmsupply/unfinished/KEY.json            the record of a pull or a removal that is not finished
    .lmsupply/parts/DIGEST.part              what has arrived of a file
    .lmsupply/imported/KEY/…                 a model that was imported, KEY by its source and form
    .lmsupply/imported/KEY.partial/          an import that is not finished
    .lmsupply/digests.json                   digests of files that may be imported again
    .lmsupply/locks/NAME.lock                held locks
    .lmsupply/used/KEY                       when a model was last used

A name that could lead elsewhere is refused, and `inside` checks a path once more before it is written or deleted.
"""

from __future__ import annotations

import re
from pathlib import Path

from lmsupply_cli.addresses import is_repo
from lmsupply_cli.errors import FileError
from lmsupply_cli.hub.tree import RepoFile, is_commit, is_digest, is_safe_path

OURS = ".lmsupply"
PARTIAL = ".partial"
_KEY_BYTES = 200  # a file name holds 255, and a suffix follows
_IMPORT = re.compile(r"(?P<key>[0-9a-f]{32}-[a-z0-9]+(-[0-9]+)?)(\.[0-9]{1,6}|\.partial)?")


def inside(root: Path, path: Path) -> Path:
    """`path`, once it is sure to lie below `root` and to be reached through no link. Raises FileError."""
    try:
        below = path.relative_to(root)
    except ValueError:
        below = Path("..")
    if not below.parts or ".." in below.parts:
        raise FileError(f"{str(path)!r} lies outside the store {root}", hint="nothing was written or removed there")
    for folder in path.parents:
        if folder == root:
            break
        if folder.is_symlink():
            raise FileError(f"{folder} is a link: nothing is written through it", hint="remove it and pull again")
    return path


def repo_dir(root: Path, repo: str) -> Path:
    """Where the Hugging Face cache keeps a repo. Raises FileError for what is no name of one."""
    if not is_repo(repo):
        raise FileError(f"not the name of a repo: {repo!r}")
    return root / f"models--{repo.replace('/', '--')}"


def snapshot_dir(root: Path, repo: str, commit: str) -> Path:
    """Where the Hugging Face cache keeps a repo at a commit. Raises FileError."""
    if not is_commit(commit):
        raise FileError(f"not a commit of {repo}: {commit[:80]!r}")
    return repo_dir(root, repo) / "snapshots" / commit


def model_dir(root: Path, repo: str, commit: str, variant: str) -> Path:
    """The folder of a variant, "" for the root of the repo. Raises FileError."""
    return file_path(snapshot_dir(root, repo, commit), variant) if variant else snapshot_dir(root, repo, commit)


def file_path(snapshot: Path, path: str) -> Path:
    """A file or folder of a repo below its snapshot. Raises FileError."""
    if not is_safe_path(path):
        raise FileError(f"the repo names a path that is not safe: {path[:200]!r}", hint="do not use this repo")
    return snapshot / path


def ref_path(root: Path, repo: str, revision: str) -> Path | None:
    """The file that holds the commit of a branch or tag; None for what has none: a commit, a pull request."""
    plain = is_safe_path(revision) and "/" not in revision and not is_commit(revision)
    return repo_dir(root, repo) / "refs" / revision if plain else None


def parts_dir(root: Path) -> Path:
    return root / OURS / "parts"


def part_path(root: Path, file: RepoFile, repo: str, commit: str) -> Path:
    """One content, one part: it is found again by any later pull of it."""
    return parts_dir(root) / f"{content_name(file, repo, commit)}.part"


def content_name(file: RepoFile, repo: str, commit: str) -> str:
    """The digest of a file, or where the Hub gave none, its place in the repo. Raises FileError."""
    if not is_digest(file.digest):
        raise FileError(f"not a digest: {file.digest[:80]!r}")
    return file.digest.replace(":", "-") or "at-" + _short(f"{repo}@{commit}:{file.path}")


def manifests_dir(root: Path) -> Path:
    return root / OURS / "manifests"


def unfinished_dir(root: Path) -> Path:
    return root / OURS / "unfinished"


def imported_dir(root: Path) -> Path:
    return root / OURS / "imported"


def import_key(name: str) -> str:
    """The key of a folder below `imported_dir`: it is followed by a number where the model was imported again, and by
    `.partial` while it is not finished. "" for any other name."""
    match = _IMPORT.fullmatch(name)
    return match["key"] if match else ""


def digests_path(root: Path) -> Path:
    return root / OURS / "digests.json"


def lock_path(root: Path, name: str) -> Path:
    return root / OURS / "locks" / f"{name}.lock"


def used_path(root: Path, key: str) -> Path:
    return root / OURS / "used" / key


def record_key(repo: str, commit: str, variant: str) -> str:
    """Unique to repo, commit and variant; a file name on every system."""
    key = "--".join(part.replace("/", "--").replace(" ", "_") for part in (repo, commit, variant or "root") if part)
    return key if len(key.encode()) <= _KEY_BYTES else f"{key.encode()[:150].decode(errors='ignore')}-{_short(key)}"


def _short(text: str) -> str:
    import hashlib

    return hashlib.sha256(text.encode()).hexdigest()[:32]

"""Files, foreign ones and ours: read within limits, parsed without surprises, written whole or not at all.

Whatever the world outside does to a file, the caller gets a value or one error that names the file: FileError, or
the class that it asks for. Nothing here raises OSError, UnicodeError, RecursionError or a parser's own errors.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import tomllib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lmsupply_cli.errors import FileError, LmsupplyError

TEXT_BYTES = 16_000_000  # far beyond any prompt or record; a disk image is not even read
JSON_BYTES = 256_000_000  # a tokenizer.json of 262,144 tokens has about 35 MB
_DEPTH = 100  # levels of objects and lists; no format that we read needs more than a dozen
_CHECKED_BYTES = 4_000_000  # of larger documents (tokenizer.json) only the top is ever walked
# stands for a folder where no home is known: below a device nothing exists, and nobody can write
NO_HOME = Path(os.devnull) / "no-home-folder"
_HOME = "set HOME or LMSUPPLY_HOME"


def reason_of(error: OSError) -> str:
    """What the system said, without its number and the path."""
    return error.strerror or str(error) or type(error).__name__


def expanded(path: Path | str) -> Path:
    """With `~` and `~user` replaced where that home is known, else as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (Path.expanduser raises RuntimeError)


def is_file(path: Path) -> bool:
    """A regular file that can be looked at; False for what may not be read, for no error is one of ours."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (OSError, ValueError):
        return False


def is_absent(path: Path) -> bool:
    """There is no such file, or it lies in a folder of somebody else, where this user may not even look."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError, PermissionError, ValueError):
        return True
    except OSError:
        return False
    return False


def size_of(path: Path) -> int:
    """Bytes of a regular file, -1 where there is none that can be looked at."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return -1
    return found.st_size if stat.S_ISREG(found.st_mode) else -1


def listed(folder: Path, pattern: str = "*") -> list[Path]:
    """What matches in `folder`, by name; nothing where the folder is missing or may not be read."""
    try:
        return sorted(folder.glob(pattern))
    except (OSError, ValueError):
        return []


def absolute(path: Path) -> Path:
    """`path` from the current folder, `~` expanded. Raises FileError where either is not known."""
    try:
        return path.expanduser().absolute()
    except RuntimeError as cause:
        raise FileError(f"the home folder in {path} is not known", hint="write the whole path") from cause
    except OSError as cause:
        raise FileError(
            f"{path} cannot be found: the current folder no longer exists", hint="change to another one"
        ) from cause


def resolved(path: Path) -> Path:
    """`path` without links, as far as that can be found out."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links, or a current folder that is gone
        return path


def folder_bytes(folder: Path, *, below: bool = True) -> int:
    """Bytes of all regular files in `folder`, and `below` it."""
    return sum(max(0, size_of(path)) for path in listed(folder, "**/*" if below else "*"))


def read_bytes(
    path: Path, *, limit_bytes: int = TEXT_BYTES, regular: bool = True, error: type[LmsupplyError] = FileError
) -> bytes:
    """All of a file, at most `limit_bytes`: the limit holds for what is read, not for what the file system says.

    `regular`: refuse pipes and devices. Raises `error`; FileNotFoundError is its cause where there is no such file.
    """
    try:
        # a pipe without a writer would keep a plain open waiting for ever
        with open(path, "rb", buffering=0, opener=_without_waiting if regular else None) as file:
            if regular and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise error(f"{path} is not a regular file")
            data = read_limited(file, limit_bytes)
    except OSError as cause:
        raise error(f"cannot read {path}: {reason_of(cause)}") from cause
    except ValueError as cause:  # a NUL in the name
        raise error(f"cannot read {str(path)!r}: not a file name") from cause
    if len(data) > limit_bytes:
        raise error(f"{path} is larger than the limit of {limit_bytes:,} bytes")
    return data


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def read_limited(file: Any, limit_bytes: int) -> bytes:
    """At most `limit_bytes` + 1 bytes of an open binary file, from whatever it is."""
    parts: list[bytes] = []
    left = limit_bytes + 1
    while left > 0 and (part := file.read(min(left, 1 << 20))):
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def read_text(path: Path, *, limit_bytes: int = TEXT_BYTES, error: type[LmsupplyError] = FileError) -> str:
    """Text in UTF-8, a byte order mark left out. Raises `error`."""
    data = read_bytes(path, limit_bytes=limit_bytes, error=error)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise error(f"{path} is not text in UTF-8 (byte {cause.start})") from cause


def read_json(path: Path, *, limit_bytes: int = JSON_BYTES, error: type[LmsupplyError] = FileError) -> Any:
    """A JSON file of any shape. Raises `error`."""
    return parse_json(read_bytes(path, limit_bytes=limit_bytes, error=error), str(path), error=error)


def parse_json(data: bytes | str, name: str, *, error: type[LmsupplyError] = FileError) -> Any:
    """JSON in UTF-8, with or without a byte order mark; `name` is for the error. Raises `error`.

    Lone surrogates, which no stream can write, become U+FFFD. Nesting is limited, so that what walks the value needs
    no limit of its own.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data.removeprefix("\ufeff")
        value = json.loads(text)
    except UnicodeDecodeError as cause:
        raise error(f"{name} is not text in UTF-8 (byte {cause.start})") from cause
    except RecursionError as cause:
        raise error(f"{name} is nested too deeply") from cause
    except json.JSONDecodeError as cause:
        where = f"line {cause.lineno} column {cause.colno}"
        raise error(f"{name} is not valid JSON: {cause.msg[:1].lower()}{cause.msg[1:]} ({where})") from cause
    except ValueError as cause:  # a number of more digits than Python converts
        raise error(f"{name} is not valid JSON: a number is too long") from cause
    if len(text) <= _CHECKED_BYTES and not _is_shallow(value):
        raise error(f"{name} is nested too deeply")
    return _without_surrogates(value) if re.search(r"\\u[dD][89a-fA-F]", text) else value


def parse_toml(text: str, name: str, *, error: type[LmsupplyError] = FileError) -> dict[str, Any]:
    """Raises `error`."""
    try:
        value = tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as cause:
        raise error(f"{name}: {cause}") from cause
    except RecursionError as cause:
        raise error(f"{name} is nested too deeply") from cause
    except ValueError as cause:  # more digits than Python converts
        raise error(f"{name}: a number is too long, or a date is none") from cause
    if not _is_shallow(value):
        raise error(f"{name} is nested too deeply")
    return value


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(_DEPTH):
        nested = [one for one in level if isinstance(one, (dict, list))]
        if not nested:
            return True
        level = [one for outer in nested for one in (outer.values() if isinstance(outer, dict) else outer)]
    return False


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub("[\ud800-\udfff]", "\ufffd", value)
    if isinstance(value, list):
        return [_without_surrogates(one) for one in value]
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(one) for key, one in value.items()}
    return value


@contextmanager
def our_io_error(
    what: Path | str, *, verb: str = "write", error: type[LmsupplyError] = FileError, hint: str = ""
) -> Iterator[None]:
    """Around every write, rename and delete of ours: an OSError inside becomes one line about `what`."""
    try:
        yield
    except OSError as cause:
        if NO_HOME in (Path(what), *Path(what).parents):
            raise error("no home folder is known, so there is nowhere to write", hint=_HOME) from cause
        raise error(f"cannot {verb} {what}: {reason_of(cause)}", hint=hint or hint_for(cause)) from cause


def hint_for(cause: OSError) -> str:
    """What to do about a write that failed."""
    if cause.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space and run it again"
    if cause.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return "make it writable, or set LMSUPPLY_HOME (or, for models, `cache_dir`) to another directory"
    return "check the disk"


def write_whole(
    path: Path,
    data: bytes | str,
    *,
    private: bool = False,
    keep_mode: bool = False,
    error: type[LmsupplyError] = FileError,
) -> None:
    """Replace `path` by a new file with `data`, or leave it as it was: written beside, flushed, renamed.

    The mode is that of the umask, that of the file that it replaces (`keep_mode`), or 0600 (`private`), then in a
    folder of 0700 if that is new.
    Raises `error`.
    """
    temporary = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
    with our_io_error(path, error=error):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700 if private else 0o777)
        try:
            handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
            with os.fdopen(handle, "wb") as file:
                file.write(data.encode() if isinstance(data, str) else data)
                file.flush()
                os.fsync(file.fileno())
            if keep_mode and is_file(path):
                shutil.copymode(path, temporary)
            temporary.replace(path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """As `write_whole`."""
    write_whole(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n", private=private)


def free_bytes(path: Path) -> int:
    """Of the disk that holds `path`, which may not exist yet; 0 if it cannot be found out."""
    here = absolute(path)
    there = next((folder for folder in (here, *here.parents) if is_folder(folder)), None)
    try:
        return shutil.disk_usage(there).free if there else 0
    except OSError:
        return 0

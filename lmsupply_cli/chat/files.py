"""Text files that become part of a prompt."""

from __future__ import annotations

import codecs
from pathlib import Path

from lmsupply_cli.errors import UsageError
from lmsupply_cli.files import expanded, read_limited, reason_of
from lmsupply_cli.units import format_bytes

LIMIT_BYTES = 16_000_000  # far beyond any context; a disk image is not even read


def read_text(path: Path, *, limit_bytes: int = LIMIT_BYTES) -> str:
    """Raises UsageError for what is no text in UTF-8, or in UTF-16 with the mark that Windows puts first, and for more
    than `limit_bytes` of it, from whatever it is: a file, a pipe, a device."""
    try:
        with expanded(path).open("rb", buffering=0) as file:
            data = read_limited(file, limit_bytes)
    except (OSError, ValueError) as error:
        reason = reason_of(error) if isinstance(error, OSError) else str(error)
        raise UsageError(f"cannot read {path}: {reason}") from error
    return decode_text(data, str(path), limit_bytes=limit_bytes)


def decode_text(data: bytes, name: str, *, limit_bytes: int = LIMIT_BYTES) -> str:
    """See `read_text`; `name` is for the error."""
    if len(data) > limit_bytes:
        raise UsageError(f"{name} is larger than the limit of {format_bytes(limit_bytes)}")
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return data.decode("utf-16")
        except UnicodeDecodeError:
            pass
    if b"\0" in data[:65536]:
        raise UsageError(f"{name} is binary", hint="only text in UTF-8 can be read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{name} is not UTF-8 (byte {error.start})", hint=f"convert it: iconv -t UTF-8 {name}"
        ) from error

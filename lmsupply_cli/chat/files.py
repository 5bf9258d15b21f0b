"""Text files that become part of a prompt."""

from __future__ import annotations

import codecs
from pathlib import Path

from lmsupply_cli.errors import UsageError
from lmsupply_cli.units import format_bytes

LIMIT_BYTES = 16_000_000  # far beyond any context; a disk image is not even read


def read_text(path: Path, *, limit_bytes: int | None = LIMIT_BYTES) -> str:
    """Raises UsageError for what is no text in UTF-8, or in UTF-16 with the mark that Windows puts first."""
    try:
        size = path.expanduser().stat().st_size
        if limit_bytes is not None and size > limit_bytes:
            raise UsageError(
                f"{path} has {format_bytes(size)}", hint=f"at most {format_bytes(limit_bytes)} can be read"
            )
        data = path.expanduser().read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror or error}") from error
    return decode_text(data, str(path))


def decode_text(data: bytes, name: str) -> str:
    """See `read_text`; `name` is for the error."""
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

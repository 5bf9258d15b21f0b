"""The door for files: values or one error that names the file, whatever the file is."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from lmsupply_cli import files
from lmsupply_cli.errors import FileError, SettingsError


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not text in UTF-8"),
        (b"[" * 100_000, "nested too deeply"),
        (b"[" * 300 + b"]" * 300, "nested too deeply"),
        (b"9" * 5000, "a number is too long"),
        (b"", "not valid JSON"),
    ],
)
def test_json_that_cannot_be_read_is_named(tmp_path: Path, data: bytes, says: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(FileError, match=says) as caught:
        files.read_json(path)
    assert str(path) in caught.value.message


def test_a_byte_order_mark_and_lone_surrogates_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b'\xef\xbb\xbf{"a\\ud800": ["\\ud83d\\ude00", "\\udc00"]}')
    assert files.read_json(path) == {"a\ufffd": ["😀", "\ufffd"]}


@pytest.mark.parametrize("text", ["a = [" * 5000, "a = " + "9" * 5000, "a", "a = 2020-13-45"])
def test_toml_that_cannot_be_read_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match=r"models\.toml"):
        files.parse_toml(text, "models.toml", error=SettingsError)


def test_what_has_no_end_is_read_up_to_the_limit() -> None:
    with pytest.raises(FileError, match="larger than the limit of 1,000 bytes"):
        files.read_bytes(Path("/dev/zero"), limit_bytes=1000, regular=False)
    with pytest.raises(FileError, match="not a regular file"):
        files.read_bytes(Path("/dev/zero"))
    with pytest.raises(FileError, match="not a file name"):
        files.read_bytes(Path("a\0b"))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "below" / "a.json"
    files.write_json(path, {"a": 1})
    assert json.loads(path.read_text()) == {"a": 1}
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~mask
    monkeypatch.setattr(os, "fsync", _full)
    with pytest.raises(FileError, match="No space left") as caught:
        files.write_json(path, {"a": 2})
    assert "free some space" in caught.value.hint
    assert json.loads(path.read_text()) == {"a": 1}
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def _full(_: int) -> None:
    raise OSError(28, "No space left on device")

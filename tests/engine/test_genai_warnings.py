"""What the engine's guidance prints itself."""

from __future__ import annotations

import os

import pytest

from lmsupply_cli.engine.genai_warnings import without_warnings


def test_only_the_warning_is_kept_from_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with without_warnings():
        os.write(2, b"before\nWarning: Parser Error: token x\nafter\n")
    os.write(2, b"later\n")
    assert capfd.readouterr().err == "before\nafter\nlater\n"


def test_stderr_is_back_after_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError), without_warnings():
        raise RuntimeError
    os.write(2, b"here\n")
    assert capfd.readouterr().err == "here\n"

"""Ctrl-C while the engine is imported."""

from __future__ import annotations

import os
import signal
import sys
import time

import pytest

from lmsupply_cli.__main__ import _ctrl_c_is_not_lost
from lmsupply_cli.cli.app import main
from lmsupply_cli.engine.cancel import interrupts_deferred

if sys.platform == "win32":
    pytest.skip("SIGINT cannot be sent to oneself alone there", allow_module_level=True)


@pytest.mark.parametrize("error", [None, ImportError("what a compiled module makes of it")])
def test_it_comes_at_the_end(error: Exception | None) -> None:
    before, reached = signal.getsignal(signal.SIGINT), []

    def imports() -> None:
        with interrupts_deferred():
            os.kill(os.getpid(), signal.SIGINT)
            reached.append("end")
            if error:
                raise error

    with pytest.raises(KeyboardInterrupt):
        imports()
    assert reached == ["end"]
    assert signal.getsignal(signal.SIGINT) is before


def test_without_one_nothing_changes() -> None:
    with pytest.raises(ImportError), interrupts_deferred():
        raise ImportError


def test_an_error_that_began_as_ctrl_c_is_no_bug(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> int:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            raise RuntimeError("Error calling __set_name__") from error

    monkeypatch.setattr("lmsupply_cli.cli.app._invoke", fails)
    assert main([]) == 130


def test_it_is_not_lost_where_python_drops_exceptions(monkeypatch: pytest.MonkeyPatch) -> None:
    class Dropping:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(sys, "unraisablehook", _ctrl_c_is_not_lost)
    things = [Dropping()]

    def drop() -> None:
        things.clear()
        time.sleep(20)
        raise AssertionError("it slept on")

    with pytest.raises(KeyboardInterrupt):
        drop()

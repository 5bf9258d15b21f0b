"""The echo of a terminal while the model works."""

from __future__ import annotations

import io
import os
import signal
import sys
from collections.abc import Iterator
from typing import IO

import pytest

if sys.platform == "win32":
    pytest.skip("needs a pseudo-terminal", allow_module_level=True)

import termios

from lmsupply_cli.repl.keys import quiet_keys


@pytest.fixture
def stdin() -> Iterator[IO[str]]:
    outer, inner = os.openpty()
    with os.fdopen(inner, "r") as file:
        yield file
    os.close(outer)


def echoes(stdin: IO[str]) -> bool:
    return bool(termios.tcgetattr(stdin)[3] & termios.ECHO)


def test_there_is_no_echo_inside_and_all_is_as_before_after(stdin: IO[str]) -> None:
    before, handler = termios.tcgetattr(stdin), signal.getsignal(signal.SIGTSTP)
    with quiet_keys(stdin):
        assert not echoes(stdin)
        assert signal.getsignal(signal.SIGTSTP) is not handler
    assert termios.tcgetattr(stdin) == before
    assert signal.getsignal(signal.SIGTSTP) == handler


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_the_echo_is_back_whatever_happens(stdin: IO[str], error: type[BaseException]) -> None:
    with pytest.raises(error), quiet_keys(stdin):
        raise error
    assert echoes(stdin)


def test_a_terminal_without_echo_stays_so(stdin: IO[str]) -> None:
    mode = termios.tcgetattr(stdin)
    mode[3] &= ~termios.ECHO
    termios.tcsetattr(stdin, termios.TCSANOW, mode)
    with quiet_keys(stdin):
        pass
    assert not echoes(stdin)


def test_what_is_no_terminal_is_left_alone() -> None:
    handler = signal.getsignal(signal.SIGTSTP)
    for stdin in (None, io.StringIO()):
        with quiet_keys(stdin):
            assert signal.getsignal(signal.SIGTSTP) is handler

"""What is typed while the model works is not echoed: it would break what is being drawn."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any


def forget_typed(stdin: IO[str] | None) -> None:
    """Forget what was typed and not read yet."""
    if stdin is None or not stdin.isatty():
        return
    if sys.platform == "win32":
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getwch()
        return
    import termios

    with suppress(termios.error, ValueError, OSError):
        termios.tcflush(stdin, termios.TCIFLUSH)


@contextmanager
def quiet_keys(stdin: IO[str] | None) -> Iterator[None]:
    """No echo in a terminal. What is typed waits there for the next prompt, Ctrl-D too; Ctrl-C and Ctrl-Z work as always,
    and while the program is suspended the shell has its echo."""
    if sys.platform == "win32" or stdin is None or not stdin.isatty():
        yield
        return
    import termios

    try:
        before = termios.tcgetattr(stdin)
        disabled = bytes([os.fpathconf(stdin.fileno(), "PC_VDISABLE")])
    except (termios.error, ValueError, OSError):
        yield
        return
    quiet = [*before]
    quiet[3] &= ~termios.ECHO
    quiet[6] = [*before[6]]
    quiet[6][termios.VEOF] = disabled

    def apply(mode: list[Any]) -> None:
        try:
            termios.tcsetattr(stdin, termios.TCSANOW, mode)
        except (termios.error, ValueError, OSError):  # the terminal is gone
            return

    def suspend(number: int, frame: object) -> None:
        apply(before)
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)  # returns when the program is in the foreground again
        signal.signal(signal.SIGTSTP, suspend)
        apply(quiet)

    main = threading.current_thread() is threading.main_thread()
    handler = signal.signal(signal.SIGTSTP, suspend) if main else None
    try:
        apply(quiet)
        yield
    finally:
        apply(before)
        if main:
            signal.signal(signal.SIGTSTP, handler)

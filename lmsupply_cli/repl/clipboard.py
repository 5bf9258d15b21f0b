"""Copy text to the clipboard, through the terminal or a system program."""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Mapping

from lmsupply_cli.errors import UsageError
from lmsupply_cli.render.terminal import Terminal

_OSC_52_BYTES = 74_000  # terminals drop longer sequences
# (the program, the variable without which it does not work)
_PROGRAMS = (
    (("pbcopy",), ""),
    (("wl-copy",), "WAYLAND_DISPLAY"),
    (("xclip", "-selection", "clipboard"), "DISPLAY"),
    (("xsel", "--clipboard", "--input"), "DISPLAY"),
    (("clip.exe",), ""),
)


def copy_text(text: str, terminal: Terminal) -> str:
    """Copy `text`; returns what to tell the user. Raises UsageError if it cannot be copied."""
    done = f"Copied {len(text):,} character{'' if len(text) == 1 else 's'}."
    asked = _ask_terminal(text, terminal)
    if _run_program(text, terminal.environ):
        return done
    if asked:
        return f"{done} (Through the terminal; not every terminal allows this.)"
    raise UsageError("no clipboard found", hint="install wl-copy, xclip or xsel, or use /export FILE")


def _ask_terminal(text: str, terminal: Terminal) -> bool:
    """OSC 52: the terminal copies, also at the other end of ssh. Whether it did is not known."""
    data = base64.b64encode(text.encode("utf-8", errors="replace"))
    if not terminal.stdout_tty or terminal.dumb or len(data) > _OSC_52_BYTES:
        return False
    terminal.control(f"\x1b]52;c;{data.decode()}\x07")
    return True


def _run_program(text: str, environ: Mapping[str, str]) -> bool:
    if environ.get("SSH_CONNECTION"):
        return False  # it would copy on the other machine
    for command, variable in _PROGRAMS:
        program = shutil.which(command[0], path=environ.get("PATH"))
        if program is None or (variable and not environ.get(variable)):
            continue
        data = text.encode("utf-16" if command[0] == "clip.exe" else "utf-8", errors="replace")
        try:
            done = subprocess.run(
                [program, *command[1:]],
                input=data,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=5,
                check=False,
            )
        except (OSError, subprocess.SubprocessError):
            continue
        if done.returncode == 0:
            return True
    return False

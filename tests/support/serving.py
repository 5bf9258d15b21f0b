"""A server in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def serving(home: Path, *arguments: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process, and the first line on its stderr."""
    variables = {**os.environ, "LMSUPPLY_HOME": str(home), **environ}
    command = [sys.executable, "-m", "lmsupply_cli", "serve", *arguments]
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            yield process, process.stderr.readline()
        finally:
            process.kill()


def url_in(greeting: str) -> str:
    """Where the server says that it is."""
    found = re.search(r"http://127\.0\.0\.1:\d+", greeting)
    assert found, greeting
    return found[0]

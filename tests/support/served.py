"""`lmsupply serve` in a process of its own, in a home of its own."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.cli import Result, lmsupply


@dataclass
class Served:
    """A server; commands run in its home, so they find it."""

    url: str
    home: Path
    process: subprocess.Popen[str]

    def lmsupply(self, *arguments: str, **more: Any) -> Result:
        return lmsupply(*arguments, LMSUPPLY_HOME=str(self.home), **more)

    def answered(self) -> int:
        """How many requests its model answered."""
        return sum(row["answered"] for row in self.models())

    def models(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.lmsupply("ps", "--json").json["models"]
        return found


@contextlib.contextmanager
def served(home: Path, *arguments: str, **environ: str) -> Iterator[Served]:
    """With its models loaded."""
    variables = {**os.environ, "LMSUPPLY_HOME": str(home), **environ}
    command = [sys.executable, "-m", "lmsupply_cli", "serve", *arguments, "--port", "0"]
    with subprocess.Popen(command, env=variables, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            greeting = process.stderr.readline()
            url = re.search(r"http://127\.0\.0\.1:\d+", greeting)
            assert url, greeting
            yield Served(url[0], home, process)
        finally:
            process.kill()

"""The command line as a black box: a process, its exit code, what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def lmsupply(*arguments: str | Path, stdin: str | bytes = b"", cwd: Path | None = None, **environ: str) -> Result:
    """Run `lmsupply` with `stdin` piped in and stdout and stderr caught."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run(
        [sys.executable, "-m", "lmsupply_cli", *map(str, arguments)],
        input=data,
        capture_output=True,
        env={**os.environ, **environ},
        cwd=cwd,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

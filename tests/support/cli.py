"""The command line as a black box: a process, its exit code, what it wrote."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.zygote import can_serve, run_forked


@dataclass
class Result:
    code: int
    out: str
    err: str

    @property
    def output(self) -> str:
        return self.out + self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def json_lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]


def lmsupply(*arguments: str | Path, stdin: str | bytes = b"", cwd: Path | None = None, **environ: str) -> Result:
    """Run `lmsupply` with `stdin` piped in and stdout and stderr caught."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    variables = {**os.environ, **environ}
    if can_serve(variables):
        code, out, err = run_forked([*map(str, arguments)], stdin=data, environ=variables, cwd=cwd, timeout_s=120)
        return Result(code, out.decode(), err.decode())
    done = subprocess.run(
        [sys.executable, "-m", "lmsupply_cli", *map(str, arguments)],
        input=data,
        capture_output=True,
        env=variables,
        cwd=cwd,
        timeout=120,
        check=False,
    )
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

"""Documents changed at random, and a server that runs `lmsupply` on them: a fork for each command, so that many are cheap."""

from __future__ import annotations

import base64
import importlib
import json
import os
import pkgutil
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 1e308, 2**31, 2**63, 2**64, 10**400, "", "x", "..", "/etc/passwd", "../../x", "a\0b",
    "\x1b]0;x\x07", "\u202ex", "\ud800", "9" * 5000, [], {}, [None], [[]], {"": None}, [0, "x"], {"a": {"b": [1]}}, "é" * 300,
)  # fmt: skip
LIMIT_S = 60  # for one command; what takes as long hangs


@dataclass(frozen=True)
class Command:
    """`path` is written first; `home` is the LMSUPPLY_HOME."""

    argv: tuple[str, ...]
    path: str
    data: bytes
    home: str


@dataclass(frozen=True)
class Outcome:
    """`code`: -9 and the like where the process died of a signal; `output`: stdout and stderr."""

    code: int
    output: str


def mutated(data: bytes, rng: random.Random, *, form: str) -> bytes:
    """Another document: a value replaced by one of another type, a key gone, bytes lost, changed, doubled or added.
    `form`: "json", "jsonl" (a change to one line) or "toml"."""
    if form == "jsonl":
        lines = data.split(b"\n")
        at = rng.randrange(len(lines))
        lines[at] = mutated(lines[at] or b"{}", rng, form="json")
        return b"\n".join(lines)
    if form == "json" and rng.random() < 0.7:
        return _with_odd_value(data, rng)
    if form == "toml" and rng.random() < 0.7:
        lines = data.splitlines(keepends=True)
        at = rng.randrange(len(lines))
        key = lines[at].split(b"=")[0]
        odd = (
            b"1",
            b"-1",
            b'""',
            b"[]",
            b"{}",
            b"true",
            b"1e400",
            b"9" * 4301,
            b"2020-01-01",
            b'["", 1]',
            b"'''",
            b"[" * 3000,
        )
        lines[at] = key + b"= " + rng.choice(odd) + b"\n"
        return b"".join(lines)
    return _with_odd_bytes(data, rng)


def _with_odd_value(data: bytes, rng: random.Random) -> bytes:
    try:
        value = json.loads(data)
    except ValueError:
        return _with_odd_bytes(data, rng)
    places: list[tuple[Any, Any]] = []
    level = [value]
    while level:
        one = level.pop()
        keys = list(one) if isinstance(one, dict) else range(min(len(one), 20)) if isinstance(one, list) else ()
        places += [(one, key) for key in keys]
        level += [one[key] for key in keys]
    if not places:
        return json.dumps(rng.choice(ODD)).encode()
    for _ in range(rng.choice((1, 1, 2))):
        holder, key = rng.choice(places)
        if rng.random() < 0.15 and isinstance(holder, dict):
            holder.pop(key, None)
        elif isinstance(holder, dict) or key < len(holder):
            holder[key] = rng.choice(ODD)
    text = json.dumps(value)
    return (text.replace("1e+308", "1e400", 1) if rng.random() < 0.1 else text).encode()


def _with_odd_bytes(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return rng.choice(
        (
            data[:at],
            data[at:],
            data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
            data[:at] + rng.randbytes(8) + data[at:],
            data + data,
            b"\xef\xbb\xbf" + data,
            data.decode("utf-8", "replace").encode("utf-16"),
            b"[" * 20_000,
            b'{"a":' * 400 + b"1" + b"}" * 400,
            b"",
            b"null",
            b"\0" * 100,
        )
    )


class FuzzServer:
    """Close it, or use it in `with`. Two commands run at a time."""

    def __init__(self, **environ: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, **environ},
        )  # fmt: skip

    def run(self, commands: Sequence[Command]) -> list[Outcome]:
        """One after the other."""
        assert self._process.stdin
        assert self._process.stdout
        found = []
        for command in commands:
            row = asdict(command) | {"data": base64.b64encode(command.data).decode()}
            self._process.stdin.write(json.dumps(row) + "\n")
            self._process.stdin.flush()
            found.append(Outcome(**json.loads(self._process.stdout.readline())))
        return found

    def __enter__(self) -> FuzzServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def serve() -> None:
    import lmsupply_cli

    # before the forks, so that they are quick; the engine has threads and comes after them
    for module in pkgutil.walk_packages(lmsupply_cli.__path__, "lmsupply_cli."):
        if not module.name.endswith(("__main__", "worker_child")):
            importlib.import_module(module.name)
    for name in ("jinja2.sandbox", "numpy", "psutil", "tokenizers", "llguidance", "rich.table", "rich.markdown"):
        importlib.import_module(name)
    assert "onnxruntime_genai" not in sys.modules
    for line in sys.stdin:
        print(json.dumps(_forked(json.loads(line))), flush=True)


def _forked(row: dict[str, Any]) -> dict[str, Any]:
    with tempfile.TemporaryFile() as caught:
        child = os.fork()
        if not child:
            code = 99
            try:
                null = os.open(os.devnull, os.O_RDONLY)
                for stream, fd in ((null, 0), (caught.fileno(), 1), (caught.fileno(), 2)):
                    os.dup2(stream, fd)
                resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
                resource.setrlimit(resource.RLIMIT_CPU, (LIMIT_S, LIMIT_S))
                os.environ["LMSUPPLY_HOME"] = row["home"]
                Path(row["path"]).write_bytes(base64.b64decode(row["data"]))
                from lmsupply_cli.cli.app import main

                code = main(row["argv"])
            except BaseException:
                import traceback

                traceback.print_exc()
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        deadline = time.monotonic() + LIMIT_S
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                break
            if time.monotonic() > deadline:
                os.kill(child, 9)
            time.sleep(0.001)
        caught.seek(0)
        return {"code": os.waitstatus_to_exitcode(status), "output": caught.read().decode("utf-8", "replace")}


if __name__ == "__main__":
    serve()

"""`lmsupply` as a process of its own, without the half second that its imports take: forks of a Python that has them.

What differs from `python -m lmsupply_cli`: modules are there already (but not the engine, which has threads, nor what
reads the environment when it is imported). Use a plain subprocess where imports or the interpreter's own variables matter.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

_ENVIRONMENT_AT_IMPORT = ("huggingface_hub", "httpx2")  # they read variables when they are imported
_PACKAGES = ("jinja2.sandbox", "numpy", "psutil", "tokenizers", "llguidance", "rich.table", "rich.markdown")
_INTERPRETER = ("PYTHON", "LC_", "LANG", "LD_")  # variables that only a new interpreter reads


def can_serve(environ: Mapping[str, str]) -> bool:
    """Whether a fork behaves as a new process with these variables would."""
    if not hasattr(os, "fork") or not hasattr(socket, "send_fds"):
        return False
    return all(environ.get(name) == _START.get(name) for name in {*environ, *_START} if name.startswith(_INTERPRETER))


def run_forked(
    argv: Sequence[str], *, stdin: bytes, environ: Mapping[str, str], cwd: Path | None, timeout_s: float
) -> tuple[int, bytes, bytes]:
    """(exit code, stdout, stderr), the code as `subprocess` gives it. Raises TimeoutError."""
    pipes = [os.pipe() for _ in range(3)]
    child = (pipes[0][0], pipes[1][1], pipes[2][1])
    request = json.dumps({"argv": list(argv), "environ": dict(environ), "cwd": str(cwd or Path.cwd())}).encode()
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(timeout_s)
        _connect(line, _address())
        line.sendall(len(request).to_bytes(8, "big"))
        socket.send_fds(line, [b"."], child)
        line.sendall(request)
        for fd in child:
            os.close(fd)
        found: dict[int, bytes] = {}
        readers = [threading.Thread(target=_read_all, args=(pipes[at][0], at, found), daemon=True) for at in (1, 2)]
        writer = threading.Thread(target=_write_all, args=(pipes[0][1], stdin))
        for thread in (*readers, writer):
            thread.start()
        answer = line.recv(64)
    for thread in (*readers, writer):
        thread.join()
    return int(answer), found[1], found[2]


_START = dict(os.environ)
_connect = socket.socket.connect  # as it is before a test forbids it


def _read_all(fd: int, at: int, found: dict[int, bytes]) -> None:
    with open(fd, "rb") as stream:
        found[at] = stream.read()


def _write_all(fd: int, data: bytes) -> None:
    try:
        with open(fd, "wb") as stream:
            stream.write(data)
    except BrokenPipeError:  # it does not read all of it
        pass


@functools.cache
def _address() -> str:
    """The server's socket; it ends with this process."""
    folder = tempfile.TemporaryDirectory(prefix="zygote")
    address = str(Path(folder.name) / "socket")
    server = subprocess.Popen(
        [sys.executable, __file__, address], stdin=subprocess.PIPE, env=_START, stdout=subprocess.PIPE
    )
    assert server.stdout
    assert server.stdout.readline() == b"ready\n"

    def end() -> None:
        server.communicate()
        folder.cleanup()

    atexit.register(end)
    return address


def serve(address: str) -> None:
    import lmsupply_cli

    for module in pkgutil.walk_packages(lmsupply_cli.__path__, "lmsupply_cli."):
        if not module.name.endswith(("__main__", "worker_child", "mcp_client")) and ".builtin" not in module.name:
            importlib.import_module(module.name)
    for name in _PACKAGES:
        importlib.import_module(name)
    assert not {*_ENVIRONMENT_AT_IMPORT, "onnxruntime_genai"} & sys.modules.keys()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen(64)
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            if 0 in ready:
                return
            line, _ = listener.accept()
            if not os.fork():
                listener.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                _keep(line)
            line.close()


def _keep(line: socket.socket) -> NoReturn:
    """Run one command: in a child, whose exit code goes back; who hangs up kills it."""
    size = int.from_bytes(_received(line, 8), "big")
    _, fds, _, _ = socket.recv_fds(line, 1, 3)
    request = json.loads(_received(line, size))
    child = os.fork()
    if not child:
        line.close()
        _become(request, fds)
    for fd in fds:
        os.close(fd)
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            line.sendall(str(os.waitstatus_to_exitcode(status)).encode())
            os._exit(0)
        if select.select([line], [], [], 0.002)[0]:
            os.kill(child, signal.SIGKILL)
            os._exit(0)


def _received(line: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = line.recv(size - len(data))
        if not part:  # who asked is gone
            os._exit(1)
        data += part
    return data


def _become(request: dict[str, object], fds: Sequence[int]) -> NoReturn:
    """Take on streams, variables and folder, run, and end."""
    for at, fd in enumerate(fds):
        os.dup2(fd, at)
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for at, name in enumerate(("stdin", "stdout", "stderr")):
        old = getattr(sys, name)
        buffering = 1 if at == 2 else -1
        new = os.fdopen(at, "w" if at else "r", buffering, encoding=old.encoding, errors=old.errors)
        setattr(sys, name, new)
        setattr(sys, f"__{name}__", new)
    os.environ.clear()
    os.environ.update(request["environ"])  # type: ignore[call-overload]
    time.tzset()
    os.chdir(str(request["cwd"]))
    sys.argv = ["lmsupply", *request["argv"]]  # type: ignore[misc]
    from lmsupply_cli.__main__ import main

    code = main()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)  # the rest of an interpreter's end would copy every page that the fork shares


if __name__ == "__main__":
    serve(sys.argv[1])

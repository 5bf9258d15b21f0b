"""Foreign code and foreign patterns run in a process of their own, which can be ended.

A worker is a Python that loads one file (its handler, with a function `handle`) and answers requests, JSON against
JSON, until it is closed. It is started when the first request needs it, started again after it was ended, and gone
with the last reference to it or with this process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import IO, Any, Literal

_CHILD = Path(__file__).with_name("worker_child.py")
_START_S = 60.0  # imports of a cold disk; what runs then is ours
_HEADER_BYTES = 8
# tokens and passwords stay here
_ENVIRONMENT = {
    "TZ",
    "TZDIR",
    "LANG",
    "LC_ALL",
    "LC_TIME",
    "PATH",
    "SYSTEMROOT",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
}

Reason = Literal["start", "time", "memory", "size", "died"]


class WorkerFailed(Exception):
    """The request has no answer; `reason` is which limit it met, or that the process could not live on."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Worker:
    """One process, one request at a time. Safe with threads, and with a fork of this process."""

    def __init__(self, handler: Path, *, limit_s: float, memory_bytes: int, answer_bytes: int) -> None:
        """Limits of one request, of the address space (where the platform has such a limit) and of one answer."""
        self._handler, self._memory_bytes, self._answer_bytes = handler, memory_bytes, answer_bytes
        self.limit_s = limit_s
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False
        self._owner = 0
        self._end: weakref.finalize[..., Any] | None = None

    def start(self) -> None:
        """Begin to start the process, without waiting for it. Raises WorkerFailed."""
        with self._lock:
            self._running()

    def ask(self, request: Any, *, limit_s: float = 0.0) -> Any:
        """What the handler returns for `request`; `limit_s`: another limit than usual. Raises WorkerFailed; the next
        request gets a new process."""
        limit_s = limit_s or self.limit_s
        data = json.dumps([int(limit_s) + 2, request], ensure_ascii=False).encode("utf-8", "surrogatepass")
        with self._lock:
            process = self._running()
            try:
                if not self._ready:
                    self._exchange(process, None, _START_S)
                    self._ready = True
                answer = self._exchange(process, data, limit_s)
            except BaseException:  # Ctrl-C too: what it would answer later is no answer to the next request
                self._stop()
                raise
            if "failed" in answer:
                self._stop()  # after an allocation failed, nothing in it can be relied on
                raise WorkerFailed(answer["failed"], answer["text"])
            return answer["answer"]

    def close(self) -> None:
        """End the process; a second call does nothing, a request starts another one."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():  # after a fork, the process belongs to the parent
            if self._end:
                self._end.detach()
            self._process = self._end = None
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._process, self._owner, self._ready = self._start(), os.getpid(), False
            self._end = weakref.finalize(self, _end, self._process)
        return self._process

    def _start(self) -> subprocess.Popen[bytes]:
        settings = {
            "handler": str(self._handler),
            "path": [*(str(Path(entry).absolute()) for entry in sys.path if entry), str(_CHILD.parents[1])],
            "memory_bytes": self._memory_bytes,
            "answer_bytes": self._answer_bytes,
        }
        own: dict[str, Any] = {}  # Ctrl-C on the terminal is for us
        if sys.platform == "win32":
            own["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
        else:
            own["start_new_session"] = True
        try:
            return subprocess.Popen(
                [sys.executable or "python3", "-I", "-S", str(_CHILD), json.dumps(settings)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=_CHILD.anchor,
                env={name: value for name, value in os.environ.items() if name in _ENVIRONMENT},
                **own,
            )
        except OSError as error:
            raise WorkerFailed("start", f"{sys.executable}: {error.strerror or error}") from error

    def _exchange(self, process: subprocess.Popen[bytes], data: bytes | None, limit_s: float) -> dict[str, Any]:
        """Send `data`, and wait for what comes back: a timer ends the process, which ends the wait."""
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(limit_s, end)
        timer.daemon = True
        timer.start()
        assert process.stdin
        assert process.stdout
        try:
            if data is not None:
                process.stdin.write(len(data).to_bytes(_HEADER_BYTES, "big") + data)
                process.stdin.flush()
            received = _read_frame(process.stdout, self._answer_bytes)
        except OSError:  # a broken pipe
            received = b""
        finally:
            timer.cancel()
        if received is None:
            raise WorkerFailed("size", f"it answers with more than {self._answer_bytes:,} bytes")
        if late.is_set():
            raise WorkerFailed("start" if data is None else "time", f"it ran longer than {limit_s:.3g} seconds")
        if not received:
            process.kill()
            raise WorkerFailed("start" if data is None else "died", _how_it_ended(process.wait()))
        answer: dict[str, Any] = json.loads(received.decode("utf-8", "surrogatepass"))
        return answer

    def _stop(self) -> None:
        if self._end:
            self._end()
        self._process, self._end = None, None


def _read_frame(stream: IO[bytes], limit_bytes: int) -> bytes | None:
    """One answer; empty at the end of the stream, None for one beyond the limit."""
    header = stream.read(_HEADER_BYTES)
    if len(header) < _HEADER_BYTES:
        return b""
    size = int.from_bytes(header, "big")
    if size > limit_bytes:
        return None
    data = stream.read(size)
    return data if len(data) == size else b""


def _how_it_ended(code: int) -> str:
    if code < 0:
        with_name = next((one.name for one in signal.Signals if one == -code), str(-code))
        return f"its process died of {with_name}"
    return f"its process ended with code {code}"


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            try:
                pipe.close()
            except OSError:  # what was not yet written
                continue
    process.wait()

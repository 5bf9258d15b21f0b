"""Reads large request bodies in a process of its own.

Parsing holds Python's lock: a body of 30 MB can take seconds, in which nobody else would be answered. The process starts with
the first large body, and ends when none came for a while.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import struct
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from lmsupply_cli.server.body import Body
from lmsupply_cli.server.errors import ApiError

MOST_VALUES = 200_000  # fields, objects, lists and texts of a large body; of numbers in lists five times as many
_SMALL_BYTES, _SMALL_VALUES = 500_000, 10_000  # read at once: in 30 ms at most
_IDLE_S = 60.0
_LENGTH = struct.Struct("<Q")
_START = "import sys; sys.path.append(sys.argv[1]); from lmsupply_cli.server.reading import main; main()"
B = TypeVar("B", bound=Body)


def is_small(data: bytes) -> bool:
    """Whether a body is read fast enough for the event loop."""
    return len(data) <= _SMALL_BYTES and sum(map(data.count, (b"{", b"[", b","))) <= _SMALL_VALUES


class BodyReader:
    """One body after another."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[..., Any] | None = None

    async def read(self, form: type[B], data: bytes) -> B:
        """As `form.read`. Raises ApiError."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "lmsupply-reader")
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._thread, self._ask, form, data)
        if isinstance(found, ApiError):
            raise found
        return found

    def close(self) -> None:
        """End the process, and what it reads."""
        if self._end:
            self._end()
        if self._thread:
            self._thread.shutdown(wait=False, cancel_futures=True)

    def _ask(self, form: type[B], data: bytes) -> B | ApiError:
        """A process that has just ended, because it was idle, is started again."""
        for _ in range(2):
            process = self._running()
            assert process.stdin
            assert process.stdout
            try:
                _write(process.stdin, pickle.dumps(form), data)
                reply = _read(process.stdout)
            except OSError:
                reply = None
            if reply is not None:
                found: B | dict[str, Any] = pickle.loads(reply)
                return ApiError(**found) if isinstance(found, dict) else found
            self._stop()
        return ApiError(503, "the request could not be read: memory may have run out", "not_read", retry_after_s=5)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self._stop()
        command = [sys.executable, "-P", "-c", _START, str(Path(__file__).parents[2]), "lmsupply-reader"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **_apart()
        )
        self._end = weakref.finalize(self, _ended, self._process)
        return self._process

    def _stop(self) -> None:
        if self._end:
            self._end()
        self._process = self._end = None


def _apart() -> dict[str, Any]:
    """Ctrl-C in the terminal is for this process alone."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


def _ended(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe:
            with suppress(OSError):
                pipe.close()


def _write(pipe: IO[bytes], *values: bytes) -> None:
    for value in values:
        pipe.write(_LENGTH.pack(len(value)))
        pipe.write(value)
    pipe.flush()


def _read(pipe: IO[bytes]) -> bytes | None:
    """The next value; None at the end."""
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    value = pipe.read(length)
    return value if len(value) == length else None


def main() -> None:
    """The process, until nobody asks any more."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print
    idle = _idle()
    while True:
        kind, data = _read(requests), _read(requests)
        idle.cancel()
        if kind is None or data is None:
            os._exit(0)
        form: type[Body] = pickle.loads(kind)
        _write(replies, pickle.dumps(_found(form, data), protocol=pickle.HIGHEST_PROTOCOL))
        del data
        idle = _idle()


def _idle() -> threading.Timer:
    timer = threading.Timer(_IDLE_S, os._exit, (0,))
    timer.daemon = True
    timer.start()
    return timer


def _found(form: type[Body], data: bytes) -> Body | dict[str, Any]:
    """The body, or the fields of an ApiError."""
    try:
        values = form.parse(data)
        if has_more_values(values, MOST_VALUES):
            raise ApiError(400, f"the body has more than {MOST_VALUES:,} values", "invalid_value")
        return form.of(values)
    except ApiError as error:
        return {
            "status": error.status,
            "message": error.message,
            "code": error.code,
            "param": error.param,
            "retry_after_s": error.retry_after_s,
        }


def has_more_values(values: Any, most: int) -> bool:
    """Whether there are more fields, objects, lists and texts in it; five numbers in a list count as one."""
    left, todo = most, [values]
    while todo:
        value = todo.pop()
        if isinstance(value, dict):
            left -= len(value)
            inner = value.values()
        else:
            left -= sum(isinstance(one, (dict, list, str)) for one in value) + len(value) // 5
            inner = value
        if left < 0:
            return True
        todo += [one for one in inner if isinstance(one, (dict, list))]
    return False


if __name__ == "__main__":
    main()

"""The inside of a worker: run as a script, with nothing but the standard library until its handler is loaded.

It says that it is there with one empty answer, then answers each request with what `handle(request, limit_bytes)` of
its handler returns: `{"answer": …}`, or `{"failed": …, "text": …}` where a limit was met. It ends when its standard
input does.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import sys
from typing import Any, BinaryIO


def main() -> None:
    settings = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)  # what a library prints is no answer
    sys.path.extend(settings["path"])
    spec = importlib.util.spec_from_file_location("handler", settings["handler"])
    assert spec
    assert spec.loader
    handler = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(handler)
    _limit(settings["memory_bytes"])
    _write(answers, {"answer": None})
    while header := requests.read(8):
        data = requests.read(int.from_bytes(header, "big"))
        _write(answers, _answer(handler, data, settings["answer_bytes"]))


def _answer(handler: Any, data: bytes, limit_bytes: int) -> dict[str, Any]:
    try:
        cpu_s, request = json.loads(data.decode("utf-8", "surrogatepass"))
        _limit_cpu(cpu_s)
        answer: dict[str, Any] = handler.handle(request, limit_bytes)
    except MemoryError:
        return {"failed": "memory", "text": "it needs more memory than it may have"}
    return answer


def _write(stream: BinaryIO, answer: dict[str, Any]) -> None:
    data = json.dumps(answer, ensure_ascii=False).encode("utf-8", "surrogatepass")
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


def _limit(memory_bytes: int) -> None:
    """What the platform can refuse to this process; Windows has none of it."""
    with contextlib.suppress(ImportError):
        import resource

        for what, most in (
            (resource.RLIMIT_AS, memory_bytes),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_FSIZE, 0),
        ):
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(what, (most, most))


def _limit_cpu(more_s: int) -> None:
    """So that it does not run on where the process that would end it was killed."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + more_s, hard))


if __name__ == "__main__":
    main()

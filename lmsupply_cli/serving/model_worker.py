"""The process of a model: reads frames from standard input and writes frames to standard output.

What libraries print goes to standard error. It ends when its parent is gone.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from queue import SimpleQueue
from traceback import print_exc
from typing import IO

from lmsupply_cli.errors import EngineError, LmsupplyError
from lmsupply_cli.generation.generator import TextGenerator
from lmsupply_cli.generation.load import load
from lmsupply_cli.serving.frames import Failed, Load, Ready, Reply, Request, encode, read_request
from lmsupply_cli.serving.scheduler import Scheduler, Unusable


def main() -> None:
    """Never returns."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
    requests, replies = _own_pipes()
    inbox: SimpleQueue[Request] = SimpleQueue()
    threading.Thread(target=_read, args=(requests, inbox), daemon=True).start()
    code = 1
    try:
        code = serve(inbox, replies)
    except OSError:  # the parent is gone
        pass
    except BaseException:
        print_exc()
    sys.stderr.flush()
    os._exit(code)  # the reader waits in a system call


def serve(inbox: SimpleQueue[Request], replies: IO[bytes]) -> int:
    """Load the model that the first frame names, and answer until it is closed. The exit code."""

    def send(frames: Sequence[Reply]) -> None:
        replies.write(b"".join(map(encode, frames)))
        replies.flush()

    first = inbox.get()
    assert isinstance(first, Load)
    generator = _loaded(first)
    if isinstance(generator, Failed):
        send([generator])
        return 0
    send([Ready(generator.info, generator.context_tokens, generator.notices)])
    scheduler = Scheduler(generator, first.limits, inbox, send, default_thinking=first.options.enable_thinking)
    try:
        scheduler.run()
    except Unusable as error:
        print(f"the engine is unusable: {error}", file=sys.stderr)
        return 1
    generator.close()
    return 0


def _loaded(wanted: Load) -> TextGenerator | Failed:
    try:
        return load(wanted.ref, wanted.options)
    except LmsupplyError as error:
        return Failed(None, error)
    except MemoryError:
        return Failed(None, EngineError("memory ran out while the model was loaded", hint="use a smaller model"))


def _own_pipes() -> tuple[IO[bytes], IO[bytes]]:
    """The frames' pipes, out of reach of what libraries read and print."""
    requests, replies = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        for number in (requests, replies):
            msvcrt.setmode(number, os.O_BINARY)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def _read(requests: IO[bytes], inbox: SimpleQueue[Request]) -> None:
    """Until the parent is gone, which ends this process whatever it does."""
    try:
        while (frame := read_request(requests)) is not None:
            inbox.put(frame)
    finally:
        os._exit(0)


if __name__ == "__main__":
    main()

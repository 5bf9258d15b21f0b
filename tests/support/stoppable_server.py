"""A server on a scripted model, as a program of its own: it says on stdout what happens. `finishing`: answers end when the
server is stopping; else they never do."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from support.fake_models import FakeAnswer, FakeModels

from lmsupply_cli.events import Finished, GenerationEvent, TextDelta
from lmsupply_cli.server.run import ServerHooks, listen, serve, url_of
from lmsupply_cli.server.state import ServerOptions
from lmsupply_cli.serving.requests import AnswerRequest

STOPPING = asyncio.Event()


class EndlessAnswer(FakeAnswer):
    """One word, and the rest when the server is stopping."""

    async def __aiter__(self) -> AsyncIterator[GenerationEvent]:
        yield TextDelta("first")
        if sys.argv[1] != "finishing":
            await asyncio.Event().wait()
        await STOPPING.wait()
        yield TextDelta(" last")
        yield Finished("stop")

    def cancel(self) -> None:
        print("cancelled", flush=True)


class EndlessModels(FakeModels):
    async def answer(self, model: str, request: AnswerRequest, *, keep_alive_s: float | None = None) -> FakeAnswer:
        return EndlessAnswer(())

    async def start(self) -> None:
        if sys.argv[1] == "loading":
            print("loading", flush=True)
            await asyncio.Event().wait()

    async def close(self, *, grace_s: float = 30.0) -> None:
        print("closing", flush=True)

    def kill(self) -> None:
        print("killed", flush=True)


def main() -> None:
    """The last line is the signal that ended it."""
    bound = listen("127.0.0.1", 0)

    def stopping(answers: int) -> None:
        print("stopping", flush=True)
        STOPPING.set()

    hooks = ServerHooks(lambda: print(url_of(bound), flush=True), stopping)
    print(asyncio.run(serve(EndlessModels(), bound, ServerOptions(), hooks=hooks)), flush=True)


if __name__ == "__main__":
    main()

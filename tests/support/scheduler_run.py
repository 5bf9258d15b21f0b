"""The scheduler of a model's process without the process: requests in, and what is said of them in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from lmsupply_cli import ChatMessage, TextGenerator
from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.events import Finished, GenerationEvent, TextDelta
from lmsupply_cli.generation.completion import Completion, complete
from lmsupply_cli.serving.frames import Accepted, Ask, Cancel, Close, Failed, Happened, WorkerLimits
from lmsupply_cli.serving.requests import AnswerRequest
from lmsupply_cli.serving.scheduler import Scheduler

React = Callable[[Any], object]


def chat(*texts: str, **more: Any) -> AnswerRequest:
    """A user's words and the answers to them in turns."""
    makes = (ChatMessage.user, ChatMessage.assistant)
    return AnswerRequest(messages=tuple(makes[at % 2](text) for at, text in enumerate(texts)), **more)


@dataclass
class Said:
    """What came, in order, and by request."""

    frames: list[Any] = field(default_factory=list)
    accepted: dict[int, int] = field(default_factory=dict)
    events: dict[int, list[GenerationEvent]] = field(default_factory=dict)
    failed: dict[int, LmsupplyError] = field(default_factory=dict)

    def take(self, frame: Any) -> None:
        self.frames.append(frame)
        if isinstance(frame, Accepted):
            assert frame.id not in self.accepted
            self.accepted[frame.id] = frame.prompt_tokens
        elif isinstance(frame, Happened):
            assert frame.id in self.accepted, "accepted comes first"
            assert frame.id not in self.ended, "nothing comes after the end"
            self.events.setdefault(frame.id, []).extend(frame.events)
        elif isinstance(frame, Failed):
            assert frame.id is not None
            assert frame.id not in self.ended
            self.failed[frame.id] = frame.error

    @property
    def ended(self) -> set[int]:
        whole = {id for id, events in self.events.items() if events and isinstance(events[-1], Finished)}
        return whole | self.failed.keys()

    def answer(self, id: int) -> Completion:
        return complete(iter(self.events[id]))

    def order(self) -> list[int]:
        """Who got a piece of text, in order."""
        return [
            f.id for f in self.frames if isinstance(f, Happened) and any(isinstance(e, TextDelta) for e in f.events)
        ]


class Worker:
    """A scheduler whose requests come when something is said."""

    def __init__(self, generator: TextGenerator, clock: Callable[[], float] = lambda: 0.0, **limits: Any) -> None:
        self.inbox: SimpleQueue[Any] = SimpleQueue()
        self.said, self.react, self.left = Said(), lambda _: None, set[int]()
        self.scheduler = Scheduler(generator, WorkerLimits(**limits), self.inbox, self.send, clock=clock)

    def send(self, frames: Sequence[Any]) -> None:
        for frame in frames:
            self.said.take(frame)
            self.react(frame)
        if self.left <= self.said.ended:
            self.inbox.put(Close())

    def ask(self, id: int, request: AnswerRequest) -> None:
        self.left.add(id)
        self.inbox.put(Ask(id, request))

    def cancel(self, id: int, *, waits: bool = False) -> None:
        """`waits`: nothing more is said of it."""
        self.inbox.put(Cancel(id))
        if waits:
            self.left.discard(id)

    def run(self, react: React | None = None) -> Said:
        self.react = react or (lambda _: None)  # type: ignore[assignment]
        self.scheduler.run()
        assert not self.scheduler._cancels, "nothing is left of what is over"
        return self.said


def answers(generator: TextGenerator, *requests: AnswerRequest, react: React | None = None, **limits: Any) -> Said:
    """Requests that are there together, with the numbers 1, 2, …"""
    worker = Worker(generator, **limits)
    for id, request in enumerate(requests, start=1):
        worker.ask(id, request)
    return worker.run(react)


def in_turn(generator: TextGenerator, *requests: AnswerRequest, **limits: Any) -> Said:
    """Each is asked when the one before it has been answered."""
    worker = Worker(generator, **limits)
    worker.left = set(range(1, len(requests) + 1))
    worker.inbox.put(Ask(1, requests[0]))

    def react(frame: Any) -> None:
        if isinstance(frame, Happened) and isinstance(frame.events[-1], Finished) and frame.id < len(requests):
            worker.inbox.put(Ask(frame.id + 1, requests[frame.id]))

    return worker.run(react)

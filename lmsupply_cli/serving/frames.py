"""What a program and the process of a model say to each other: pickled values, each after its length.

Both ends are ours and of one version, so pickles are safe here; nothing that comes from a network is a frame.
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import dataclass
from typing import IO, Protocol

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.events import GenerationEvent, Notice
from lmsupply_cli.generation.completion import ModelInfo
from lmsupply_cli.loading.options import LoadOptions
from lmsupply_cli.serving.requests import AnswerRequest

_LENGTH = struct.Struct("<I")
_MOST = 1 << 31  # bytes of a frame; requests are limited before they get here


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """`queue`: requests that may wait; `slots`: answers, or batches of answers, that take turns; `cache_bytes`: of the KV
    caches of all conversations, None for a quarter of the memory that is free once the model is loaded;
    `queue_timeout_s`: how long a request may wait, None for as long as it takes."""

    queue: int = 64
    slots: int = 4
    cache_bytes: int | None = None
    queue_timeout_s: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """The first frame of the parent."""

    ref: str
    options: LoadOptions
    limits: WorkerLimits


@dataclass(frozen=True, slots=True)
class Ask:
    """Answer `request`; `id` names it in every frame that follows."""

    id: int
    request: AnswerRequest


@dataclass(frozen=True, slots=True)
class Count:
    """Count the tokens of its prompt."""

    id: int
    request: AnswerRequest


@dataclass(frozen=True, slots=True)
class Cancel:
    """End an answer, or take it out of the queue."""

    id: int


@dataclass(frozen=True, slots=True)
class Close:
    """Refuse what waits, finish what runs, and end."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded."""

    info: ModelInfo
    context_tokens: int
    notices: tuple[Notice, ...]


@dataclass(frozen=True, slots=True)
class Accepted:
    """The prompt is made and the answer begins."""

    id: int
    prompt_tokens: int
    notices: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class Counted:
    """The answer to Count."""

    id: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Happened:
    """Events of an answer, in order."""

    id: int
    events: tuple[GenerationEvent, ...]


@dataclass(frozen=True, slots=True)
class Failed:
    """The end of a request; `id` None: of the load."""

    id: int | None
    error: LmsupplyError


Request = Load | Ask | Count | Cancel | Close
Reply = Ready | Accepted | Counted | Happened | Failed


class ReadsExactly(Protocol):
    """An asyncio.StreamReader."""

    async def readexactly(self, n: int) -> bytes:
        """Raises IncompleteReadError at the end."""


def encode(frame: Request | Reply) -> bytes:
    """As bytes with their length in front. Raises ValueError for a frame beyond 2 GiB."""
    data = pickle.dumps(frame, protocol=pickle.HIGHEST_PROTOCOL)
    if len(data) >= _MOST:
        raise ValueError("a frame beyond 2 GiB")
    return _LENGTH.pack(len(data)) + data


async def read_reply(stream: ReadsExactly) -> Reply:
    """The next frame of the child. Raises IncompleteReadError at the end."""
    (length,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    reply: Reply = pickle.loads(await stream.readexactly(length))
    return reply


def read_request(stream: IO[bytes]) -> Request | None:
    """The next frame of the parent; None when it is gone."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    data = stream.read(length)
    if len(data) < length:
        return None
    request: Request = pickle.loads(data)
    return request

"""What every endpoint of one server shares."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.requests import Request

from lmsupply_cli.errors import LmsupplyError
from lmsupply_cli.server.errors import as_api_error
from lmsupply_cli.server.metrics import Metrics
from lmsupply_cli.server.reading import BodyReader
from lmsupply_cli.serving.requests import Models, ServedModel


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """How a server is set up. `api_keys`: any of them opens it, none are needed if empty; `hosts`: names in the Host header
    beside loopback; `cors`: origins that browsers may call from; `body_bytes`: of one request; `ping_s`: seconds between
    the comments that keep a stream alive, 0 for none; `token`: opens the endpoints for lmsupply's own commands, which are
    closed without one."""

    api_keys: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    cors: tuple[str, ...] = ()
    body_bytes: int = 32_000_000
    ping_s: float = 15.0
    token: str = ""
    log_requests: bool = False
    log_prompts: bool = False


@dataclass(slots=True)
class ServerState:
    """`clock`: seconds since the epoch, for `created` in answers; `metrics`: counted since the start; `reader`: of large
    bodies."""

    models: Models
    options: ServerOptions = field(default_factory=ServerOptions)
    clock: Callable[[], float] = time.time
    metrics: Metrics = field(init=False)
    reader: BodyReader = field(default_factory=BodyReader)

    def __post_init__(self) -> None:
        self.metrics = Metrics(self.models)

    def find(self, model: str) -> ServedModel:
        """Raises ApiError for a model that is not here."""
        try:
            return self.models.find(model)
        except LmsupplyError as error:
            raise as_api_error(error, param="model") from error

    @classmethod
    def of(cls, request: Request) -> ServerState:
        """The state of the application that a request came to."""
        found = request.app.state.server
        assert isinstance(found, cls)
        return found

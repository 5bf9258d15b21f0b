"""What goes wrong with a request, as a status and the words of each API."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from lmsupply_cli.errors import (
    ContextOverflow,
    DoesNotFit,
    LicenseNotAccepted,
    LmsupplyError,
    ModelNotFound,
    ModelNotInstalled,
    QueueFull,
    QueueTimeout,
    UsageError,
    WorkerDied,
)

RETRY_AFTER_S = 5
# of OpenAI's API → of Anthropic's
_ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
}


@dataclass(slots=True)
class ApiError(Exception):
    """An answer with an error status. `param`: the field that is wrong, as a path such as `messages[0].content`."""

    status: int
    message: str
    code: str = ""
    param: str = ""
    retry_after_s: int = 0

    def __post_init__(self) -> None:
        Exception.__init__(self, self.message)

    @property
    def type(self) -> str:
        """OpenAI's word for the kind of error."""
        if self.status == 429:
            return "rate_limit_error"
        return "invalid_request_error" if self.status < 500 else "server_error"

    def openai(self) -> dict[str, Any]:
        """As OpenAI's API says it."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param or None,
                "code": self.code or None,
            }
        }

    def anthropic(self) -> dict[str, Any]:
        """As Anthropic's API says it."""
        kind = _ANTHROPIC_TYPES.get(self.status, "invalid_request_error" if self.status < 500 else "api_error")
        return {"type": "error", "error": {"type": kind, "message": self.message}}

    def ollama(self) -> dict[str, Any]:
        """As Ollama's API says it."""
        return {"error": self.message}

    @property
    def headers(self) -> dict[str, str]:
        """Beside those of every answer."""
        return {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else {}


def bad_field(param: str, message: str, *, code: str = "") -> ApiError:
    """A field that is wrong or unsupported. The message names it: not every API has a place for it."""
    return ApiError(400, _naming(param, message), code or "invalid_value", param)


def _naming(param: str, message: str) -> str:
    return message if param in message else f"{param}: {message}"


_STATUS: tuple[tuple[type[LmsupplyError], int, str], ...] = (
    (ContextOverflow, 400, "context_length_exceeded"),
    (UsageError, 400, "invalid_value"),
    (ModelNotFound, 404, "model_not_found"),
    (ModelNotInstalled, 404, "model_not_found"),
    (LicenseNotAccepted, 403, "license_not_accepted"),
    (QueueFull, 429, "queue_full"),
    (QueueTimeout, 503, "queue_timeout"),
    (DoesNotFit, 503, "does_not_fit"),
    (WorkerDied, 502, "worker_died"),
)


def as_api_error(error: LmsupplyError, *, param: str = "", names: Mapping[str, str] = MappingProxyType({})) -> ApiError:
    """The status and code of an error of the library; its hint belongs to the message. `param`: the field, where the error
    does not know it; `names`: the API's field by the library's parameter, where they differ."""
    text = error.message + (f" ({error.hint})" if error.hint else "")
    for ours, theirs in names.items():
        text = text.replace(f"`{ours}`", f"`{theirs}`")
    if isinstance(error, UsageError) and error.param:
        param = names.get(error.param, error.param)
    for kind, status, code in _STATUS:
        if isinstance(error, kind):
            if isinstance(error, (ModelNotFound, ModelNotInstalled)):
                param = "model"
            if kind is ContextOverflow:
                text = f"prompt is too long: {text}"  # clients look for these words, and shorten the chat
            text = _naming(param, text) if status == 400 else text
            return ApiError(status, text, code, param, RETRY_AFTER_S if status in (429, 503) else 0)
    return ApiError(500, text, error.code)

"""Parts of responses that chat completions and completions share."""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from typing import Any

from lmsupply_cli._version import __version__
from lmsupply_cli.events import FinishReason, TokenLogprob, Usage
from lmsupply_cli.server.errors import ApiError
from lmsupply_cli.serving.requests import ServedModel

_NO_CHARACTER = "\ufffd"
_REASONS = {"stop": "stop", "length": "length", "memory": "length", "tool_calls": "tool_calls"}


def new_id(prefix: str) -> str:
    """Of a response."""
    return f"{prefix}-{secrets.token_hex(12)}"


def fingerprint(model: ServedModel) -> str:
    """Answers with the same seed may differ when it does."""
    return f"fp_{__version__}_{model.digest[:12]}"


def finish_reason(reason: FinishReason) -> str:
    """In the words of the API; an answer that ran out of memory was cut, as by a limit. Raises ApiError for one that was
    cancelled: nobody but the server does that."""
    if reason not in _REASONS:
        raise ApiError(503, "the server is stopping", "stopping")
    return _REASONS[reason]


def usage_object(usages: Iterable[Usage], *, prompts: int = 1) -> dict[str, Any]:
    """Of all answers to one request. `prompts`: how many prompts they answer; the choices for one follow each other, and it
    counts once."""
    found = list(usages)
    each = max(1, len(found) // max(1, prompts))
    read = found[::each]
    prompt, completion = sum(u.prompt_tokens for u in read), sum(u.completion_tokens for u in found)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(u.cached_tokens for u in read)},
        "completion_tokens_details": {"reasoning_tokens": sum(u.reasoning_tokens for u in found)},
    }


def logprobs_object(tokens: Iterable[TokenLogprob]) -> dict[str, Any]:
    """Of a chat completion."""
    content = [_token(token) | {"top_logprobs": [_token(top) for top in token.top]} for token in tokens]
    return {"content": content, "refusal": None}


def _token(token: TokenLogprob) -> dict[str, Any]:
    return {"token": token.text, "logprob": token.logprob, "bytes": _bytes(token.text)}


def _bytes(text: str) -> list[int] | None:
    """None for a part of a character."""
    return None if _NO_CHARACTER in text else list(text.encode())

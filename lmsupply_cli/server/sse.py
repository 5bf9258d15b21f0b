"""Server-sent events, as the clients of these APIs parse them."""

from __future__ import annotations

import json
from typing import Any

PING = b": ping\n\n"
DONE = b"data: [DONE]\n\n"
CONTENT_TYPE = "text/event-stream"


def sse(data: Any, *, event: str = "") -> bytes:
    """One event: `data` as one line of JSON, after a line with the event's name if it has one."""
    line = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return (f"event: {event}\n" if event else "").encode() + b"data: " + line.encode("utf-8", "replace") + b"\n\n"

"""A server of tools, made with the official library: `python mcp_server.py [http]`. With http it prints its port."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer

server = MCPServer("things")


@server.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@server.tool()
def environment(name: str) -> str:
    """Read a variable."""
    return os.environ.get(name, "not set")


@server.tool()
def picture() -> Image:
    """Draw."""
    return Image(data=b"x" * 3000, format="png")


@server.tool()
def long(characters: int) -> str:
    """Say much."""
    return "x" * characters


@server.tool()
def fail() -> str:
    """Fail."""
    raise ValueError("it broke")


@server.tool()
def wait(path: str) -> str:
    """Never end."""
    Path(path).write_text("waits")
    time.sleep(600)
    return ""


@server.tool()
def die() -> str:
    """End the server."""
    print("last words", file=sys.stderr, flush=True)
    os._exit(3)


@server.tool()
async def grow(context: Context) -> str:  # type: ignore[type-arg]
    """Offer another tool."""
    server.add_tool(lambda: "new", name="fresh", description="It is new.")
    server.remove_tool("long")
    await context.notify_tools_changed()
    return "grown"


def serve_http() -> None:
    import socket

    import uvicorn

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    app: Any = server.streamable_http_app()
    print(listener.getsockname()[1], flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])


if __name__ == "__main__":
    serve_http() if "http" in sys.argv else server.run()

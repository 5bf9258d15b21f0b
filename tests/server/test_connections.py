"""Connections: what a socket is set up for, and clients that do not behave."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from lmsupply_cli.server.run import listen


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_what_is_written_is_sent_at_once(host: str) -> None:
    """With Nagle's algorithm, every second write waits for the client's delayed acknowledgement: 40 ms."""

    async def without_delay() -> bool:
        found: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            own = writer.get_extra_info("socket")
            found.set_result(bool(own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
            writer.close()

        with contextlib.closing(listen(host, 0)) as bound:
            server = await asyncio.start_server(accepted, sock=bound)
            async with server:
                _, writer = await asyncio.open_connection(*bound.getsockname()[:2])
                try:
                    return await found
                finally:
                    writer.close()
                    await writer.wait_closed()

    assert asyncio.run(without_delay())

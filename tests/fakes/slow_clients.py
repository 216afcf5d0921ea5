"""Clients that hold a connection and do as little as they can with it, many from one process.

Each is an asyncio connection that says its first bytes and then, if asked to, one more byte now and
then, and reads nothing. `gone` counts those that the server has ended.
"""

import asyncio
import socket
import ssl
from types import TracebackType
from typing import Self


class SlowClients:
    """`async with` it. Owns: the sockets."""

    def __init__(self, port: int, *, context: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._context = context
        self._writers: list[asyncio.StreamWriter] = []
        self._sockets: list[socket.socket] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers:
            writer.transport.abort()
        for sock in self._sockets:
            sock.close()

    async def connect(self, count: int, data: bytes, *, half_close: bool = False) -> None:
        """So many that say this and nothing more."""
        for _ in range(count):
            _, writer = await asyncio.open_connection("127.0.0.1", self._port, ssl=self._context)
            writer.write(data)
            if half_close:
                writer.write_eof()
            self._writers.append(writer)

    async def deaf(self, count: int, data: bytes) -> None:
        """So many that say this and take nothing: their receive buffers are as small as can be."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            sock = socket.socket()
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            sock.settimeout(0)
            self._sockets.append(sock)
            await loop.sock_connect(sock, ("127.0.0.1", self._port))
            await loop.sock_sendall(sock, data)

    def drip(self, data: bytes = b"x") -> None:
        """One byte more from each that is still there."""
        for writer in self._writers:
            if not writer.transport.is_closing():
                writer.write(data)

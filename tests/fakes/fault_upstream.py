"""An HTTP server that does what it is told, good or bad, and remembers what it was sent."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aiohttp import WSMsgType, web

Act = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class FaultUpstream:
    """`async with` it. Without a script it tells what it was sent; `script` is used up in order."""

    def __init__(self, name: str = "up") -> None:
        self.name = name
        self.seen: list[Seen] = []
        self.script: list[Act] = []
        self.always: Act | None = None
        self.release = asyncio.Event()
        self._runner = web.ServerRunner(web.Server(self._handle), shutdown_timeout=0.2)
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release.set()
        await self._runner.cleanup()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        assert isinstance(request, web.BaseRequest)
        body = b""
        if request.headers.get("Upgrade", "").lower() != "websocket":
            body = await request.read()
        headers: dict[str, str] = {}
        for name, value in request.headers.items():
            low = name.lower()
            headers[low] = f"{headers[low]}, {value}" if low in headers else value
        self.seen.append(Seen(request.method, request.path_qs, headers, body))
        act = self.script.pop(0) if self.script else self.always
        if act is not None:
            return await act(request)  # type: ignore[arg-type]
        said = {
            "by": self.name,
            "method": request.method,
            "path": request.path_qs,
            "headers": headers,
            "body": body.decode(errors="replace"),
            "count": len(self.seen),
        }
        return web.json_response(said)

    # What may stand in a script.

    def status(self, status: int, text: str = "", **headers: str) -> Act:
        """Answers with this status."""

        async def act(_request: web.Request) -> web.StreamResponse:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return web.Response(status=status, text=text, headers=named)

        return act

    def json(self, value: object, **headers: str) -> Act:
        """Answers with this JSON."""

        async def act(_request: web.Request) -> web.StreamResponse:
            named = {name.replace("_", "-"): text for name, text in headers.items()}
            return web.json_response(value, headers=named)

        return act

    async def cut(self, request: web.Request) -> web.StreamResponse:
        """Ends the connection without an answer."""
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def hang(self, _request: web.Request) -> web.StreamResponse:
        """Says nothing until it is released."""
        await self.release.wait()
        return web.json_response({"by": self.name, "late": True})

    async def half(self, request: web.Request) -> web.StreamResponse:
        """Ends the connection in the midst of its answer."""
        response = web.StreamResponse(headers={"Content-Length": "100000"})
        await response.prepare(request)
        await response.write(b"x" * 1_000)
        assert request.transport is not None
        request.transport.abort()
        return response

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A stream of events: one now, one when it is released."""
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await self.release.wait()
        await response.write(b"data: two\n\n")
        return response

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """A WebSocket that answers each message with it, and ends when told "bye"."""
        socket = web.WebSocketResponse(protocols=("chat.v2", "chat.v1"))
        await socket.prepare(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT and message.data == "bye":
                await socket.close(code=4_001, message=b"as told")
            elif message.type is WSMsgType.TEXT:
                await socket.send_str(json.dumps({"by": self.name, "said": message.data}))
            elif message.type is WSMsgType.BINARY:
                await socket.send_bytes(message.data[::-1])
        return socket

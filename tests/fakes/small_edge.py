"""WHIP and WHEP over the real packet plane in one process: no supervisor, no links, no HLS.

For tests of clients and of the plane; what edge does about access, ETags and problems is not here.
"""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from media._native import Sfu
from media.messages import Grant, StreamChanged
from media.plane import Plane
from media.streams import Streams
from media.webrtc_settings import WebrtcSettings
from ops.errors import NexusError, Unavailable
from tests.fakes.writer import FakeWriter

GRANT = Grant("tester", ("publish", "read"))
TICK_SECONDS = 0.05


class SmallEdge:
    """Enter it to serve on loopback. `stop_media` and `start_media` replace the packet plane."""

    def __init__(self, root: Path, *, workers: int = 2) -> None:
        self._root = root
        self._workers = workers
        self._sockets: list[socket.socket] = []
        self._runner = web.AppRunner(self._app())
        self._ticks: asyncio.TimerHandle | None = None
        self.told: list[StreamChanged] = []
        self.writers: list[FakeWriter] = []
        self.requests: list[tuple[str, str]] = []
        self.base = ""

    async def __aenter__(self) -> Self:
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base = f"http://{host}:{port}"
        await self.start_media()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop_media()
        await self._runner.cleanup()

    async def start_media(self) -> None:
        for _ in range(self._workers):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            sock.setblocking(False)  # noqa: FBT003  its only parameter
            sock.bind(("127.0.0.1", 0))
            self._sockets.append(sock)
        self.sfu = Sfu(sockets=[s.fileno() for s in self._sockets], addresses=["127.0.0.1"])
        self.plane = Plane(self.sfu)
        self.streams = Streams(
            self.plane,
            self,
            root=self._root,
            make_writer=self._writer,
            webrtc=WebrtcSettings(),
            linger_seconds=60,
        )
        self.plane.listen(self.streams)
        await self.plane.__aenter__()
        self._tick()

    async def stop_media(self) -> None:
        if self._ticks is not None:
            self._ticks.cancel()
        await self.plane.__aexit__(None, None, None)
        self.streams.stop()
        for sock in self._sockets:
            sock.close()
        self._sockets.clear()

    async def kill_media(self) -> None:
        """Ends the packet plane without a word to its peers, as a killed process does."""
        for sock in self._sockets:
            sock.connect(("127.0.0.1", 9))
            sock.shutdown(socket.SHUT_RDWR)
        await self.stop_media()

    def stream_changed(self, changed: StreamChanged) -> None:
        self.told.append(changed)

    def hls_changed(self, stream: str) -> None:
        """Nobody waits for HLS here."""

    @property
    def live(self) -> bool:
        return any(changed.state == "live" for changed in self.streams.public())

    @property
    def publisher(self) -> str:
        """Session of the one publisher on air, or empty."""
        return "".join(changed.publisher for changed in self.streams.public())

    def count(self, kind: str) -> int:
        """Requests so far."""
        return sum(request[0] == kind for request in self.requests)

    def _writer(self, stream: str) -> FakeWriter:
        self.writers.append(FakeWriter(stream))
        return self.writers[-1]

    def _tick(self) -> None:
        self.streams.tick()
        self._ticks = asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def _app(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/{kind:whip|whep}/{stream}", self._join)
        app.router.add_patch("/{kind:whip|whep}/{stream}/{session}", self._patch)
        app.router.add_delete("/{kind:whip|whep}/{stream}/{session}", self._delete)
        app.router.add_get("/api/v1/streams/{stream}", self._show)
        return app

    async def _join(self, request: web.Request) -> web.Response:
        kind, stream = request.match_info["kind"], request.match_info["stream"]
        self.requests.append(("POST", request.path))
        join = self.streams.publish if kind == "whip" else self.streams.play
        try:
            session, answer = await join(stream, offer=await request.text(), grant=GRANT)
        except NexusError as error:
            status = 503 if isinstance(error, Unavailable) else 400
            return web.Response(status=status, text=str(error))
        return web.Response(
            status=201,
            text=answer.sdp,
            content_type="application/sdp",
            headers={"Location": f"/{kind}/{stream}/{session.id}", "ETag": f'"{session.etag}"'},
        )

    async def _patch(self, request: web.Request) -> web.Response:
        self.requests.append(("PATCH", await request.text()))
        known = self.streams.sessions.find(request.match_info["session"])
        return web.Response(status=204 if known else 404)

    async def _delete(self, request: web.Request) -> web.Response:
        self.requests.append(("DELETE", request.path))
        return self._act(lambda: self.streams.close(request.match_info["session"]))

    async def _show(self, request: web.Request) -> web.Response:
        self.requests.append(("GET", request.path))
        for changed in self.streams.public():
            if changed.stream == request.match_info["stream"]:
                return web.json_response({"state": changed.state})
        return web.Response(status=404)

    def _act(self, act: Callable[[], None]) -> web.Response:
        try:
            act()
        except NexusError:
            return web.Response(status=404)
        return web.Response(status=200)

"""A small server for tests of the pages: the pages as built, a list of streams that tests set,
and WHIP and WHEP by aiortc. No HLS: the end-to-end tests have the real thing.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any
from uuid import uuid4

import aioice.ice
import av
import numpy as np
from aiohttp import web
from aiortc import RTCPeerConnection, RTCSessionDescription
from aiortc.contrib.media import MediaBlackhole
from aiortc.mediastreams import AudioStreamTrack, VideoStreamTrack

from edge.pages import Pages

PAGES = {
    "/": "index.html",
    "/live": "live.html",
    "/watch/{stream}": "watch.html",
    "/embed/{stream}": "embed.html",
}
CLOCK_RATE = 90_000


class MovingPicture(VideoStreamTrack):
    """A bar that moves over grey."""

    def __init__(self) -> None:
        super().__init__()
        self._number = 0

    async def recv(self) -> av.VideoFrame:
        timestamp, base = await self.next_timestamp()
        picture = np.full((360, 640, 3), 52, np.uint8)
        picture[:, :, 2] = np.linspace(40, 120, 640, dtype=np.uint8)
        left = (self._number * 6) % 560
        picture[120:240, left : left + 80] = (255, 133, 98)
        self._number += 1
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = timestamp, Fraction(1, CLOCK_RATE) if base is None else base
        return frame


def stream(name: str, **changes: Any) -> dict[str, Any]:
    """What the API says of a stream."""
    return {
        "stream": name,
        "state": "live",
        "since_unix": time.time() - 754,
        "video": "H264",
        "audio": "opus",
        "width": 1280,
        "height": 720,
        "hls": True,
        "hls_reason": "",
        "viewers_webrtc": 3,
        "viewers_hls": 41,
        "bits_per_second": 1_540_000,
        "keyframe_age_ms": 400,
        "lost": 0,
        **changes,
    }


class PagesServer:
    """Runs in a thread of its own, so that a test can drive a browser meanwhile."""

    def __init__(self) -> None:
        self.streams: dict[str, dict[str, Any]] = {}
        self.key = ""
        self.accepts = True
        self.requests: list[tuple[str, str]] = []
        self.offers: list[str] = []
        self.url = ""
        self._pages = Pages()
        self._peers: dict[str, RTCPeerConnection] = {}
        self._sinks: dict[str, MediaBlackhole] = {}
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._ended = asyncio.Event()
        self._up = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),))

    def start(self) -> None:
        self._thread.start()
        assert self._up.wait(10)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(10)
        self._loop.close()

    def set(self, *streams: dict[str, Any]) -> None:
        """From now on these are there; the browsers are told."""
        self.streams = {one["stream"]: one for one in streams}
        self._loop.call_soon_threadsafe(self._changed.set)

    def drop_peers(self) -> None:
        """Forgets every session without a word, as a server that was killed does."""
        asyncio.run_coroutine_threadsafe(self._close_all(), self._loop).result(10)

    async def _close_all(self) -> None:
        for session in list(self._peers):
            await self._forget(session)

    async def _forget(self, session: str) -> bool:
        sink, peer = self._sinks.pop(session, None), self._peers.pop(session, None)
        if sink is not None:
            await sink.stop()
        if peer is not None:
            await peer.close()
        return peer is not None

    async def _run(self) -> None:
        app = web.Application(middlewares=[self._remember])
        for path in PAGES:
            app.router.add_get(path, self._pages.page)
        app.router.add_get("/assets/{name}", self._asset)
        app.router.add_get("/api/v1/streams", self._list)
        app.router.add_get("/api/events", self._events)
        app.router.add_get("/livez", self._alive)
        app.router.add_get("/hls/{rest:.+}", self._no_hls)
        app.router.add_post("/{kind:whip|whep}/{stream}", self._open)
        app.router.add_patch("/{kind:whip|whep}/{stream}/{session}", self._trickle)
        app.router.add_delete("/{kind:whip|whep}/{stream}/{session}", self._close)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._up.set()
        await self._ended.wait()
        self._changed.set()
        await self._close_all()
        await runner.cleanup()

    @web.middleware
    async def _remember(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.requests.append((request.method, request.path))
        guarded = request.path.startswith(("/api/", "/whip/", "/whep/"))
        if guarded and self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return _problem(401, "a key is needed")
        response: web.StreamResponse = await handler(request)
        return response

    async def _asset(self, request: web.Request) -> web.Response:
        static = "assets/" + request.match_info["name"]
        request.match_info["file"] = static
        return await self._pages.asset(request)

    async def _alive(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def _no_hls(self, _request: web.Request) -> web.Response:
        return _problem(404, "there is no HLS here")

    async def _list(self, _request: web.Request) -> web.Response:
        return web.json_response({"streams": list(self.streams.values()), "next": None})

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        told: set[str] = set()
        while not self._ended.is_set():
            gone = [stream(name, state="gone") for name in told - set(self.streams)]
            told = set(self.streams)
            for one in [*self.streams.values(), *gone]:
                await response.write(f"event: stream\ndata: {json.dumps(one)}\n\n".encode())
            await self._changed.wait()
            self._changed.clear()
        return response

    async def _open(self, request: web.Request) -> web.Response:
        kind, name = request.match_info["kind"], request.match_info["stream"]
        if kind == "whep" and self.streams.get(name, {}).get("state") != "live":
            return _problem(409, "nobody publishes this stream", {"Retry-After": "1"})
        if not self.accepts:
            return _problem(406, "no codec in common: the stream is H264")
        peer = RTCPeerConnection()
        session = uuid4().hex
        self._peers[session] = peer
        self.offers.append(await request.text())
        offer = RTCSessionDescription(sdp=self.offers[-1], type="offer")
        if kind == "whep":
            peer.addTrack(MovingPicture())
            peer.addTrack(AudioStreamTrack())
        else:
            sink = self._sinks[session] = MediaBlackhole()
            peer.on("track", sink.addTrack)
        await peer.setRemoteDescription(offer)
        if kind == "whip":
            await sink.start()
        await peer.setLocalDescription(await peer.createAnswer())
        return web.Response(
            status=201,
            text=peer.localDescription.sdp,
            content_type="application/sdp",
            headers={"Location": f"/{kind}/{name}/{session}", "ETag": '"1"'},
        )

    async def _trickle(self, request: web.Request) -> web.Response:
        if request.match_info["session"] not in self._peers:
            return _problem(404, "there is no such session")
        return web.Response(status=204)

    async def _close(self, request: web.Request) -> web.Response:
        if not await self._forget(request.match_info["session"]):
            return _problem(404, "there is no such session")
        return web.Response()


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> web.Response:
    return web.json_response(
        {"status": status, "title": "Refused", "detail": detail},
        status=status,
        content_type="application/problem+json",
        headers=headers,
    )


@contextmanager
def pages_server() -> Iterator[PagesServer]:
    found = aioice.ice.get_host_addresses
    aioice.ice.get_host_addresses = lambda *_a, **_k: ["127.0.0.1"]  # it leaves loopback out
    server = PagesServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
        aioice.ice.get_host_addresses = found

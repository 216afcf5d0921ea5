"""The media process: native plane, streams and the links to edge workers, put together.

Requests of edge workers are answered here, news of streams and wake-ups for HLS go out to all of
them. Nothing that a worker or a peer sends may end this process: what cannot be read is counted and
ignored, a bug with one stream ends that stream's packaging, a failed task is logged.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from media import gauges
from media._native import Sfu
from media.addresses import candidates, interface_addresses
from media.edge_link import EdgeLink
from media.errors import Overloaded
from media.gauges import Gauges
from media.hls.writer import HlsSettings, StreamWriter
from media.messages import (
    AskKeyFrame,
    Close,
    Demand,
    Done,
    EdgeMessage,
    Hello,
    ListSessions,
    MediaMessage,
    Ping,
    Play,
    Publish,
    Refused,
    Sessions,
    StreamChanged,
    Viewers,
)
from media.plane import Plane
from media.streams import Streams, answered
from media.webrtc_settings import WebrtcSettings
from ops.errors import NexusError, Unavailable
from ops.ids import secret_id
from ops.inherited import Inherited
from ops.log import get_logger
from ops.node import NodeSettings
from ops.tasks import SupervisedGroup

TICK_SECONDS: Final = 0.1
FIGURES_SECONDS: Final = 1.0
REQUESTS_MAX: Final = 1_024
"""Requests in hand at once; more are refused as overload."""
DETAIL_CHARACTERS_MAX: Final = 1_000

_LOOPBACK: Final = ("127.", "localhost:", "[::1]:")
_log = get_logger("media.server")


class Listening(Protocol):
    """The part of the HTTP settings that says where signalling comes from."""

    @property
    def listen(self) -> tuple[str, ...]: ...


class Settings(Protocol):
    """The sections that this process reads; `edge.settings.Settings` has them."""

    @property
    def node(self) -> NodeSettings: ...
    @property
    def edge(self) -> Listening: ...
    @property
    def webrtc(self) -> WebrtcSettings: ...
    @property
    def hls(self) -> HlsSettings: ...


async def run(settings: Settings, inherited: Inherited) -> None:
    """Serves until cancelled; peers are then told goodbye, within a second.

    Owns: what it starts; the inherited sockets stay the caller's. Raises ValueError for addresses
    that are none.
    """
    root = settings.node.run_dir / "hls"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    plane = Plane(_sfu(settings, inherited))
    async with SupervisedGroup("media", tasks_max=REQUESTS_MAX) as group:
        server = Server(plane, group, settings=settings, root=root)
        plane.listen(server.streams)
        server.streams.find_leftovers()
        async with plane:
            server.open(inherited.media)
            try:
                inherited.ready()
                await asyncio.Event().wait()
            finally:
                server.close()


class Server:
    """The links' other side: answers requests, passes news on to every link.

    Owns: the links' callbacks, from `open` to `close`; its tasks are `group`'s.
    """

    def __init__(
        self, plane: Plane, group: SupervisedGroup, *, settings: Settings, root: Path
    ) -> None:
        hls = settings.hls
        self._plane = plane
        self._group = group
        self._gauges = Gauges()
        self._links: list[EdgeLink] = []
        self.streams = Streams(
            plane,
            self,
            root=root,
            make_writer=lambda name: StreamWriter(root, name, hls),
            webrtc=settings.webrtc,
            linger_seconds=hls.linger_seconds,
        )

    def open(self, links: Sequence[socket.socket]) -> None:
        """Greets the edge workers and starts the clockwork."""
        boot = f"media-{secret_id()}"
        self._links = [
            EdgeLink(link, boot=boot, handle=self._handle, greeted=self._greeted) for link in links
        ]
        for link in self._links:
            link.open()
        self._group.keep("tick", self._tick)
        self._group.keep("figures", self._figures)

    def close(self) -> None:
        """Ends the links and the writers; the plane is the caller's."""
        for link in self._links:
            link.close()
        self.streams.stop()

    def stream_changed(self, changed: StreamChanged) -> None:
        """As an audience of the streams: passed on to every link."""
        for link in self._links:
            link.stream_changed(changed)

    def hls_changed(self, stream: str) -> None:
        """As an audience of the streams: passed on to every link."""
        for link in self._links:
            link.hls_changed(stream)

    def _greeted(self, link: EdgeLink) -> None:
        for changed in self.streams.public():
            link.stream_changed(changed)
        link.ready()

    def _handle(self, link: EdgeLink, message: EdgeMessage) -> None:
        match message:
            case Publish() | Play() | ListSessions():
                self._start(link, message)
            case Close(id, session, stream, reason):
                close = partial(self.streams.close, session, stream=stream, reason=reason)
                self._at_once(link, id, close)
            case Ping(id):
                link.reply(Done(id), peer=link.peer)
            case AskKeyFrame(id, stream):
                self._at_once(link, id, partial(self.streams.ask_keyframe, stream))
            case Demand(stream):
                self.streams.demand_aac(stream)
            case Viewers(counts):
                self.streams.count_hls_viewers(link, counts)
            case Hello():
                raise AssertionError("the link handles greetings")

    def _start(self, link: EdgeLink, request: Publish | Play | ListSessions) -> None:
        """Answers later, in a task of its own."""
        try:
            self._group.start("request", self._answer(link, request, link.peer))
        except Unavailable:
            detail = "too many requests are in hand"
            full = Overloaded(detail, limit="requests")
            gauges.overloaded(full.limit)
            link.reply(_refused(request.id, full), peer=link.peer)

    async def _answer(
        self, link: EdgeLink, request: Publish | Play | ListSessions, peer: str
    ) -> None:
        reply: MediaMessage = Refused(request.id, "internal", "This failed here, and was logged.")
        try:
            if isinstance(request, ListSessions):
                found, more = await self.streams.page(
                    stream=request.stream, after=request.after, limit=request.limit
                )
                reply = Sessions(request.id, found, more)
            else:
                reply = await self._join(link, request, peer)
        except Overloaded as error:
            gauges.overloaded(error.limit)
            reply = _refused(request.id, error)
        except NexusError as error:
            reply = _refused(request.id, error)
        finally:
            link.reply(reply, peer=peer)

    async def _join(self, link: EdgeLink, request: Publish | Play, peer: str) -> MediaMessage:
        join = self.streams.publish if isinstance(request, Publish) else self.streams.play
        session, answer = await join(
            request.stream, offer=request.offer, grant=request.grant, asked_at=request.asked_at
        )
        if link.peer != peer:
            # Whoever asked has died: nobody will learn the session's address.
            self.streams.close(session.id, reason="nobody waits for it")
        return answered(request.id, session, answer)

    def _at_once(self, link: EdgeLink, id: int, act: Callable[[], None]) -> None:
        try:
            act()
        except NexusError as error:
            link.reply(_refused(id, error), peer=link.peer)
        else:
            link.reply(Done(id), peer=link.peer)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            self.streams.tick()

    async def _figures(self) -> None:
        while True:
            await asyncio.sleep(FIGURES_SECONDS)
            await self.streams.renew()
            workers = await self._plane.worker_figures()
            self._gauges.show(workers=workers, streams=self.streams.reports())


def _refused(id: int, error: NexusError) -> Refused:
    after = error.retry_after_seconds if isinstance(error, Unavailable) else 0
    return Refused(id, error.code, error.message[:DETAIL_CHARACTERS_MAX], after)


def _sfu(settings: Settings, inherited: Inherited) -> Sfu:
    webrtc = settings.webrtc
    offered = candidates(
        bound=inherited.udp[0].getsockname()[0],
        given=webrtc.addresses,
        found=interface_addresses() if webrtc.discover else (),
        ipv6=webrtc.ipv6,
        loopback_first=all(listen.startswith(_LOOPBACK) for listen in settings.edge.listen),
    )
    _log.info("addresses offered", addresses=offered)
    return Sfu(
        sockets=[sock.fileno() for sock in inherited.udp],
        addresses=offered,
        gso=webrtc.gso,
        hold_us=webrtc.hold_us,
        gop_bytes_max=webrtc.gop_bytes_max,
        sessions_max=webrtc.sessions_max,
        silence_ms=webrtc.silence_ms,
        handshake_ms=webrtc.handshake_ms,
        handshakes_max=webrtc.handshakes_max,
        handshakes_per_address_max=webrtc.handshakes_per_address_max,
        sessions_per_address_max=webrtc.sessions_per_address_max,
        early_bytes_max=webrtc.early_bytes_max,
        publisher_packets_per_second_max=webrtc.publisher_packets_per_second_max,
        publisher_bits_per_second_max=webrtc.publisher_bits_per_second_max,
        feedback_per_second_max=webrtc.feedback_per_second_max,
        resends_per_second_max=webrtc.resends_per_second_max,
        keyframes_per_minute_max=webrtc.keyframes_per_minute_max,
    )

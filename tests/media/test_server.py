"""The media process's coroutine, with real sockets, packets and files; edge's own link asks it."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aioice.ice
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpSender, RTCSessionDescription

from edge.demo.settings import DemoSettings
from edge.demo.tracks import PictureTrack, Show, ToneTrack
from edge.media_link import MediaLink
from edge.settings import Settings
from media._native import Swarm
from media.hls.shelf import Reply, Shelf
from media.hls.writer import HlsSettings
from media.messages import Grant, StreamChanged
from media.server import run
from media.webrtc_settings import WebrtcSettings
from ops import metrics
from ops.errors import Rejected, Unavailable
from ops.inherited import Inherited
from ops.listeners import link as link_pair
from ops.node import NodeSettings

GRANT = Grant("tester", ("publish", "read"))
DEMO = DemoSettings(width=640, height=360, bit_rate=500_000, gop_ms=500)


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  polls with a deadline
            await asyncio.sleep(0.01)


@dataclass
class Node:
    """One media process's coroutine with one edge worker's link."""

    run_dir: Path
    sockets: list[socket.socket] = field(default_factory=list)
    told: list[StreamChanged] = field(default_factory=list)
    woken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.edge_end, self.media_end = link_pair()
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        udp.setblocking(False)  # noqa: FBT003  its only parameter
        udp.bind(("127.0.0.1", 0))
        self.sockets = [self.edge_end, self.media_end, udp]
        self.settings = replace(
            Settings(),
            node=NodeSettings(run_dir=self.run_dir),
            webrtc=WebrtcSettings(listen="127.0.0.1", port=0, workers=1),
            hls=HlsSettings(segment_ms=1_000),
        )
        self.link = MediaLink(self.edge_end, on_hls=self.woken.append, on_stream=self.told.append)

    @asynccontextmanager
    async def media(self) -> AsyncIterator[None]:
        """Runs `media.server.run` meanwhile; stopping it is measured."""
        inherited = Inherited(media=[self.media_end], udp=[self.sockets[2]])
        task = asyncio.get_running_loop().create_task(run(self.settings, inherited))
        try:
            yield
        finally:
            began = time.monotonic()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert time.monotonic() - began < 1.0

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()


@asynccontextmanager
async def publisher(node: Node, stream: str) -> AsyncIterator[tuple[RTCPeerConnection, str]]:
    """An aiortc publisher, signalled over the link."""
    show = Show(DEMO)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        connection.addTransceiver(ToneTrack(show), direction="sendonly")
        video = connection.addTransceiver(PictureTrack(show), direction="sendonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        video.setCodecPreferences([c for c in codecs if c.mimeType in {"video/H264", "video/rtx"}])
        await connection.setLocalDescription(await connection.createOffer())
        offer = connection.localDescription.sdp
        answer = await node.link.publish(stream, offer=offer, grant=GRANT)
        await connection.setRemoteDescription(RTCSessionDescription(answer.sdp, "answer"))
        yield connection, answer.session
    finally:
        await connection.close()
        show.close()


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **_: ["127.0.0.1"])
    made = Node(tmp_path)
    yield made
    made.close()


def state(node: Node, stream: str) -> str:
    changed = node.link.streams.get(stream)
    return changed.state if changed else ""


async def test_refusals_have_their_codes(node: Node) -> None:
    async with node.media(), node.link:
        with pytest.raises(Rejected) as malformed:
            await node.link.publish("s", offer="no sdp", grant=GRANT)
        assert malformed.value.code == "sdp.malformed"
        with pytest.raises(Unavailable) as idle:
            await node.link.play("s", offer="v=0", grant=GRANT)
        assert (idle.value.code, idle.value.retry_after_seconds) == ("stream.not_live", 2)
        with pytest.raises(Rejected) as unknown:
            await node.link.close("nothing")
        assert unknown.value.code == "session.unknown"
        with pytest.raises(Rejected) as nobody:
            await node.link.ask_key_frame("s")
        assert nobody.value.code == "stream.unknown"
        assert (await node.link.sessions()).sessions == ()


async def test_a_full_node_says_so_and_counts_it(node: Node) -> None:
    webrtc = replace(node.settings.webrtc, handshakes_max=1, streams_max=1, handshake_ms=100)
    node.settings = replace(node.settings, webrtc=webrtc)
    before = refusals_and_ends()
    swarm = Swarm()
    async with node.media(), node.link:
        _, offer = swarm.offer_publisher(units=[(False, 0, True, b"\xfc\xff\xfe")], loop_ms=20)
        await node.link.publish("one", offer=offer, grant=GRANT)
        for stream in ("one", "two"):
            with pytest.raises(Unavailable) as full:
                await node.link.publish(stream, offer=offer, grant=GRANT)
            assert full.value.code == "media.overloaded"
        await until(lambda: refusals_and_ends()[-1] > before[-1])
    swarm.stop()
    assert refusals_and_ends() == [count + 1 for count in before]


def refusals_and_ends() -> list[float]:
    metrics.touch()
    text = metrics.render().decode()
    return [
        float(text.partition(f"\n{series} ")[2].split()[0])
        for series in (
            'nexus_webrtc_overloaded_total{limit="handshakes"}',
            'nexus_webrtc_overloaded_total{limit="streams"}',
            'nexus_webrtc_sessions_ended_total{reason="handshake"}',
        )
    ]


async def test_a_stream_is_seen_live_packaged_and_then_waiting(node: Node) -> None:
    async with node.media(), node.link:
        async with publisher(node, "s") as (_, session):
            await until(lambda: state(node, "s") == "live")
            await until(lambda: node.woken.count("s") >= 5)
            await until(lambda: b"#EXTINF" in live_playlist(node))
            await until(lambda: node.link.streams["s"].width == 640)
            await until(lambda: node.link.streams["s"].bits_per_second > 20_000)
            (info,) = (await node.link.sessions()).sessions
            assert (info.session, info.kind, info.state) == (session, "publisher", "connected")
            assert info.packets > 0
            assert info.remote.startswith("127.0.0.1:")
            await node.link.ask_key_frame("s")
            await node.link.close(session, stream="s")
        await until(lambda: state(node, "s") == "waiting")
        assert (await node.link.sessions()).sessions == ()
    playlist = live_playlist(node)
    assert b"#EXTINF" in playlist
    assert b"#EXT-X-ENDLIST" not in playlist


async def test_a_kicked_publisher_is_gone(node: Node) -> None:
    async with node.media(), node.link, publisher(node, "s") as (_, session):
        await until(lambda: state(node, "s") == "live")
        await node.link.close(session, stream="s")
        await until(lambda: state(node, "s") == "waiting")
        with pytest.raises(Rejected):
            await node.link.close(session, stream="s")
        assert (await node.link.sessions()).sessions == ()


async def test_a_successor_goes_on_with_the_playlists(node: Node) -> None:
    async with node.link:
        async with node.media(), publisher(node, "s"):
            await until(lambda: b"#EXTINF" in live_playlist(node))
        before = live_playlist(node)
        async with node.media():
            await until(lambda: state(node, "s") == "waiting")
            async with publisher(node, "s"):
                await until(lambda: state(node, "s") == "live")
                await until(lambda: b"#EXT-X-DISCONTINUITY\n" in live_playlist(node))
    after = live_playlist(node)
    first = next(line for line in before.splitlines() if line.endswith(b".m4s"))
    assert first in after.splitlines()


async def test_a_stranger_on_the_link_is_no_harm(node: Node) -> None:
    async with node.media(), node.link:
        for garbage in (b"\x00", b"\xff" * 5_000, b"\x81\xa4type\xa7Unknown"):
            node.edge_end.send(garbage)
        with pytest.raises(Unavailable):
            await node.link.play("s", offer="v=0", grant=GRANT)


def live_playlist(node: Node) -> bytes:
    shelf = Shelf(node.run_dir / "hls", cache_bytes_max=1 << 24)
    shelf.refresh("s")
    reply = shelf.answer("s", path="v/live.m3u8", query="", now=time.time())
    return bytes(reply.body) if isinstance(reply, Reply) else b""

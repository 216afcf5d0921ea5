"""An independent WebRTC stack (aiortc) around the native plane, on loopback.

`Plane` runs one `Sfu` and collects what it tells. `Publisher` sends pictures that were encoded
beforehand, so it ignores key frame requests, as some encoders do. `Player` counts what it can
decode and remembers the RTP headers that came. `Relay` loses datagrams by a seed.
"""

import asyncio
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from fractions import Fraction
from typing import Any, NamedTuple, Self

import av
import numpy as np
from aiortc import (
    MediaStreamTrack,
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError

from media._native import Answer, Event, Sfu, Unit

PATIENCE_SECONDS = 15.0
FRAME_MS = 33


async def eventually(
    truth: Callable[[], Any], *, what: str, within: float = PATIENCE_SECONDS
) -> Any:
    """Waits until `truth()` is true, looking every 10 ms; gives what it was."""
    end = time.monotonic() + within
    while not (value := truth()):
        assert time.monotonic() < end, f"not within {within} s: {what}"
        await asyncio.sleep(0.01)
    return value


def encoded_pictures(*, seconds: int, size: tuple[int, int] = (320, 240)) -> list[bytes]:
    """H.264 pictures, Annex B, 30 a second; only the first is a key frame."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuv420p"
    encoder.time_base = Fraction(1, 30)
    encoder.framerate = Fraction(30)
    encoder.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "x264-params": "keyint=100000:scenecut=0:slices=1",
    }
    pictures = []
    noise = np.random.default_rng(1)
    base = noise.integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    for i in range(seconds * 30):
        frame = av.VideoFrame.from_ndarray(np.roll(base, i * 4, axis=1), format="rgb24")
        frame.pts = i
        pictures += [bytes(packet) for packet in encoder.encode(frame)]
    return pictures + [bytes(packet) for packet in encoder.encode(None)]


class Pictures(MediaStreamTrack):
    """A video track of ready-made pictures; starts again when they are over."""

    kind = "video"

    def __init__(self, pictures: list[bytes]) -> None:
        super().__init__()
        self._pictures = pictures
        self._next = 0
        self._start = time.monotonic()

    async def recv(self) -> av.Packet:
        due = self._start + self._next * FRAME_MS / 1000
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        packet = av.Packet(self._pictures[self._next % len(self._pictures)])
        packet.pts = packet.dts = self._next * FRAME_MS
        packet.time_base = Fraction(1, 1000)
        self._next += 1
        return packet


class Gradient(MediaStreamTrack):
    """A video track of small raw pictures, for codecs that aiortc encodes itself."""

    kind = "video"

    def __init__(self) -> None:
        super().__init__()
        self._next = 0
        self._start = time.monotonic()

    async def recv(self) -> av.VideoFrame:
        due = self._start + self._next * FRAME_MS / 1000
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        row = (np.arange(160 * 3) + self._next * 7).astype(np.uint8)
        frame = av.VideoFrame.from_ndarray(
            np.tile(row, 120).reshape(120, 160, 3).copy(), format="rgb24"
        )
        frame.pts = self._next * FRAME_MS
        frame.time_base = Fraction(1, 1000)
        self._next += 1
        return frame


class Tone(MediaStreamTrack):
    """An audio track, 20 ms at a time."""

    kind = "audio"

    def __init__(self) -> None:
        super().__init__()
        self._next = 0
        self._start = time.monotonic()

    async def recv(self) -> av.AudioFrame:
        due = self._start + self._next * 0.02
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        at = (np.arange(960) + self._next * 960) * (440 * 2 * np.pi / 48_000)
        samples = (np.sin(at) * 8_000).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
        frame.sample_rate = 48_000
        frame.pts = self._next * 960
        frame.time_base = Fraction(1, 48_000)
        self._next += 1
        return frame


class Plane:
    """One `Sfu` on one or more loopback sockets."""

    def __init__(self, *, workers: int = 1, address: str = "127.0.0.1", **options: Any) -> None:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.sockets = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(workers)]
        for sock in self.sockets:
            sock.bind((address, 0))
        descriptors = [sock.fileno() for sock in self.sockets]
        self.sfu = Sfu(sockets=descriptors, addresses=[address], **options)
        self.events: list[Event] = []
        self.units: list[Unit] = []

    def __enter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self.sfu.fileno(), self.drain)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.get_running_loop().remove_reader(self.sfu.fileno())
        self.sfu.stop()
        for sock in self.sockets:
            sock.close()

    @property
    def port(self) -> int:
        return int(self.sockets[0].getsockname()[1])

    def drain(self) -> None:
        self.events += self.sfu.events()
        self.units += self.sfu.units()

    def happened(self, kind: str, session: int) -> list[Event]:
        """Events of that kind of that session, in order."""
        return [e for e in self.events if e.kind == kind and e.session == session]

    def stream(self, name: str) -> dict[str, Any]:
        return next(row for row in self.sfu.streams() if row["stream"] == name)

    def total(self, counter: str) -> int:
        return sum(row[counter] for row in self.sfu.stats())


class Header(NamedTuple):
    at: float
    ssrc: int
    payload_type: int
    sequence: int
    timestamp: int
    marker: bool


Change = Callable[[str], Awaitable[str]]


class Peer:
    """One aiortc connection and the session it has with the plane."""

    def __init__(self, plane: Plane, stream: str, change: Change | None = None) -> None:
        self.plane = plane
        self.stream = stream
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.session = 0
        self._change = change

    async def negotiate(self, ask: Callable[[str, str], Answer]) -> None:
        await self.pc.setLocalDescription(await self.pc.createOffer())
        answer = ask(self.stream, self.pc.localDescription.sdp)
        self.session = answer.session
        sdp = await self._change(answer.sdp) if self._change else answer.sdp
        await self.pc.setRemoteDescription(RTCSessionDescription(sdp, "answer"))

    async def connected(self) -> None:
        await eventually(
            lambda: self.plane.happened("connected", self.session), what=f"{self.stream} connects"
        )

    async def close(self) -> None:
        await self.pc.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def _codecs(name: str, *, rtx: bool = True) -> list[Any]:
    codecs = RTCRtpSender.getCapabilities("video").codecs
    wanted = {f"video/{name}", "video/rtx"} if rtx else {f"video/{name}"}
    return [codec for codec in codecs if codec.mimeType in wanted]


class Publisher(Peer):
    """Sends pictures, a tone, or both."""

    async def start(self, pictures: list[bytes] | None, *, audio: bool = True) -> Self:
        if audio:
            self.pc.addTransceiver(Tone(), direction="sendonly")
        if pictures:
            video = self.pc.addTransceiver(Pictures(pictures), direction="sendonly")
            video.setCodecPreferences(_codecs("H264"))
        await self.negotiate(self.plane.sfu.publish)
        await self.connected()
        return self

    async def start_vp8(self) -> Self:
        video = self.pc.addTransceiver(Gradient(), direction="sendonly")
        video.setCodecPreferences(_codecs("VP8"))
        await self.negotiate(self.plane.sfu.publish)
        await self.connected()
        return self


class Player(Peer):
    """Decodes what it gets."""

    def __init__(self, plane: Plane, stream: str, change: Change | None = None) -> None:
        super().__init__(plane, stream, change)
        self.frames: Counter[str] = Counter()
        self.first_frame_at: dict[str, float] = {}
        self.headers: list[Header] = []
        self._pumps: list[asyncio.Task[None]] = []

    async def start(
        self, *, video: bool = True, audio: bool = True, codec: str = "H264", rtx: bool = True
    ) -> Self:
        self.pc.on("track", self._pump)
        if audio:
            self.pc.addTransceiver("audio", direction="recvonly")
        if video:
            self.pc.addTransceiver("video", direction="recvonly").setCodecPreferences(
                _codecs(codec, rtx=rtx)
            )
        for transceiver in self.pc.getTransceivers():
            self._watch(transceiver.receiver)
        await self.negotiate(self.plane.sfu.play)
        return self

    def sequences(self, kind: str) -> list[Header]:
        """Headers of the medium's packets, retransmissions left out."""
        video = {h.payload_type for h in self.headers} - {96, 111}
        ssrcs = Counter(
            h.ssrc for h in self.headers if (h.payload_type in video) == (kind == "video")
        )
        if not ssrcs:
            return []
        most = ssrcs.most_common(1)[0][0]
        return [h for h in self.headers if h.ssrc == most]

    def _watch(self, receiver: RTCRtpReceiver) -> None:
        """aiortc hands out decoded frames: look at packets where its transport delivers."""
        deliver = receiver._handle_rtp_packet

        async def handle(packet: Any, arrival_time_ms: int) -> None:
            self.headers.append(
                Header(
                    time.monotonic(),
                    packet.ssrc,
                    packet.payload_type,
                    packet.sequence_number,
                    packet.timestamp,
                    bool(packet.marker),
                )
            )
            await deliver(packet, arrival_time_ms)

        receiver._handle_rtp_packet = handle

    def _pump(self, track: MediaStreamTrack) -> None:
        async def pump() -> None:
            while True:
                try:
                    await track.recv()
                except MediaStreamError:
                    return
                self.first_frame_at.setdefault(track.kind, time.monotonic())
                self.frames[track.kind] += 1

        self._pumps.append(asyncio.get_running_loop().create_task(pump()))

    async def close(self) -> None:
        await super().close()
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)


class _Leg(asyncio.DatagramProtocol):
    def __init__(self, relay: "Relay", *, to_server: bool) -> None:
        self.relay = relay
        self.to_server = to_server
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.relay.carry(data, addr, from_client=not self.to_server)


class Relay:
    """Stands between one client and the plane; loses media packets, never STUN or DTLS."""

    def __init__(self, port: int, *, loss: float, seed: int = 1) -> None:
        self._server = ("127.0.0.1", port)
        self._client: Any = None
        self._random = random.Random(seed)
        self.loss = loss
        self.lost = 0
        self._front: _Leg | None = None
        self._back: _Leg | None = None

    async def change(self, sdp: str) -> str:
        """The answer with our address in place of the server's."""
        loop = asyncio.get_running_loop()
        at = ("127.0.0.1", 0)
        _, self._front = await loop.create_datagram_endpoint(
            lambda: _Leg(self, to_server=False), local_addr=at
        )
        _, self._back = await loop.create_datagram_endpoint(
            lambda: _Leg(self, to_server=True), local_addr=at
        )
        assert self._front.transport is not None
        port = self._front.transport.get_extra_info("sockname")[1]
        return sdp.replace(f" 127.0.0.1 {self._server[1]} ", f" 127.0.0.1 {port} ")

    def carry(self, data: bytes, addr: Any, *, from_client: bool) -> None:
        assert self._front is not None
        assert self._back is not None
        media = 128 <= data[0] <= 191 and not 192 <= data[1] <= 223
        if media and self._random.random() < self.loss:
            self.lost += 1
            return
        if from_client:
            self._client = addr
            assert self._back.transport is not None
            self._back.transport.sendto(data, self._server)
        elif self._client is not None:
            assert self._front.transport is not None
            self._front.transport.sendto(data, self._client)

    def close(self) -> None:
        for leg in (self._front, self._back):
            if leg is not None and leg.transport is not None:
                leg.transport.close()


@asynccontextmanager
async def relay(plane: Plane, *, loss: float, seed: int = 1) -> AsyncIterator[Relay]:
    lossy = Relay(plane.port, loss=loss, seed=seed)
    try:
        yield lossy
    finally:
        lossy.close()

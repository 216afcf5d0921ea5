"""A WHEP player made of aiortc: decodes what comes, for tests that look at pictures."""

import asyncio
from types import TracebackType
from typing import Self

import aiohttp
import aioice.ice
import av
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack

FRAMES_MAX = 300


class AiortcPlayer:
    """Enter it to play; `pictures` and `sounds` fill up to a limit."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._tasks: list[asyncio.Task[None]] = []
        self._found = aioice.ice.get_host_addresses
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pictures: list[av.VideoFrame] = []
        self.sounds: list[av.AudioFrame] = []

    async def __aenter__(self) -> Self:
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # noqa: ARG005
        pc = self.connection
        pc.on("track", self._on_track)
        pc.addTransceiver("audio", direction="recvonly")
        video = pc.addTransceiver("video", direction="recvonly")
        codecs = RTCRtpSender.getCapabilities("video").codecs
        video.setCodecPreferences(
            [codec for codec in codecs if codec.mimeType in {"video/H264", "video/rtx"}]
        )
        await pc.setLocalDescription(await pc.createOffer())
        headers = {"Content-Type": "application/sdp"}
        offer = pc.localDescription.sdp
        async with (
            aiohttp.ClientSession() as http,
            http.post(self._url, data=offer, headers=headers) as answer,
        ):
            body = await answer.text()
            assert answer.status == 201, (answer.status, body)
        await pc.setRemoteDescription(RTCSessionDescription(body, "answer"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        aioice.ice.get_host_addresses = self._found
        await self.connection.close()
        await asyncio.gather(*self._tasks)

    def _on_track(self, track: MediaStreamTrack) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(self._pump(track)))

    async def _pump(self, track: MediaStreamTrack) -> None:
        frames: list[object] = self.pictures if track.kind == "video" else self.sounds
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            if len(frames) < FRAMES_MAX:
                frames.append(frame)

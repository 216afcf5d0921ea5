"""A publisher that has a session and sends nonsense over it, by aiortc.

What it sends clear is encrypted as its own media, so it gets past authentication; what it sends raw
leaves the same socket as it is.
"""

import asyncio
import random
import secrets
from typing import Any, Self

import aiohttp
import aioice.ice
import pylibsrtp
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from tests.fakes.rtc_peers import Pictures, Tone, _codecs, encoded_pictures

SEEDS_MAX = 200
CROWD_SSRC_FIRST = 0x10000000


class HostilePublisher:
    """Enter it to publish at a WHIP address; everything else is up to the caller."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._found = aioice.ice.get_host_addresses
        self._crowd = CROWD_SSRC_FIRST
        self._send_rtp: Any = None
        self._attacking = False
        self._numbers: dict[bytes, int] = {}
        self.pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.seeds: list[bytes] = []
        self.encrypted = 0
        self.raw = 0

    async def __aenter__(self) -> Self:
        aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # noqa: ARG005
        self.pc.addTransceiver(Tone(), direction="sendonly")
        pictures = encoded_pictures(seconds=1, size=(160, 96))
        video = self.pc.addTransceiver(Pictures(pictures), direction="sendonly")
        video.setCodecPreferences(_codecs("H264"))
        await self.pc.setLocalDescription(await self.pc.createOffer())
        transport = self._dtls
        self._send_rtp = transport._send_rtp
        transport._send_rtp = self._remember
        headers = {"Content-Type": "application/sdp"}
        async with (
            aiohttp.ClientSession() as http,
            http.post(self._url, data=self.pc.localDescription.sdp, headers=headers) as answer,
        ):
            body = await answer.text()
            assert answer.status == 201, (answer.status, body)
        await self.pc.setRemoteDescription(RTCSessionDescription(body, "answer"))
        return self

    async def __aexit__(self, *_: object) -> None:
        aioice.ice.get_host_addresses = self._found
        await self.pc.close()

    @property
    def _dtls(self) -> Any:
        return self.pc.getSenders()[0].transport

    async def _remember(self, data: bytes) -> None:
        if len(self.seeds) < SEEDS_MAX:
            self.seeds.append(bytes(data))
        if not self._attacking:  # then its numbers are ours
            await self._send_rtp(data)
            self._sent(data)

    async def send_clear(self, data: bytes) -> None:
        """As RTP or RTCP of ours, as far as libsrtp takes it; raw otherwise."""
        try:
            await self._send_rtp(data)
        except (pylibsrtp.Error, IndexError, ValueError):
            self.send_raw(data)
        else:
            self.encrypted += 1
            self._sent(data)

    def _sent(self, data: bytes) -> None:
        if len(data) >= 12:
            self._numbers[data[8:12]] = int.from_bytes(data[2:4])

    def numbered(self, data: bytes, jump: int = 1) -> bytes:
        """The packet with its source's next number: an older one would not be encrypted."""
        if len(data) < 12 or 192 <= data[1] <= 223:
            return data
        number = (self._numbers.get(data[8:12], 0) + jump) % 65_536
        return data[:2] + number.to_bytes(2) + data[4:]

    def send_raw(self, data: bytes) -> None:
        """From our socket to the server's, as it is."""
        pair = self._dtls.transport._connection._nominated[1]
        pair.protocol.transport.sendto(data, pair.remote_addr)
        self.raw += 1

    def nonsense(self, chance: random.Random) -> bytes:
        """A packet of a payload type that was agreed on, with something absurd in it."""
        jump = 1
        seed = bytearray(chance.choice(self.seeds))
        if len(seed) < 12 or 192 <= seed[1] <= 223:
            return bytes(seed)
        match chance.randrange(5):
            case 0:  # payload that is none, of any length
                seed[12:] = secrets.token_bytes(chance.choice((0, 1, 2, 3, 40, 1_100)))
            case 1:  # a time that is none
                seed[4:8] = chance.randbytes(4)
            case 2:  # a number that jumps
                jump = chance.choice((2, 500, 5_000, 32_767))
            case 3:  # one more source
                self._crowd += 1
                seed[8:12] = self._crowd.to_bytes(4)
            case _:  # huge parameter sets
                seed[12:] = bytes([0x67]) + chance.randbytes(1_100)
        return self.numbered(bytes(seed), jump)

    async def connected(self, seconds: float = 15.0) -> None:
        """Until media flows and there is something to mutate."""
        end = asyncio.get_running_loop().time() + seconds
        while len(self.seeds) < SEEDS_MAX // 2:
            assert asyncio.get_running_loop().time() < end, "the publisher does not connect"
            await asyncio.sleep(0.05)
        self._attacking = True

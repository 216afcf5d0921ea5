"""Publishes the demo's picture and tone over WHIP, and stays on air.

It behaves as a good encoder does: it paces itself by the clock, makes a key frame when asked, says
goodbye when it stops, and comes back with a growing pause when the server goes away. When somebody
else takes the stream over, it waits until they have left. It does not transcode and plays nothing.
"""

import asyncio
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import aioice.ice
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)

from edge.demo.settings import DemoSettings
from edge.demo.tracks import PictureTrack, Show, ToneTrack
from edge.demo.whip import Session, WhipClient
from edge.settings import Settings
from ops.errors import Rejected, Unavailable
from ops.log import get_logger
from ops.tasks import Restart

CONNECT_SECONDS_MAX: Final = 5.0
WATCH_SECONDS: Final = 0.25
SILENCE_SECONDS: Final = 1.0
"""After so long without a packet of the server's it is asked whether it still knows us."""
ASK_SECONDS: Final = 0.5
TAKEN_SECONDS: Final = 5.0
"""How often it looks whether the other publisher has left."""
PAUSES: Final = Restart(pause_seconds_first=0.1, pause_seconds_max=2.0)
"""Between attempts while the server is away; a refusal waits longer."""
REFUSED_SECONDS: Final = 5.0
_ENDED: Final = frozenset({"failed", "closed", "disconnected"})

_log = get_logger("edge.demo")


async def run(settings: Settings) -> None:
    """Publishes until cancelled; then tells the server, and returns within a second or so."""
    demo = settings.demo
    url = demo.url or own_url(settings)
    await publish(demo, url)


def own_url(settings: Settings) -> str:
    """The WHIP address of the node itself, reached as one on the same machine would."""
    listen = settings.edge.listen
    host, _, port = listen[0].rpartition(":")
    bare = host.strip("[]")
    if bare in {"", "0.0.0.0", "*"}:  # noqa: S104  compared with, not bound to
        host = "127.0.0.1"
    elif bare == "::":
        host = "[::1]"
    return f"http://{host}:{port}/whip/{settings.demo.stream}"


async def publish(demo: DemoSettings, url: str) -> None:
    """As `run`, to a given address."""
    _use_addresses(url)
    failures = 0
    async with aiohttp.ClientSession() as http:
        client = WhipClient(http, url=url, key=demo.key)
        while True:
            try:
                await _on_air(demo, client)
                failures = 1
                while await client.is_taken():
                    _log.info("somebody else is on air", url=url)
                    await asyncio.sleep(TAKEN_SECONDS)
                pause_seconds = PAUSES.pause_seconds(failures)
            except Unavailable as error:
                failures += 1
                pause_seconds = max(PAUSES.pause_seconds(failures), error.retry_after_seconds)
                _log.warning("not on air", url=url, reason=str(error), again_in=pause_seconds)
            except Rejected as error:
                pause_seconds = REFUSED_SECONDS
                _log.error("refused", url=url, reason=str(error), again_in=pause_seconds)
            await asyncio.sleep(pause_seconds)


async def _on_air(demo: DemoSettings, client: WhipClient) -> None:
    """One session, from its offer until it is lost. Raises Rejected, Unavailable."""
    async with _connection(demo) as (connection, show):
        await connection.setLocalDescription(await connection.createOffer())
        offer = connection.localDescription.sdp
        session = await client.publish(offer)
        try:
            await connection.setRemoteDescription(RTCSessionDescription(session.answer, "answer"))
            await _connected(connection)
            _log.info("on air", url=client.url)
            await _watch(connection, show, client, session)
            _log.info("off air", url=client.url, pictures=show.pictures, skipped=show.skipped)
        finally:
            await client.delete(session)


@asynccontextmanager
async def _connection(demo: DemoSettings) -> AsyncIterator[tuple[RTCPeerConnection, Show]]:
    show = Show(demo)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        connection.addTransceiver(ToneTrack(show), direction="sendonly")
        picture = PictureTrack(show)
        video = connection.addTransceiver(picture, direction="sendonly")
        video.setCodecPreferences(
            [
                codec
                for codec in RTCRtpSender.getCapabilities("video").codecs
                if codec.mimeType in {"video/H264", "video/rtx"}
            ]
        )
        # aiortc asks its own encoder for a key frame; ours is behind the track.
        vars(video.sender)["_send_keyframe"] = picture.want_keyframe
        yield connection, show
    finally:
        await connection.close()
        show.close()


async def _connected(connection: RTCPeerConnection) -> None:
    try:
        async with asyncio.timeout(CONNECT_SECONDS_MAX):
            while connection.connectionState != "connected":
                if connection.connectionState in _ENDED:
                    raise Unavailable("the connection failed", code="demo.connection")
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise Unavailable("the connection took too long", code="demo.connection") from None


async def _watch(
    connection: RTCPeerConnection, show: Show, client: WhipClient, session: Session
) -> None:
    """Returns when the session is over, for whatever reason."""
    loop = asyncio.get_running_loop()
    received, heard_at, asked_at = -1, loop.time(), 0.0
    while connection.connectionState not in _ENDED and not show.clock_stepped():
        await asyncio.sleep(WATCH_SECONDS)
        now = loop.time()
        count = await _received(connection)
        if count != received:
            received, heard_at = count, now
        elif now - heard_at >= SILENCE_SECONDS and now - asked_at >= ASK_SECONDS:
            asked_at = now
            if await client.is_gone(session, connection.localDescription.sdp):
                return


async def _received(connection: RTCPeerConnection) -> int:
    """Packets received on the one transport: sender and receiver reports, requests."""
    report = await connection.getSenders()[0].getStats()
    return sum(entry.packetsReceived for entry in report.values() if entry.type == "transport")


def _use_addresses(url: str) -> None:
    """Lets ICE use loopback when the server is there: aioice leaves it out of its candidates."""
    host = urlsplit(url).hostname or ""
    if not _is_loopback(host):
        return
    found = aioice.ice.get_host_addresses

    def addresses(use_ipv4: bool, use_ipv6: bool) -> list[str]:
        loopback = ["127.0.0.1"] * use_ipv4 + ["::1"] * (use_ipv6 and ":" in host)
        return loopback + [
            address for address in found(use_ipv4, use_ipv6) if address not in loopback
        ]

    aioice.ice.get_host_addresses = addresses


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

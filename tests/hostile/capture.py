"""Records a valid session as the fuzz targets mutate it: what aiortc and the plane said, clear.

Not a test: `scripts/in-network .venv/bin/python -m tests.hostile.capture > FILE` made
`media/native/tests/fuzz/captured.txt`, one "kind hex" a line. SRTP and SRTCP are written before
their encryption, so that a mutation can be encrypted again and gets past authentication.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import aioice.ice
from aiortc import rtcdtlstransport

from tests.fakes.rtc_peers import Plane, Player, Publisher, encoded_pictures

KEPT_PER_KIND = 40
SECONDS = 6.0


class Recorder:
    """Looks at what aiortc sends, as clear as it gets; keeps the first few of each kind."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._counts: Counter[str] = Counter()

    def take(self, kind: str, data: bytes) -> None:
        """Keeps a datagram, unless there are enough of its kind."""
        self._counts[kind] += 1
        if self._counts[kind] <= KEPT_PER_KIND:
            self.lines.append(f"{kind} {data.hex()}")

    def media(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """`RTCDtlsTransport._send_rtp`: clear RTP and RTCP."""

        async def recording(transport: Any, data: bytes) -> None:
            kind = "rtcp" if 192 <= data[1] <= 223 else f"rtp{data[1] & 127}"
            self.take(kind, bytes(data))
            await send(transport, data)

        return recording

    def datagrams(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """`aioice.Connection.send`: of what goes there, DTLS."""

        async def recording(connection: Any, data: bytes) -> None:
            if 20 <= data[0] <= 63:
                self.take("dtls", bytes(data))
            await send(connection, data)

        return recording

    def checks(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """`StunProtocol.send_stun`."""

        def recording(protocol: Any, message: Any, addr: Any) -> None:
            self.take("stun", bytes(message))
            send(protocol, message, addr)

        return recording


async def _run() -> list[str]:
    recorder = Recorder()
    dtls, ice, stun = (
        rtcdtlstransport.RTCDtlsTransport,
        aioice.ice.Connection,
        aioice.ice.StunProtocol,
    )
    dtls._send_rtp = recorder.media(dtls._send_rtp)
    ice.send = recorder.datagrams(ice.send)
    stun.send_stun = recorder.checks(stun.send_stun)
    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]  # noqa: ARG005
    with Plane() as plane:
        async with Publisher(plane, "show") as publisher, Player(plane, "show") as player:
            await publisher.start(encoded_pictures(seconds=1, size=(160, 96)))
            await asyncio.sleep(1)
            await player.start()
            await asyncio.sleep(SECONDS)
    return recorder.lines


if __name__ == "__main__":
    sys.stdout.write("\n".join(asyncio.run(_run())) + "\n")

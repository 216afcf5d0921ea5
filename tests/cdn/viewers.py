"""Low-latency viewers in a process of their own: `python -m tests.cdn.viewers ORDER`, an `Order` as
JSON; it prints a `Seen` as JSON.

Each viewer has a link and two keep-alive connections of its own: on one it asks for the playlist
of the next part, blocked until there is one, on the other for the hinted part. When each part came
is compared with when the same part came to one reference viewer who asks the origin with a key.
"""

import asyncio
import random
import sys
import time
import zlib
from dataclasses import dataclass, field
from typing import Final

import msgspec
import uvloop

from edge.play_links import LinkSecret, PlayLinks
from tests.cdn.asking import HINT
from tests.end_to_end.figures import percentile

ANSWER_SECONDS: Final = 30.0
JOIN_SECONDS: Final = 2.0
"""Viewers come spread over this time."""
SETTLED_SECONDS: Final = 1.5
"""From then on, after the last one came, it is measured how late parts are."""


class Order(msgspec.Struct, frozen=True):
    """What to do. Ports are of 127.0.0.1."""

    port: int
    viewers: int
    seconds: float
    secret: str
    origin_port: int
    key: str
    stream: str = "demo"


class Seen(msgspec.Struct):
    """What came of it."""

    playlists: int
    parts: int
    distinct_parts: int
    bytes_taken: int
    bad: dict[str, int]
    reference_requests: int
    """What the reference viewer asked of the origin itself."""
    late_ms: list[float]
    """p50, p95 and p99 of how much later than at the reference viewer a part was there."""


@dataclass(slots=True)
class _Log:
    playlists: int = 0
    parts: int = 0
    bytes_taken: int = 0
    requests: int = 0
    bad: dict[str, int] = field(default_factory=dict)
    arrived: list[tuple[tuple[int, int], float]] = field(default_factory=list)
    unpacked: dict[bytes, bytes] = field(default_factory=dict)

    def wrong(self, what: str) -> None:
        self.bad[what] = self.bad.get(what, 0) + 1


class _Connection:
    """GETs one at a time on a connection that stays."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    async def open(cls, port: int) -> "_Connection":
        return cls(*await asyncio.open_connection("127.0.0.1", port, limit=1 << 20))

    async def get(self, path: str, log: _Log, key: str = "") -> tuple[int, bytes]:
        shown = f"Authorization: Bearer {key}\r\n" if key else ""
        head = f"GET {path} HTTP/1.1\r\nHost: a\r\n{shown}Accept-Encoding: gzip\r\n\r\n"
        self._writer.write(head.encode())
        async with asyncio.timeout(ANSWER_SECONDS):
            answer = await self._reader.readuntil(b"\r\n\r\n")
            low = answer.lower()
            if b"transfer-encoding: chunked" in low:
                body = await self._chunks()
            else:
                length = int(low.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
                body = await self._reader.readexactly(length)
        log.bytes_taken += len(body)
        log.requests += 1
        if b"content-encoding: gzip" in low:
            body = _unpacked(body, log)
        return int(answer[9:12]), body

    async def _chunks(self) -> bytes:
        """A body that Varnish had begun to send before it had all of it."""
        pieces: list[bytes] = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            pieces.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(pieces)

    def close(self) -> None:
        self._writer.close()


def _unpacked(body: bytes, log: _Log) -> bytes:
    """The same playlist goes to all viewers: it is unpacked once."""
    known = log.unpacked.get(body)
    if known is None:
        if len(log.unpacked) > 100:
            log.unpacked.clear()
        known = log.unpacked[body] = zlib.decompress(body, 31)
    return known


async def _view(port: int, folder: str, until: float, log: _Log, key: str = "") -> None:
    playlists, parts = await _Connection.open(port), await _Connection.open(port)
    try:
        await parts.get(f"{folder}/index.m3u8", log, key)
        _, body = await playlists.get(f"{folder}/v/live.m3u8", log, key)
        while time.monotonic() < until:
            match = HINT.search(body)
            if match is None:
                log.wrong("no hint")
                return
            msn, number = int(match[1]), int(match[2])
            query = f"_HLS_msn={msn}&_HLS_part={number}&_HLS_skip=YES"
            part = _part(parts, folder, (msn, number), log, key)
            got, _ = await asyncio.gather(
                playlists.get(f"{folder}/v/live.m3u8?{query}", log, key), part
            )
            status, body = got
            log.playlists += 1
            if status != 200:
                log.wrong(f"playlist {status}")
                _, body = await playlists.get(f"{folder}/v/live.m3u8", log, key)
    except (OSError, EOFError, TimeoutError) as error:
        log.wrong(type(error).__name__)
    finally:
        playlists.close()
        parts.close()


async def _part(
    connection: _Connection, folder: str, name: tuple[int, int], log: _Log, key: str
) -> None:
    status, _ = await connection.get(f"{folder}/v/s{name[0]}.{name[1]}.m4s", log, key)
    log.parts += 1
    log.arrived.append((name, time.monotonic()))
    if status != 200:
        log.wrong(f"part {status}")


async def watch(order: Order) -> Seen:
    """All viewers, until the time is over."""
    log, reference = _Log(), _Log()
    links = PlayLinks((LinkSecret("k1", order.secret),), clock=time.time)
    end = int(time.time()) + 3_600
    until = time.monotonic() + JOIN_SECONDS + order.seconds
    spread = random.Random(1)

    async def one(number: int) -> None:
        path = links.make(order.stream, until_unix=end + number)
        await asyncio.sleep(spread.random() * JOIN_SECONDS)
        await _view(order.port, path.removesuffix("/index.m3u8"), until, log)

    async with asyncio.TaskGroup() as group:
        folder = f"/hls/{order.stream}"
        group.create_task(_view(order.origin_port, folder, until, reference, order.key))
        for number in range(order.viewers):
            group.create_task(one(number))
    # Not what a viewer catches up on after joining by a playlist that may be a second old.
    settled = until - order.seconds + SETTLED_SECONDS
    first = {name: at for name, at in reference.arrived if at > settled}
    late = [1_000 * (at - first[name]) for name, at in log.arrived if name in first]
    return Seen(
        playlists=log.playlists,
        parts=log.parts,
        distinct_parts=len({name for name, _ in log.arrived}),
        bytes_taken=log.bytes_taken,
        bad=log.bad | reference.bad,
        reference_requests=reference.requests,
        late_ms=[round(percentile(late, share), 1) for share in (0.5, 0.95, 0.99)] if late else [],
    )


def main() -> None:
    """Reads the order from the command line."""
    order = msgspec.json.decode(sys.argv[1], type=Order)
    seen = uvloop.run(watch(order))
    sys.stdout.buffer.write(msgspec.json.encode(seen) + b"\n")


if __name__ == "__main__":
    main()

"""Good clients' waiting times beside 500 slow ones, against those without: `make prove`."""

import asyncio
import itertools
import time
from pathlib import Path

import pytest

from tests.end_to_end.family import Family, wait_until
from tests.end_to_end.figures import percentile, say
from tests.fakes.slow_clients import SlowClients

GOOD = 10
SECONDS = 10.0
TIMES_MAX = 10.0
LEAST_MS = 1.0
"""Below this a waiting time is the machine's mood."""


def request(path: str, port: int) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()


async def good(port: int, seconds: float) -> list[float]:
    """Milliseconds from each request to its whole answer, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    paths = itertools.cycle(("/hls/demo/index.m3u8", "/livez", "/hls/demo/v/live.m3u8"))
    took = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.perf_counter()
        writer.write(request(next(paths), port))
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert b" 200 ok" in head, head
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        await reader.readexactly(length)
        took.append((time.perf_counter() - began) * 1_000)
        await asyncio.sleep(0.02)
    writer.close()
    return took


async def p99_of_all(port: int) -> float:
    rows = await asyncio.gather(*(good(port, SECONDS) for _ in range(GOOD)))
    return percentile([value for row in rows for value in row], 0.99)


@pytest.mark.prove
async def test_waiting_times_keep_their_order_of_magnitude(tmp_path: Path) -> None:
    settings = {
        "NEXUS_EDGE_WORKERS": "1",
        "NEXUS_EDGE_HEAD_SECONDS": "5",
        "NEXUS_EDGE_STALLED_SECONDS": "5",
    }
    with Family(tmp_path, demo=True, **settings) as family:
        wait_until("the demo is live", lambda: family.live("demo"), 30)
        port = family.port
        alone = await p99_of_all(port)
        async with SlowClients(port) as slow, asyncio.TaskGroup() as group:
            for data in (b"", b"GET /h", request("/livez", port) + b"G"):
                await slow.connect(150, data)
            await slow.deaf(50, request("/api/openapi.json", port) * 100)
            dripping = group.create_task(drip(slow))
            beside = await p99_of_all(port)
            dripping.cancel()
    say("good beside 500 slow clients", alone_p99_ms=alone, beside_p99_ms=beside)
    assert beside <= TIMES_MAX * max(alone, LEAST_MS)


async def drip(slow: SlowClients) -> None:
    while True:
        slow.drip()
        await asyncio.sleep(0.5)

"""Slow, silent, deaf and half-open clients: each is cut in its time, counted, and harms nobody."""

import asyncio
import re
import ssl
import time
from pathlib import Path

import pytest

from edge.http_settings import HttpSettings
from ops import metrics
from tests.edge.conftest import Running, Start, eventually
from tests.edge.test_tls import write_pair
from tests.fakes.slow_clients import SlowClients

HLS = b"GET /hls/demo/v/live.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
DESCRIBED = b"GET /api/openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
OFFER = (
    b"POST /whep/demo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
    b"Content-Length: 2000\r\n\r\nv=0\r\n"
)
IMPATIENT = HttpSettings(head_seconds=0.8, body_seconds=0.8, idle_seconds=3, stalled_seconds=1)


def cuts() -> dict[str, float]:
    """Connections that were cut so far, by reason."""
    pattern = r'^nexus_edge_connections_cut_total\{reason="(\w+)"\} ([\d.e+]+)$'
    found = re.findall(pattern, metrics.render().decode(), flags=re.MULTILINE)
    return {reason: float(value) for reason, value in found}


def since(before: dict[str, float]) -> dict[str, int]:
    """What was cut since."""
    return {
        reason: int(count - before.get(reason, 0))
        for reason, count in cuts().items()
        if count > before.get(reason, 0)
    }


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "silent"),
        (b"GET /hl", "head_slow"),
        (HLS, "idle"),
        (HLS + b"GET /hl", "head_slow"),
        (LIVE + b"GET /li", "head_slow"),
        (OFFER, "body_slow"),
    ],
    ids=["silent", "first head", "idle after hls", "head after hls", "head after aiohttp", "body"],
)
async def test_each_kind_of_slowness_is_cut_and_counted(
    start: Start, data: bytes, reason: str
) -> None:
    running: Running = await start(edge=IMPATIENT)
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    before = cuts()
    async with SlowClients(running.port) as slow:
        await slow.connect(20, data)
        await eventually(lambda: running.worker.door.count == 20)
        await eventually(lambda: running.worker.door.count == 0)
    assert since(before) == {reason: 20}
    assert len(running.worker.wheel) == 0


@pytest.mark.parametrize("first", [b"", HLS, LIVE], ids=["first", "after hls", "after aiohttp"])
async def test_a_head_in_drops_does_not_live_longer(start: Start, first: bytes) -> None:
    running: Running = await start(edge=IMPATIENT)
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    before = cuts()
    async with SlowClients(running.port) as slow:
        await slow.connect(10, first + b"GET /livez HTTP/1.1\r\nX: ")
        await eventually(lambda: running.worker.door.count == 10)
        deadline = time.monotonic() + 8
        while running.worker.door.count:
            assert time.monotonic() < deadline
            slow.drip()
            await asyncio.sleep(0.05)
    assert since(before) == {"head_slow": 10}


@pytest.mark.parametrize("kind", ["hls", "aiohttp"])
async def test_who_takes_nothing_is_cut_on_either_path(start: Start, kind: str) -> None:
    running: Running = await start(
        edge=HttpSettings(stalled_seconds=1, idle_seconds=0.5, unsent_bytes_max=65_536)
    )
    running.shelf.put("demo", "v/s0.m4s", b"x" * 1_000_000)
    request = HLS.replace(b"live.m3u8", b"s0.m4s") if kind == "hls" else DESCRIBED
    before = cuts()
    async with SlowClients(running.port) as slow:
        await slow.deaf(10, request * 150)
        await eventually(lambda: running.worker.door.count == 10)
        await eventually(lambda: running.worker.door.count == 0)
    assert since(before) == {"stalled": 10}


async def test_who_takes_its_bytes_in_drops_is_cut(start: Start) -> None:
    """Some bytes now and then are not enough."""
    running: Running = await start(
        edge=HttpSettings(stalled_seconds=1, idle_seconds=0.5, unsent_bytes_max=65_536)
    )
    running.shelf.put("demo", "v/s0.m4s", b"x" * 30_000_000)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1_024)
    writer.write(HLS.replace(b"live.m3u8", b"s0.m4s"))
    await eventually(lambda: running.worker.hls.answers == 1)
    deadline = time.monotonic() + 9
    while running.worker.door.count:
        assert time.monotonic() < deadline
        await reader.read(100)
        await asyncio.sleep(0.05)
    writer.transport.abort()


async def test_half_closed_connections_go_at_once(running: Running) -> None:
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    running.shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=9")
    waits = HLS.replace(b"live.m3u8", b"live.m3u8?_HLS_msn=9")
    async with SlowClients(running.port) as slow:
        for data in (b"", b"GET /h", HLS, waits, LIVE, LIVE + b"GET /h", OFFER):
            await slow.connect(5, data, half_close=True)
        await eventually(lambda: running.worker.door.count == 0)
    assert running.worker.hls.waiting == 0


async def test_half_open_tls_is_counted_from_the_first_packet(start: Start, tmp_path: Path) -> None:
    running: Running = await start(
        https=True,
        edge=HttpSettings(head_seconds=0.8, handshakes_max=10),
        tls=write_pair(tmp_path),
    )
    before = cuts()
    async with SlowClients(running.https_port) as slow:
        await slow.connect(5, HLS)
        await eventually(lambda: since(before).get("handshake") == 5)
        await slow.connect(5, b"")
        await slow.connect(5, b"\x16\x03\x01\x02\x00\x01")
        await eventually(lambda: running.worker.door.count == 10)
        await slow.connect(1, b"")
        await eventually(lambda: since(before).get("handshakes_full", 0) >= 1)
        await eventually(lambda: running.worker.door.count == 0)
        await eventually(lambda: since(before).get("handshake") == 15)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", running.https_port, ssl=trusting)
    assert running.worker.door.count == 1
    writer.write(LIVE)
    assert b" 200 OK" in await reader.readuntil(b'"ok"}')
    writer.close()
    await eventually(lambda: running.worker.door.count == 0)


async def test_slow_clients_over_tls_are_cut_too(start: Start, tmp_path: Path) -> None:
    running: Running = await start(https=True, edge=IMPATIENT, tls=write_pair(tmp_path))
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    before = cuts()
    async with SlowClients(running.https_port, context=trusting) as slow:
        for data in (b"", b"GET /h", HLS + b"GET /h", LIVE + b"GET /h"):
            await slow.connect(3, data)
        await eventually(lambda: running.worker.door.count == 0)
    assert since(before) == {"silent": 3, "head_slow": 9}


async def test_good_clients_are_served_beside_500_slow_ones(start: Start) -> None:
    running: Running = await start(
        edge=HttpSettings(head_seconds=5, body_seconds=5, idle_seconds=6, stalled_seconds=5)
    )
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    running.shelf.put("demo", "v/s0.m4s", b"x" * 1_000_000)
    deaf = HLS.replace(b"live.m3u8", b"s0.m4s")
    kinds = (b"", b"GET /h", HLS + b"G", LIVE + b"G", OFFER)

    async def good() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
        for _ in range(50):
            for request, end in ((HLS, b"#EXTM3U\n"), (LIVE, b'"ok"}')):
                writer.write(request)
                await reader.readuntil(end)
        writer.close()
        return 100

    async with SlowClients(running.port) as slow:
        for data in kinds:
            await slow.connect(90, data)
        await slow.deaf(50, deaf * 20)
        await eventually(lambda: running.worker.door.count == 500)
        answered = await asyncio.gather(*(good() for _ in range(10)))
        assert answered == [100] * 10
        async with asyncio.timeout(20):
            while running.worker.door.count:
                slow.drip()
                await asyncio.sleep(0.1)
    assert len(running.worker.wheel) == 0

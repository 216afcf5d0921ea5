"""The whole way over HTTP: a writer, a shelf behind a real server, and a client that checks."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from media.hls.shelf import Shelf, Wait
from media.hls.units import Unit
from media.hls.writer import HlsSettings, StreamWriter
from tests.conformance.hls_checker import HlsChecker
from tests.media.hls import material
from tests.media.hls.material import pictures, show, sound

SPEED = 4
"""Media seconds a second."""


class Origin:
    """The smallest server that the shelf allows: waits, and answers what it says."""

    def __init__(self, root: Path) -> None:
        self.shelf = Shelf(root)
        self.changed = asyncio.Condition()

    async def answer(self, request: web.Request) -> web.Response:
        name, path = request.match_info["stream"], request.match_info["path"]
        while True:
            now = asyncio.get_running_loop().time()
            reply = self.shelf.answer(name, path=path, query=request.query_string, now=now)
            if not isinstance(reply, Wait):
                break
            try:
                async with asyncio.timeout_at(reply.until), self.changed:
                    await self.changed.wait()
            except TimeoutError:
                reply = reply.late
                break
        headers = {"Cache-Control": reply.cache_control.decode()}
        headers["Content-Type"] = reply.content_type.decode()
        return web.Response(status=reply.status, body=bytes(reply.body), headers=headers)

    async def tell(self, stream: str) -> None:
        self.shelf.refresh(stream)
        async with self.changed:
            self.changed.notify_all()


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[[], Awaitable[tuple[Origin, str]]]]:
    runners: list[web.AppRunner] = []

    async def start() -> tuple[Origin, str]:
        origin = Origin(tmp_path)
        app = web.Application()
        app.router.add_get("/hls/{stream}/{path:.*}", origin.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        runners.append(runner)
        port = runner.addresses[0][1]
        return origin, f"http://127.0.0.1:{port}/hls/s/index.m3u8"

    yield start
    for runner in runners:
        await runner.cleanup()


def performance() -> list[list[Unit] | str]:
    """60 s: two restarts of the publisher, a change of size, a new media process, a hole."""
    second = 1_000_000_000
    start = material.START_NS
    wide = pictures(width=480, height=270)
    first = show(pictures(), sound(), seconds=14.3)
    again = show(pictures(gop=120), sound(), seconds=12, session=2, start_ns=start + 17 * second)
    begin = start + 31 * second
    changing = show(pictures(), sound(), seconds=15, session=3, start_ns=begin)
    kept = [unit for unit in changing if not unit.video or unit.at_ns < begin + 5 * second]
    later = show(wide, seconds=10, session=3, start_ns=begin + 5 * second)
    moved = [unit._replace(timestamp=unit.timestamp + 450_000) for unit in later]
    last = show(
        wide, sound(), seconds=13, session=4, start_ns=start + 47 * second,
        warp=material.jitter(3, 10),
    )  # fmt: skip
    hole = range(start + 52 * second, start + 56 * second)
    last = [unit for unit in last if not (unit.video and unit.at_ns in hole)]
    return [
        first, "lost", again,
        sorted([*kept, *moved], key=lambda unit: unit.at_ns), "killed", last,
    ]  # fmt: skip


async def play(root: Path, origin: Origin) -> None:
    """Pushes the performance, `SPEED` times as fast as life."""
    settings = HlsSettings(window_seconds=24)
    writer = StreamWriter(root, "s", settings)
    began, loop = time.time(), asyncio.get_running_loop()
    start = loop.time()
    for act in performance():
        if act == "lost":
            writer.publisher_lost(began)
        elif act == "killed":
            writer.close()
            writer = StreamWriter(root, "s", settings)
        else:
            assert not isinstance(act, str)
            for now, batch in material.batches(act):
                at = (now - material.START_NS / 1e9) / SPEED
                await asyncio.sleep(max(0.0, start + at - loop.time()))
                if writer.push(batch, now):
                    await origin.tell("s")
        await origin.tell("s")
    writer.end()
    await origin.tell("s")


async def test_a_minute_full_of_trouble(
    tmp_path: Path, serve: Callable[[], Awaitable[tuple[Origin, str]]]
) -> None:
    origin, url = await serve()

    async def watch() -> None:
        async with aiohttp.ClientSession() as session:
            findings = await HlsChecker(session, url).run(60)
        assert findings.faults == []
        assert findings.discontinuities == 2 * 4
        assert findings.inits == 5
        assert findings.parts > 2 * 5 * 40
        assert findings.segments > 40
        assert findings.gaps > 0
        assert findings.deltas > 50

    await asyncio.gather(play(tmp_path, origin), watch())
    origin.shelf.close()

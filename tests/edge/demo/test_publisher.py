"""The demo on air: over the real packet plane, played back by aiortc."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aioice.ice
import pytest

from edge.demo.publisher import own_url, publish
from edge.demo.settings import DemoSettings
from edge.http_settings import HttpSettings
from edge.settings import Settings
from tests.fakes.aiortc_player import AiortcPlayer
from tests.fakes.small_edge import SmallEdge
from tests.fakes.strip import read_strip

DEMO = DemoSettings(width=640, height=360, bit_rate=600_000, key="a secret key")


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():  # noqa: ASYNC110  polls with a deadline
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo tells aioice to use loopback; only for this test."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", aioice.ice.get_host_addresses)


@asynccontextmanager
async def on_air(edge: SmallEdge) -> AsyncIterator[asyncio.Task[None]]:
    demo = asyncio.get_running_loop().create_task(publish(DEMO, f"{edge.base}/whip/demo"))
    try:
        await until(lambda: edge.live or demo.done())
        assert not demo.done(), demo.exception()
        yield demo
    finally:
        demo.cancel()
        await asyncio.gather(demo, return_exceptions=True)


async def test_pictures_arrive_with_their_numbers_and_true_time(tmp_path: Path) -> None:
    async with SmallEdge(tmp_path) as edge, on_air(edge):
        async with AiortcPlayer(f"{edge.base}/whep/demo") as player:
            await until(lambda: len(player.pictures) >= 60 and len(player.sounds) >= 60, 20)
            now_ms = time.time() * 1000
        read = [read_strip(p.reformat(format="gray").to_ndarray()) for p in player.pictures[-30:]]
    sound = [strip for strip in read if strip is not None]
    assert len(sound) == 30
    numbers = [number for _, number in sound]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] - numbers[0] < 60
    assert 0 <= now_ms - sound[-1][0] < 3_000


async def test_a_key_frame_is_made_when_asked_for(tmp_path: Path) -> None:
    async with SmallEdge(tmp_path) as edge, on_air(edge):
        units = edge.writers[0].pushed
        await until(lambda: any(u.video and u.keyframe for u in units))
        first = next(u for u in units if u.video and u.keyframe)
        assert first.sps
        assert first.pps
        seen = len(units)
        await asyncio.sleep(0.4)
        edge.streams.ask_keyframe("demo")
        await until(lambda: any(u.video and u.keyframe for u in units[seen:]), 1.5)


async def test_it_says_goodbye_when_it_stops(tmp_path: Path) -> None:
    async with SmallEdge(tmp_path) as edge:
        async with on_air(edge):
            pass
        assert edge.requests[-1][0] == "DELETE"
        await until(lambda: not edge.live)
        await until(lambda: len(edge.streams.sessions) == 0)


async def test_it_is_on_air_again_when_the_media_process_was_replaced(tmp_path: Path) -> None:
    async with SmallEdge(tmp_path) as edge, on_air(edge):
        await edge.stop_media()
        await edge.start_media()
        await until(lambda: edge.live, 5)


async def test_it_is_on_air_again_soon_after_a_silent_death(tmp_path: Path) -> None:
    async with SmallEdge(tmp_path) as edge, on_air(edge):
        await edge.kill_media()
        await edge.start_media()
        await until(lambda: edge.live, 3.0)
        assert any(kind == "PATCH" and "a=ice-ufrag:" in text for kind, text in edge.requests)


async def test_it_waits_while_somebody_else_is_on_air(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.demo.publisher.TAKEN_SECONDS", 0.1)
    async with SmallEdge(tmp_path) as edge, on_air(edge):
        first = edge.publisher
        async with on_air(edge):
            await until(lambda: edge.publisher not in {first, ""})
            await until(lambda: edge.count("GET") >= 3)
            assert edge.count("POST") == 2
        await until(lambda: edge.count("POST") == 3 and edge.live)


def test_it_finds_the_node_it_belongs_to() -> None:
    for listen, url in (
        ("127.0.0.1:8080", "http://127.0.0.1:8080/whip/demo"),
        ("0.0.0.0:80", "http://127.0.0.1:80/whip/demo"),
        ("[::]:8080", "http://[::1]:8080/whip/demo"),
        ("[2001:db8::1]:8080", "http://[2001:db8::1]:8080/whip/demo"),
    ):
        settings = Settings(edge=HttpSettings(listen=(listen,)))
        assert own_url(settings) == url

"""Operations: alive, ready, metrics, the clock."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from edge.access import AuthSettings, KeySettings
from edge.http_settings import HttpSettings
from media.messages import Hello
from tests.edge.conftest import Running, Start, eventually

KEYS = AuthSettings(keys=(KeySettings("chief", secret="secret-chief", actions=("control",)),))


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def unready(running: Running, http: aiohttp.ClientSession) -> aiohttp.ClientResponse:
    """The worker's word that it is not ready; within five seconds."""
    async with asyncio.timeout(5):
        while True:
            async with http.get(f"{running.url}/readyz") as reply:
                await reply.read()
                if reply.status == 503:
                    return reply


async def test_alive_and_ready(running: Running, http: aiohttp.ClientSession) -> None:
    for path in ("/livez", "/readyz"):
        async with http.get(running.url + path) as reply:
            assert reply.status == 200
            assert abs(float(reply.headers["X-Server-Time"]) / 1_000 - time.time()) < 5
    running.media.mute = True
    running.media.say(Hello("media-2", "media"))
    await eventually(lambda: not running.worker.link.ready)
    async with http.get(f"{running.url}/readyz") as reply:
        assert reply.status == 200, "an outcome is kept for half a second"
    assert (await unready(running, http)).headers["Retry-After"] == "1"
    async with http.get(f"{running.url}/livez") as reply:
        assert reply.status == 200


async def test_a_media_process_that_hangs_makes_it_unready(
    running: Running, http: aiohttp.ClientSession
) -> None:
    running.media.mute = True
    assert running.worker.link.ready
    problem = await (await unready(running, http)).json()
    assert problem["code"] == "readyz.media"
    assert "took too long" in problem["detail"]


async def test_the_checks_are_listed(
    running: Running, http: aiohttp.ClientSession, tmp_path: Path
) -> None:
    async with http.get(f"{running.url}/readyz?verbose") as reply:
        assert reply.content_type == "text/plain"
        assert await reply.text() == (
            "[+]media ok\n[+]sockets ok\n[+]run_dir ok\nreadyz check passed\n"
        )
    await asyncio.to_thread(tmp_path.rename, tmp_path.with_name("gone"))
    await unready(running, http)
    async with http.get(f"{running.url}/readyz?verbose") as reply:
        assert reply.status == 503
        text = await reply.text()
    assert "[-]run_dir failed: the run directory cannot be written" in text
    assert text.endswith("readyz check failed\n")
    async with http.get(f"{running.url}/livez?verbose") as reply:
        assert await reply.text() == "[+]worker ok\nlivez check passed\n"


async def test_metrics_need_a_key(start: Start, http: aiohttp.ClientSession) -> None:
    running: Running = await start(auth=KEYS)
    url = f"{running.url}/metrics"
    async with http.get(url) as reply:
        assert reply.status == 401
    async with http.get(url, headers={"Authorization": "Bearer secret-chief"}) as reply:
        assert reply.status == 200
        assert "nexus_http_requests_total" in await reply.text()


async def test_metrics_may_be_public(start: Start, http: aiohttp.ClientSession) -> None:
    running: Running = await start(auth=KEYS, edge=HttpSettings(metrics_public=True))
    async with http.get(f"{running.url}/metrics") as reply:
        assert reply.status == 200
        assert reply.headers["Content-Type"].startswith("text/plain")

"""Operations: alive, ready, metrics, the clock."""

import time
from collections.abc import AsyncIterator

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


async def test_alive_and_ready(running: Running, http: aiohttp.ClientSession) -> None:
    for path in ("/livez", "/readyz"):
        async with http.get(running.url + path) as reply:
            assert reply.status == 200
            assert abs(float(reply.headers["X-Server-Time"]) / 1_000 - time.time()) < 5
    running.media.mute = True
    running.media.say(Hello("media-2", "media"))
    await eventually(lambda: not running.worker.link.ready)
    async with http.get(f"{running.url}/readyz") as reply:
        assert reply.status == 503
        assert reply.headers["Retry-After"] == "1"
    async with http.get(f"{running.url}/livez") as reply:
        assert reply.status == 200


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

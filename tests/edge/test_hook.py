"""The authorisation hook: what it is asked, what its answers mean, what is remembered and
bounded."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from edge.access import AuthSettings
from ops import metrics
from tests.edge.conftest import Running, Start, eventually


class Service:
    """Somebody's authorisation service."""

    def __init__(self) -> None:
        self.status = 200
        self.body = ""
        self.asked: list[dict[str, str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.asked.append(await request.json())
        await self.gate.wait()
        headers = {"Location": "/"} if self.status == 302 else {}
        return web.Response(status=self.status, text=self.body, headers=headers)


@pytest.fixture
async def service() -> AsyncIterator[Service]:
    made = Service()
    app = web.Application()
    app.router.add_post("/", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    made.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    yield made
    made.gate.set()
    await runner.cleanup()


def settings(service: Service, **changes: float) -> AuthSettings:
    return AuthSettings(hook_url=service.url, hook_timeout_seconds=0.5, **changes)


def hls(query: str = "", token: str = "abc") -> bytes:
    return (
        f"GET /hls/demo/v/live.m3u8{query} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {token}\r\nConnection: close\r\n\r\n"
    ).encode()


async def status(running: Running, data: bytes) -> int:
    return int((await running.raw(data))[9:12])


@pytest.mark.parametrize(
    ("said", "expected"), [(200, 200), (204, 200), (401, 401), (403, 403), (500, 503), (302, 503)]
)
async def test_what_its_answers_mean(
    start: Start, service: Service, said: int, expected: int
) -> None:
    running: Running = await start(auth=settings(service))
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    service.status = said
    assert await status(running, hls()) == expected
    assert service.asked == [
        {
            "action": "read",
            "stream": "demo",
            "protocol": "hls",
            "token": "abc",
            "query": "",
            "remote": "127.0.0.1",
        }
    ]


async def test_an_hls_viewers_answer_is_remembered_and_shared(
    start: Start, service: Service
) -> None:
    running: Running = await start(auth=settings(service))
    for query in ("", "_HLS_msn=4", "_HLS_msn=4&_HLS_part=1"):
        running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n", query=query)
    service.gate.clear()
    asking = [asyncio.ensure_future(status(running, hls())) for _ in range(20)]
    await eventually(lambda: running.worker.door.count == 20 and service.asked)
    service.gate.set()
    assert await asyncio.gather(*asking) == [200] * 20
    assert await status(running, hls("?_HLS_msn=4")) == 200
    assert await status(running, hls("?_HLS_msn=4&_HLS_part=1")) == 200
    assert len(service.asked) == 1
    assert await status(running, hls(token="other")) == 200
    assert len(service.asked) == 2


async def test_an_expired_answer_is_asked_again(start: Start, service: Service) -> None:
    running: Running = await start(auth=settings(service, hook_cache_seconds=0.05))
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    assert await status(running, hls()) == 200
    service.status = 403
    async with asyncio.timeout(5):
        while await status(running, hls()) != 403:
            assert running.worker.door.count <= 1


async def test_a_hook_that_does_not_answer_is_503(start: Start, service: Service) -> None:
    running: Running = await start(auth=settings(service))
    service.gate.clear()
    before = unanswered()
    said = await running.raw(hls())
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"auth.unavailable" in said
    assert b"Retry-After: 1\r\n" in said
    assert unanswered() == before + 1
    assert b"\nnexus_hook_waiting 0.0\n" in metrics.render()


def unanswered() -> float:
    metrics.touch()
    series = b'\nnexus_hook_questions_total{outcome="unanswered"} '
    return float(metrics.render().partition(series)[2].split()[0])


async def test_the_subject_reaches_media(start: Start, service: Service) -> None:
    running: Running = await start(auth=settings(service))
    service.body = '{"subject": "anna", "expires_unix": 4000000000}'
    said = await running.raw(
        b"POST /whip/demo?ticket=7 HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/sdp\r\nContent-Length: 3\r\nConnection: close\r\n\r\nv=0"
    )
    assert said.startswith(b"HTTP/1.1 201 ")
    assert service.asked[0]["action"] == "publish"
    assert service.asked[0]["query"] == "ticket=7"
    info = next(iter(running.media.sessions.values()))
    assert info.subject == "anna"


async def test_who_leaves_while_the_hook_thinks_is_forgotten(
    start: Start, service: Service
) -> None:
    running: Running = await start(auth=settings(service))
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    service.gate.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(hls())
    await eventually(lambda: service.asked)
    writer.close()
    await eventually(lambda: running.worker.door.count == 0)
    service.gate.set()
    await eventually(lambda: len(running.worker.tasks) == 0)
    assert running.worker.hls.answers == 0

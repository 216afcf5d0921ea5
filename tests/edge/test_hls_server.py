"""HLS: answers, ranges, CORS, waiting players released together, and forgotten when they go."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from edge.hls_audience import WINDOW_SECONDS, Audience
from media.messages import Demand, Viewers
from tests.edge.conftest import Running, Start, eventually


def request(path: str, *fields: str, method: str = "GET") -> bytes:
    lines = [f"{method} /hls/{path} HTTP/1.1", "Host: localhost", *fields, "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


def split(said: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = said.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    return int(lines[0].split(" ")[1]), fields, body


def via_aiohttp(data: bytes) -> bytes:
    """The same request behind one that makes the connection aiohttp's."""
    return b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n" + data


Ask = Callable[[bytes], Awaitable[tuple[int, dict[str, str], bytes]]]


@pytest.fixture(params=["own protocol", "aiohttp"])
def ask(request: pytest.FixtureRequest, running: Running) -> Ask:
    """Asks by either way a request can come in."""

    async def send(data: bytes) -> tuple[int, dict[str, str], bytes]:
        if request.param == "own protocol":
            return split(await running.raw(data))
        said = await running.raw(via_aiohttp(data))
        return split(said[said.index(b"HTTP/1.1 ", 20) :])

    return send


async def test_files_ranges_and_head(running: Running, ask: Ask) -> None:
    running.shelf.put("demo", "v/s1.m4s", b"0123456789")
    status, fields, body = await ask(request("demo/v/s1.m4s"))
    assert (status, body) == (200, b"0123456789")
    assert fields["content-type"] == "video/mp4"
    assert fields["accept-ranges"] == "bytes"
    assert fields["cache-control"] == "public, max-age=1"
    assert fields["access-control-allow-origin"] == "*"
    assert fields["content-length"] == "10"
    cases = {
        "bytes=0-3": (206, b"0123", "bytes 0-3/10"),
        "bytes=4-": (206, b"456789", "bytes 4-9/10"),
        "bytes=-3": (206, b"789", "bytes 7-9/10"),
        "bytes=8-99": (206, b"89", "bytes 8-9/10"),
        "bytes=-99": (206, b"0123456789", "bytes 0-9/10"),
        "bytes=10-": (416, None, "bytes */10"),
        "bytes=-0": (416, None, "bytes */10"),
        "bytes=5-4": (200, b"0123456789", None),
        "bytes=0-1,3-4": (200, b"0123456789", None),
        "lines=0-1": (200, b"0123456789", None),
    }
    for asked, (expected, content, described) in cases.items():
        status, fields, body = await ask(request("demo/v/s1.m4s", f"Range: {asked}"))
        assert (status, fields.get("content-range")) == (expected, described), asked
        if content is not None:
            assert body == content
    status, _, body = await ask(request("demo/v/s1.m4s", "Range: bytes=0-1", 'If-Range: "x"'))
    assert (status, len(body)) == (200, 10)
    status, fields, body = await ask(request("demo/v/s1.m4s", method="HEAD"))
    assert (status, fields["content-length"], body) == (200, "10", b"")


async def test_preflight_and_errors(running: Running, ask: Ask) -> None:
    status, fields, body = await ask(request("demo/v/live.m3u8", method="OPTIONS"))
    assert (status, body) == (204, b"")
    assert "Authorization" in fields["access-control-allow-headers"]
    for path in ("demo/v/none.m4s", "demo", "demo/", "~/demo/v/live.m3u8", "-x/v/live.m3u8"):
        status, fields, body = await ask(request(path))
        assert status == 404, path
        assert fields["content-type"] == "application/problem+json"
        assert json.loads(body)["status"] == 404
    status, fields, _ = await ask(request("demo/v/live.m3u8", method="POST"))
    assert status == 405
    assert fields["allow"] == "GET, HEAD, OPTIONS"
    assert running.shelf.asked == 1


async def test_what_does_not_come_is_answered_late(running: Running, ask: Ask) -> None:
    running.shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=5")
    running.shelf.wait_seconds = 0.3
    status, fields, _ = await ask(request("demo/v/live.m3u8?_HLS_msn=5"))
    assert (status, fields["cache-control"]) == (503, "no-store")
    assert running.worker.hls.waiting == 0


async def test_a_waiting_request_is_released_by_media(running: Running, ask: Ask) -> None:
    running.shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=5")
    waiting = asyncio.ensure_future(ask(request("demo/v/live.m3u8?_HLS_msn=5")))
    await eventually(lambda: running.worker.hls.waiting == 1)
    running.media.hls_changed("other")
    running.media.hls_changed("demo")
    await eventually(lambda: "demo" in running.shelf.refreshed)
    assert running.worker.hls.waiting == 1
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n", query="_HLS_msn=5")
    running.media.hls_changed("demo")
    status, _, body = await waiting
    assert (status, body) == (200, b"#EXTM3U\n")


async def test_a_lost_wake_up_is_made_up_for(running: Running) -> None:
    running.shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=5")
    job = running.worker.tasks.start("serve", running.worker.serve())
    waiting = asyncio.ensure_future(running.raw(request("demo/v/live.m3u8?_HLS_msn=5")))
    await eventually(lambda: running.worker.hls.waiting == 1)
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n", query="_HLS_msn=5")
    assert split(await waiting)[0] == 200
    job.cancel()


async def test_a_thousand_waiting_players_are_released_together(running: Running) -> None:
    players = 1_000
    running.shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=5")
    data = request("demo/v/live.m3u8?_HLS_msn=5").replace(b"Connection: close\r\n", b"")
    connections = []
    for _ in range(players):
        connections.append(await asyncio.open_connection("127.0.0.1", running.port))
        connections[-1][1].write(data)
    await eventually(lambda: running.worker.hls.waiting == players)
    tasks = len(asyncio.all_tasks())
    assert tasks < 20, "a waiting player costs no task"
    for _, writer in connections[:100]:
        writer.close()
    await eventually(lambda: running.worker.hls.waiting == players - 100)
    asked = running.shelf.asked
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n#new\n", query="_HLS_msn=5")
    began = asyncio.get_running_loop().time()
    running.media.hls_changed("demo")
    for reader, _ in connections[100:]:
        await reader.readuntil(b"#new\n")
    took_ms = (asyncio.get_running_loop().time() - began) * 1_000
    assert running.shelf.asked == asked + 1, "the answer is made once"
    assert running.worker.hls.released == players - 100
    assert took_ms < 1_000
    for _, writer in connections:
        writer.close()
    await eventually(lambda: running.worker.door.count == 0)


async def test_stopping_answers_who_waits(start: Start) -> None:
    running: Running = await start()
    running.shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=5")
    data = request("demo/v/live.m3u8?_HLS_msn=5")
    own = asyncio.ensure_future(running.raw(data))
    twin = asyncio.ensure_future(running.raw(via_aiohttp(data)))
    await eventually(lambda: running.worker.hls.waiting == 2)
    listening = asyncio.ensure_future(
        running.raw(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    )
    await eventually(lambda: len(running.worker.events) == 1)
    began = asyncio.get_running_loop().time()
    await running.worker.__aexit__(None, None, None)
    assert asyncio.get_running_loop().time() - began < 1.0
    assert b"HTTP/1.1 503 " in await own
    assert b"HTTP/1.1 503 " in await twin
    assert b"event: streams" in await listening
    assert running.worker.door.count == 0


async def test_aac_is_demanded_and_viewers_are_told(start: Start) -> None:
    running: Running = await start()
    for path in ("v/live.m3u8", "a/live.m3u8", "c/live.m3u8"):
        running.shelf.put("demo", path, b"#EXTM3U\n")
    for _ in range(3):
        await running.raw(request("demo/c/live.m3u8"))
    for _ in range(10):
        await running.raw(request("demo/v/live.m3u8"))
    await eventually(lambda: running.media.asked(Demand))
    assert running.media.asked(Demand) == [Demand("demo")]
    job = running.worker.tasks.start("serve", running.worker.serve())
    await eventually(lambda: running.media.asked(Viewers))
    assert running.media.asked(Viewers)[0].counts["demo"] > 1
    job.cancel()


@pytest.mark.parametrize("players", [1, 3, 40])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_players_are_counted_once_however_their_connections_spread(
    players: int, workers: int
) -> None:
    audiences = [Audience(part_seconds=0.2, segment_seconds=2.0) for _ in range(workers)]
    for audience in audiences:
        audience.counts(0.0)
    told: list[float] = []
    for part in range(1, 151):
        for player in range(players):
            audience = audiences[(part + player) % workers]
            audience.asked("demo", rendition="v", blocking=True)
            audience.asked("demo", rendition="a", blocking=True)
        if part % 10 == 0:
            counts = [audience.counts(part * 0.2) for audience in audiences]
            told.append(sum(count.get("demo", 0.0) for count in counts))
    assert told[0] == pytest.approx(players, abs=0.5)
    assert told[-1] == pytest.approx(players, abs=0.2)


def test_players_without_low_latency_count_too_and_those_who_leave_do_not() -> None:
    audience = Audience(part_seconds=0.2, segment_seconds=2.0)
    counts: dict[str, float] = {}
    for second in range(2, 22, 2):
        audience.asked("demo", rendition="a", blocking=False)
        counts = audience.counts(float(second))
    assert counts["demo"] == pytest.approx(1.0, abs=0.2)
    for second in range(22, 24 + int(WINDOW_SECONDS), 2):
        counts = audience.counts(float(second))
    assert counts == {}

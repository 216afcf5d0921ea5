"""One public port: who serves a connection, and what becomes of slow, long and broken requests."""

import asyncio
import json

import psutil
import pytest

from edge.http_settings import HttpSettings
from tests.edge.conftest import Running, Start, eventually

HLS = b"GET /hls/demo/v/live.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def closing(request: bytes) -> bytes:
    return request[:-2] + b"Connection: close\r\n\r\n"


async def test_hls_and_everything_else_on_one_port(running: Running) -> None:
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    said = await running.raw(closing(HLS))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b"\r\n\r\n#EXTM3U\n")
    assert b"\r\nDate: " in said
    assert b"\r\nAccess-Control-Allow-Origin: *\r\n" in said
    said = await running.raw(closing(LIVE))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert said.endswith(b'{"status":"ok"}')


async def test_a_connection_goes_from_hls_to_aiohttp_and_keeps_serving_hls(
    running: Running,
) -> None:
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n#one")
    said = await running.raw(HLS + HLS + LIVE + HLS + closing(LIVE))
    assert said.count(b"HTTP/1.1 200 OK") == 5
    assert said.count(b"#EXTM3U\n#one") == 3
    assert said.count(b'{"status":"ok"}') == 2
    order = [said.find(b"#EXTM3U"), said.find(b'"ok"'), said.rfind(b"#EXTM3U"), said.rfind(b'"ok"')]
    assert order == sorted(order)


async def test_pipelined_requests_are_answered_in_order_past_one_that_waits(
    running: Running,
) -> None:
    shelf = running.shelf
    for number in range(3):
        shelf.put("demo", f"v/s{number}.m4s", b"file%d" % number)
    shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=3")
    waits = HLS.replace(b"live.m3u8", b"live.m3u8?_HLS_msn=3")
    files = [HLS.replace(b"live.m3u8", b"s%d.m4s" % number) for number in range(3)]
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(files[0] + waits + files[1] + closing(files[2]))
    await reader.readuntil(b"file0")
    await eventually(lambda: running.worker.hls.waiting == 1)
    shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n#new", query="_HLS_msn=3")
    running.media.hls_changed("demo")
    said = await reader.read()
    order = [said.find(word) for word in (b"#new", b"file1", b"file2")]
    assert order == sorted(order)
    assert -1 not in order
    writer.close()


async def test_a_head_in_single_bytes(running: Running) -> None:
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    for request in (HLS, HLS, closing(LIVE)):
        for byte in request:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(0)
    said = await reader.read()
    assert said.count(b"HTTP/1.1 200 OK") == 3
    writer.close()


@pytest.mark.parametrize(
    "target",
    [
        b"/hls/../livez",
        b"/hls/%2e%2e/livez",
        b"//hls/demo/v/live.m3u8",
        b"/hls%2fdemo/v/live.m3u8",
        b"http://localhost/hls/demo/v/live.m3u8",
    ],
)
async def test_ambiguous_targets_are_refused_on_either_kind_of_connection(
    running: Running, target: bytes
) -> None:
    request = closing(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
    for before in (b"", LIVE):
        said = await running.raw(before + request)
        assert said.count(b" 400 Bad Request\r\n") == 1, said
        assert b"application/problem+json" in said


async def test_an_encoded_prefix_is_served_by_the_same_rules(running: Running) -> None:
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    for target in (b"/%68ls/demo/v/live.m3u8", b"/hls/d%65mo/v/live.m3u8"):
        request = closing(b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\n\r\n")
        said = await running.raw(request)
        assert said.startswith(b"HTTP/1.1 404 "), said


SMUGGLED = [
    (
        b"POST /whip/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ),
    b"POST /whip/demo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    (
        b"POST /whip/demo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        b"Content-Length: 9\r\n\r\n"
    ),
    b"POST /whip/demo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    b"POST /whip/demo HTTP/1.1\r\nHost: localhost\r\n Transfer-Encoding: chunked\r\n\r\n",
    (
        b"GET /hls/demo/v/live.m3u8 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 60\r\n\r\n"
        b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: xxxxxxxxxxxxxxxxxx\r\n\r\n"
    ),
    (
        b"GET /hls/demo/v/live.m3u8 HTTP/1.1\r\nHost: localhost\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
    ),
    b"GET /livez HTTP/1.1\r\nHost: localhost\nX: GET /metrics HTTP/1.1\r\n\r\n",
]


@pytest.mark.parametrize("request_bytes", SMUGGLED)
@pytest.mark.parametrize("before", [b"", HLS], ids=["first", "after hls"])
async def test_smuggling_is_answered_once_with_400_and_the_end(
    running: Running, request_bytes: bytes, before: bytes
) -> None:
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    said = await running.raw(before + request_bytes)
    assert said.count(b"HTTP/1.1 ") == (2 if before else 1), said
    assert b"HTTP/1.1 400 " in said
    assert b"nexus_" not in said


@pytest.mark.parametrize("request_bytes", SMUGGLED[:5])
async def test_smuggling_behind_a_request_of_aiohttps(
    running: Running, request_bytes: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    writer.write(LIVE)
    await reader.readuntil(b'"ok"}')
    writer.write(request_bytes)
    said = await reader.read()
    assert said.count(b"HTTP/1.") == 1, said
    assert b" 400 Bad Request\r\n" in said
    assert b"application/problem+json" in said
    writer.close()


@pytest.mark.parametrize("request_bytes", [*SMUGGLED[:5], SMUGGLED[7], b"GET /\r\n\r\n"])
@pytest.mark.parametrize("before", [LIVE, LIVE + LIVE, HLS + LIVE])
async def test_what_is_malformed_does_not_take_the_answers_before_it(
    running: Running, request_bytes: bytes, before: bytes
) -> None:
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    said = await running.raw(before + request_bytes)
    assert said.count(b"HTTP/1.1 200 OK") == before.count(b"GET ")
    assert said.count(b" 400 Bad Request\r\n") == 1, said
    assert said.index(b" 400 ") > said.rindex(b" 200 ")
    assert b"nexus_" not in said


async def test_too_long_a_head_is_431(running: Running) -> None:
    long = b"GET /hls/demo/v/live.m3u8 HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 17_000
    for before in (b"", HLS):
        said = await running.raw(before + long)
        assert said.count(b"HTTP/1.1 431 ") == 1


async def test_slow_heads_and_idle_connections_are_cut(start: Start) -> None:
    running = await start(edge=HttpSettings(head_seconds=0.3, idle_seconds=0.6))
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    silent, partial, partial_later, idle_hls, idle_http = await asyncio.gather(
        running.raw(b""),
        running.raw(b"GET /hl"),
        running.raw(HLS + b"GET /hl"),
        running.raw(HLS),
        running.raw(LIVE),
    )
    assert silent == b""
    assert partial.startswith(b"HTTP/1.1 408 ")
    assert b"HTTP/1.1 408 " in partial_later
    assert idle_hls.count(b"HTTP/1.1 ") == 1
    assert idle_http.count(b"HTTP/1.1 ") == 1
    await eventually(lambda: running.worker.door.count == 0)


async def test_too_many_connections_are_503_and_room_comes_back(start: Start) -> None:
    running = await start(edge=HttpSettings(connections_max=2))
    first = await asyncio.open_connection("127.0.0.1", running.port)
    second = await asyncio.open_connection("127.0.0.1", running.port)
    await eventually(lambda: running.worker.door.count == 2)
    said = await running.raw(b"")
    assert said.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in said
    assert json.loads(said.partition(b"\r\n\r\n")[2])["code"] == "edge.full"
    for _, writer in (first, second):
        writer.close()
    await eventually(lambda: running.worker.door.count == 0)
    assert (await running.raw(closing(LIVE))).startswith(b"HTTP/1.1 200 ")


async def test_connections_through_every_protocol_leave_nothing(running: Running) -> None:
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    running.shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=9")
    waits = HLS.replace(b"live.m3u8", b"live.m3u8?_HLS_msn=9")
    writers = []
    for number in range(60):
        data = (b"", b"GET /h", HLS, LIVE, HLS + LIVE, waits)[number % 6]
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(data)
        writers.append(writer)
    await eventually(lambda: running.worker.door.count == 60 and running.worker.hls.waiting == 10)
    for writer in writers:
        writer.close()
    await eventually(lambda: running.worker.door.count == 0)
    assert running.worker.hls.waiting == 0
    assert len(running.worker.wheel) == 0


async def test_no_task_and_no_descriptor_is_left_of_500_clients(running: Running) -> None:
    process = psutil.Process()
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")

    async def round_of(count: int) -> None:
        requests = (closing(HLS), closing(LIVE), closing(HLS[:-2] + b"X: 1\r\n\r\n"))
        for begin in range(0, count, 50):
            await asyncio.gather(
                *(running.raw(requests[number % 3]) for number in range(begin, begin + 50))
            )

    await round_of(50)
    await eventually(lambda: running.worker.door.count == 0)
    descriptors, tasks = process.num_fds(), len(asyncio.all_tasks())
    await round_of(500)
    await eventually(lambda: running.worker.door.count == 0)
    await eventually(lambda: len(asyncio.all_tasks()) <= tasks)
    await eventually(lambda: process.num_fds() <= descriptors)


async def test_a_client_that_does_not_read_is_held_back_and_then_cut(start: Start) -> None:
    running = await start(
        edge=HttpSettings(unsent_bytes_max=65_536, idle_seconds=0.5, stalled_seconds=1)
    )
    running.shelf.put("demo", "v/s0.m4s", b"x" * 1_000_000)
    request = HLS.replace(b"live.m3u8", b"s0.m4s")
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1_000)
    writer.write(request * 200)
    await eventually(lambda: running.worker.hls.answers > 0)
    await eventually(lambda: running.worker.door.count == 0)
    assert running.worker.hls.answers < 50
    writer.transport.abort()
    assert reader is not None

"""Requests that two parsers may read differently: one answer, 400, the end; on every path."""

import asyncio
import re

import pytest

from tests.edge.conftest import Running

HOST = b"Host: localhost\r\n"
ANSWER = re.compile(rb"HTTP/1\.[01] [0-9]{3} ")
HIDDEN = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
HLS = b"GET /hls/demo/v/live.m3u8 HTTP/1.1\r\n" + HOST + b"\r\n"
LIVE = b"GET /livez HTTP/1.1\r\n" + HOST + b"\r\n"

HEADS = {
    "two hosts": b"GET /livez HTTP/1.1\r\n" + HOST + b"Host: example.org\r\n\r\n",
    "no host": b"GET /livez HTTP/1.1\r\n\r\n",
    "absolute target": b"GET http://example.org/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "folded field": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "bare line feed": b"GET /livez HTTP/1.1\nHost: localhost\n\n\r\n\r\n",
    "bare carriage return": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\rY: b\r\n\r\n",
    "nul in a field": b"GET /livez HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "nul in the target": b"GET /li\0vez HTTP/1.1\r\n" + HOST + b"\r\n",
    "space before the colon": b"POST /whip/demo HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "space in the target": b"GET /livez /x HTTP/1.1\r\n" + HOST + b"\r\n",
    "tab in the request line": b"GET\t/livez HTTP/1.1\r\n" + HOST + b"\r\n",
    "signed length": b"POST /whip/demo HTTP/1.1\r\n" + HOST + b"Content-Length: +4\r\n\r\n",
    "hexadecimal length": b"POST /whip/demo HTTP/1.1\r\n" + HOST + b"Content-Length: 0x4\r\n\r\n",
    "list of lengths": b"POST /whip/demo HTTP/1.1\r\n" + HOST + b"Content-Length: 4, 4\r\n\r\n",
    "two codings": b"POST /whip/demo HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "chunks twice": b"POST /whip/demo HTTP/1.1\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunks in 1.0": b"POST /whip/demo HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n",
    "chunks and a length": b"POST /whip/demo HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
}


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("before", [b"", HLS, LIVE], ids=["first", "after hls", "after aiohttp"])
async def test_it_is_refused_once_and_what_hides_behind_is_not_answered(
    running: Running, name: str, before: bytes
) -> None:
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    if before:
        writer.write(before)
        await reader.readuntil(b"#EXTM3U\n" if before is HLS else b'"ok"}')
    writer.write(HEADS[name] + HIDDEN)
    async with asyncio.timeout(10):
        said = await reader.read()
    writer.close()
    assert len(ANSWER.findall(said)) == 1, said
    assert b" 400 Bad Request\r\n" in said, said
    assert b"nexus_" not in said


@pytest.mark.parametrize(
    "chunks",
    [
        b"-1\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"ffffffffffffffff1\r\nabc\r\n0\r\n\r\n",
    ],
    ids=["negative", "prefix", "bare line feed", "longer than said", "overflow"],
)
async def test_broken_chunks_end_the_connection(running: Running, chunks: bytes) -> None:
    head = (
        b"POST /whip/demo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )
    async with asyncio.timeout(10):
        said = await running.raw(head + chunks + HIDDEN)
    assert len(ANSWER.findall(said)) == 1, said
    assert b" 400 " in said, said
    assert b"nexus_" not in said

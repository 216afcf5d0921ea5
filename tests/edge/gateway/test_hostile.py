"""Hostile requests to the gateway through a real worker: they disturb nobody."""

import asyncio
import contextlib
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.gateway.side import Business
from edge.http_settings import HttpSettings
from ops.clock import SYSTEM
from ops.tokens import Issuer, TokenSettings, load_keys
from tests.edge.conftest import Running, Start, eventually, pytest_asyncio_loop_factories
from tests.fakes.slow_clients import SlowClients
from tests.fakes.stall import OPERATIONS, Stall

__all__ = ["pytest_asyncio_loop_factories"]

HOST = b"Host: localhost\r\n"
ANSWER = re.compile(rb"HTTP/1\.[01] [0-9]{3} ")
OPEN = b"GET /v1/stall/open HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /v1/stall/items HTTP/1.1\r\n" + HOST

SMUGGLED = {
    "two hosts": b"GET /v1/stall/open HTTP/1.1\r\n" + HOST + b"Host: evil.test\r\n\r\n",
    "no host": b"GET /v1/stall/open HTTP/1.1\r\n\r\n",
    "absolute target": b"GET http://evil.test/v1/stall/open HTTP/1.1\r\n" + HOST + b"\r\n",
    "folded field": b"GET /v1/stall/open HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "bare line feed": b"GET /v1/stall/open HTTP/1.1\nHost: localhost\n\n\r\n\r\n",
    "chunks and a length": POST
    + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 9\r\n\r\n",
    "list of lengths": POST + b"Content-Length: 4, 4\r\n\r\n",
    "signed length": POST + b"Content-Length: +4\r\n\r\n",
    "another coding": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two codings": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "space before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "chunks in 1.0": b"POST /v1/stall/items HTTP/1.0\r\n"
    + HOST
    + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "dot segments": b"GET /v1/stall/../../metrics HTTP/1.1\r\n" + HOST + b"\r\n",
    "encoded dots": b"GET /v1/stall/%2e%2e/open HTTP/1.1\r\n" + HOST + b"\r\n",
    "encoded slash": b"GET /v1/stall%2fopen HTTP/1.1\r\n" + HOST + b"\r\n",
    "nul": b"GET /v1/stall/op%00en HTTP/1.1\r\n" + HOST + b"\r\n",
    "two credentials": b"GET /v1/stall/open HTTP/1.1\r\n"
    + HOST
    + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n",
}


@pytest.fixture
async def worker(start: Start) -> Any:
    """A worker whose gateway leads to a stall."""
    return await start(business=Business(Stall(), OPERATIONS))


async def asks(worker: Running) -> bool:
    """Whether somebody well-behaved is served."""
    said = await worker.raw(OPEN[:-2] + b"Connection: close\r\n\r\n")
    return said.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("name", SMUGGLED)
@pytest.mark.parametrize("before", [b"", OPEN], ids=["first", "after another"])
async def test_what_two_parsers_may_read_differently_is_refused_once(
    worker: Running, name: str, before: bytes
) -> None:
    said = await worker.raw(before + SMUGGLED[name] + OPEN)
    assert len(ANSWER.findall(said)) == 1 + bool(before), said
    assert b" 400 Bad Request\r\n" in said


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("signed_in", [False, True])
async def test_a_gigabyte_is_refused_before_it_comes(
    start: Start, tmp_path: Path, signed_in: bool, chunked: bool
) -> None:
    tokens = TokenSettings(key_file=tmp_path / "keys.json")
    worker: Running = await start(tokens=tokens, business=Business(Stall(), OPERATIONS))
    issuer = Issuer(load_keys(tokens.key_file), issuer="nexus")
    head = POST + b"Content-Type: application/json\r\n"
    if signed_in:
        token = issuer.issue("a", tenant="t", permissions="*", seconds=60, now=SYSTEM.unix())
        head += f"Authorization: Bearer {token}\r\n".encode()
    head += b"Transfer-Encoding: chunked\r\n" if chunked else b"Content-Length: 1073741824\r\n"
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n" if chunked else b"x" * 65_536
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(head + b"\r\n" + piece)
    async with asyncio.timeout(5):
        said = await reader.readuntil(b"\r\n\r\n")
        assert said.startswith(b"HTTP/1.1 413 " if signed_in else b"HTTP/1.1 401 "), said
        # What still comes is thrown away for a moment, and then the connection ends.
        while not writer.transport.is_closing():
            writer.write(piece)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
    writer.transport.abort()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    assert await asks(worker)


async def test_a_hundred_slow_clients_hold_up_nobody(start: Start) -> None:
    edge = replace(HttpSettings(), head_seconds=0.5, body_seconds=0.5)
    worker: Running = await start(edge=edge, business=Business(Stall(), OPERATIONS))
    async with SlowClients(worker.port) as clients:
        await clients.connect(50, b"GET /v1/stall/open HTTP/1.1\r\nHost:")
        body = b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
        await clients.connect(50, POST + body)
        await clients.deaf(20, OPEN * 20)
        for _ in range(5):
            assert await asks(worker)
        await eventually(lambda: worker.worker.door.count <= 30)
        assert await asks(worker)


@pytest.mark.parametrize(
    "path",
    [
        "/v1",
        "/v1/",
        "/v1//",
        "/v1/stall",
        "/v1/stall/",
        "/v1/stall/open/",
        "/v1/stall/items/" + "x" * 7_000,
        "/v1/" + "a/" * 2_000,
        "/v1/%ff%fe",
        "/v1/stall/items/%E2%82",
        "/" + "{x}/" * 50,
    ],
)
async def test_odd_paths_get_an_honest_answer(worker: Running, path: str) -> None:
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    said = await worker.raw(request.encode())
    assert re.match(rb"HTTP/1\.1 (400|401|404) ", said), said[:200]
    assert b"application/problem+json" in said


async def test_who_waits_with_a_body_hears_the_refusal_first(start: Start, tmp_path: Path) -> None:
    tokens = TokenSettings(key_file=tmp_path / "keys.json")
    worker: Running = await start(tokens=tokens, business=Business(Stall(), OPERATIONS))
    issuer = Issuer(load_keys(tokens.key_file), issuer="nexus")
    token = issuer.issue("a", tenant="t", permissions="*", seconds=60, now=SYSTEM.unix())
    head = POST + f"Authorization: Bearer {token}\r\n".encode()
    head += b"Content-Type: application/json\r\nConnection: close\r\n"
    waits = head + b"Expect: 100-continue\r\n"
    said = await worker.raw(waits + b"Content-Length: 1073741824\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 413 "), said
    said = await worker.raw(head + b"Expect: more\r\nContent-Length: 2\r\n\r\n{}")
    assert said.startswith(b"HTTP/1.1 417 "), said
    reader, writer = await asyncio.open_connection("127.0.0.1", worker.port)
    writer.write(waits + b"Content-Length: 12\r\n\r\n")
    async with asyncio.timeout(5):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b'{"name":"x"}')
        assert (await reader.read()).startswith(b"HTTP/1.1 201 ")
    writer.close()

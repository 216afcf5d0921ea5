"""The short way to the gateway answers as aiohttp's does, and leaves to that what is unusual."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.gateway.lane import Lane, Whither
from edge.gateway.settings import GatewaySettings
from edge.gateway.side import Business
from ops.clock import SYSTEM
from ops.tokens import Issuer, TokenSettings, load_keys
from tests.edge.conftest import Running, Start, eventually, pytest_asyncio_loop_factories
from tests.fakes.fault_upstream import FaultUpstream
from tests.fakes.stall import OPERATIONS, Stall

__all__ = ["pytest_asyncio_loop_factories"]

HOST = "Host: localhost\r\n"
JSON = "Content-Type: application/json\r\n"
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
HLS = b"GET /hls/demo/v/live.m3u8 HTTP/1.1\r\nHost: localhost\r\n\r\n"
OPEN = b"GET /v1/stall/open HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEAD = re.compile(rb"HTTP/1\.1 ([0-9]{3}) [^\r]*\r\n(.*?)\r\n\r\n", re.DOTALL)


def asked(line: str, *fields: str, body: str = "") -> bytes:
    """A request by its line and fields."""
    length = f"Content-Length: {len(body.encode())}\r\n" if body else ""
    return f"{line} HTTP/1.1\r\n{HOST}{''.join(fields)}{length}\r\n{body}".encode()


def post(body: str, *fields: str) -> bytes:
    return asked("POST /v1/stall/items", *fields, body=body)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of requests that went by the lane."""
    paths: list[str] = []
    read = Lane.read

    def noted(self: Lane, *arguments: Any) -> Whither | None:
        found = read(self, *arguments)
        if found is not None:
            paths.append(found.inbound.path)
        return found

    monkeypatch.setattr(Lane, "read", noted)
    return paths


class Shop:
    """A worker with a stall, and somebody who is signed in."""

    def __init__(self, running: Running, stall: Stall, token: str) -> None:
        self.running = running
        self.stall = stall
        self.bearer = f"Authorization: Bearer {token}\r\n"


@asynccontextmanager
async def connected(shop: Shop) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection, and not for longer than five seconds."""
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection("127.0.0.1", shop.running.port)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


Open = Callable[..., Any]


@pytest.fixture
def shop(start: Start, tmp_path: Path) -> Open:
    async def make(*, business: dict[str, Any] | None = None, **sections: Any) -> Shop:
        tokens = TokenSettings(key_file=tmp_path / "keys.json")
        stall = Stall()
        made = Business(stall, OPERATIONS, **(business or {}))
        running = await start(tokens=tokens, business=made, **sections)
        issuer = Issuer(load_keys(tokens.key_file), issuer="nexus")
        token = issuer.issue("ada", tenant="acme", permissions="*", seconds=60, now=SYSTEM.unix())
        return Shop(running, stall, token)

    return make


def told(said: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, fields but the date, and body of one answer."""
    found = HEAD.match(said)
    assert found is not None, said
    fields = dict(line.split(": ", 1) for line in found[2].decode().split("\r\n"))
    lower = {name.lower(): value for name, value in fields.items()}
    assert len(lower) == found[2].count(b"\r\n") + 1, "a field is there twice"
    lower.pop("date", None)
    return int(found[1]), lower, said[found.end() :]


async def by_both(shop: Shop, request: bytes) -> tuple[Any, Any]:
    """What is answered by the lane, and what on a connection that is aiohttp's already."""
    ended = LIVE[:-2] + b"Connection: close\r\n\r\n"
    ours = await shop.running.raw(request + ended)
    theirs = await shop.running.raw(LIVE + request + ended)
    return told(_without_last(ours)), told(_without_last(theirs[_end_of_first(theirs) :]))


def _end_of_first(said: bytes) -> int:
    return said.index(b'{"status":"ok"}') + len(b'{"status":"ok"}')


def _without_last(said: bytes) -> bytes:
    """Without the last answer, if it is that of `LIVE`: a refusal may have ended the connection."""
    return said[: said.rindex(b"HTTP/1.1 ")] if said.endswith(b'{"status":"ok"}') else said


REQUESTS: dict[str, Callable[[str], bytes]] = {
    "public": lambda _: OPEN,
    "signed in": lambda bearer: asked("GET /v1/stall/items/7", bearer),
    "a query": lambda bearer: asked("GET /v1/stall/items/7?a=b&c=%20", bearer),
    "compressed": lambda bearer: asked("GET /v1/stall/hello", bearer, "Accept-Encoding: gzip\r\n"),
    "nobody": lambda _: asked("GET /v1/stall/items/7"),
    "a bad token": lambda _: asked("GET /v1/stall/items/7", "Authorization: Bearer x\r\n"),
    "no such path": lambda _: asked("GET /v1/stall/nothing"),
    "no such method": lambda _: asked("DELETE /v1/stall/open"),
    "a body": lambda bearer: post('{"name":"x"}', bearer, JSON),
    "not JSON": lambda bearer: post("{", bearer, JSON),
    "a long body": lambda bearer: post("x" * 5_000, bearer, JSON),
    "fields in several lines": lambda bearer: asked(
        "GET /v1/stall/hello", bearer, "X: a\r\nX: b\r\n"
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
async def test_it_answers_as_the_other_way_does(shop: Open, taken: list[str], name: str) -> None:
    made = await shop()
    made.stall.more = {"text": "x" * 2_000} if name == "compressed" else {}
    ours, theirs = await by_both(made, REQUESTS[name](made.bearer))
    assert len(taken) == 1
    for answer in (ours, theirs):
        for field in ("ratelimit", "content-length"):
            # The other request has taken a token, and counts are as long as they are.
            answer[1].pop(field, None)
    assert ours[:2] == theirs[:2]
    if ours[1].get("content-type") == "application/json" and name != "compressed":
        mine, other = json.loads(ours[2]), json.loads(theirs[2])
        assert mine | {"count": 0} == other | {"count": 0}
    elif name != "compressed":
        assert ours[2] == theirs[2]


UNUSUAL = {
    "encoded": asked("GET /v1/stall/%6Fpen"),
    "HEAD": asked("HEAD /v1/stall/open"),
    "OPTIONS": asked("OPTIONS /v1/stall/open"),
    "HTTP/1.0": b"GET /v1/stall/open HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    "Expect": post('{"name":"x"}', JSON, "Expect: 100-continue\r\n"),
    "Upgrade": asked("GET /v1/stall/open", "Upgrade: websocket\r\n", "Connection: upgrade\r\n"),
    "another table's": asked("POST /v1/backend-api/compose", JSON, body="{}"),
    "chunks": asked("POST /v1/stall/items", JSON, "Transfer-Encoding: chunked\r\n")
    + b"2\r\n{}\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", UNUSUAL)
async def test_what_is_unusual_is_left_to_the_other_way(
    shop: Open, taken: list[str], name: str
) -> None:
    made = await shop()
    said = await made.running.raw(UNUSUAL[name], until=b"\r\n\r\n")
    assert said.startswith(b"HTTP/1.")
    assert taken == []


async def test_all_kinds_of_requests_in_one_connection_are_answered_in_order(shop: Open) -> None:
    made = await shop()
    made.running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    said = await made.running.raw(
        OPEN + HLS + OPEN + OPEN + LIVE + HLS + OPEN + LIVE[:-2] + b"Connection: close\r\n\r\n"
    )
    words = re.findall(rb'#EXTM3U|"operation"|"ok"', said)
    names = {b'"operation"': "open", b"#EXTM3U": "hls", b'"ok"': "live"}
    order = " ".join(names[word] for word in words)
    assert order == "open hls open open live hls open live"


def connections(shop: Shop) -> set[Any]:
    """Those that no aiohttp has."""
    return shop.running.worker.door._connections


async def test_a_body_that_comes_later_is_read_by_the_other_way(
    shop: Open, taken: list[str]
) -> None:
    made = await shop()
    whole = post('{"name":"x"}', made.bearer, JSON)
    async with connected(made) as (reader, writer):
        writer.write(whole[:-5])
        await eventually(lambda: made.running.worker.door.count and not connections(made))
        writer.write(whole[-5:] + OPEN)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
        await reader.readuntil(b'{"name": "x"}')
        assert (await reader.readuntil(b"\r\n\r\n")).endswith(b"\r\n\r\n")
    assert taken == []


async def test_a_bug_is_answered_500_and_ends_the_connection(shop: Open) -> None:
    made = await shop()
    made.stall.fails = ZeroDivisionError("a bug")
    said = await made.running.raw(OPEN + OPEN)
    status, fields, body = told(said)
    assert (status, fields["connection"]) == (500, "close")
    assert b"a bug" not in body
    made.stall.fails = None
    assert (await made.running.raw(OPEN, until=b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_who_goes_away_is_not_answered_any_more(shop: Open) -> None:
    made = await shop()
    made.stall.hold = asyncio.Event()
    async with connected(made) as (_, writer):
        writer.write(OPEN)
        await eventually(lambda: made.stall.calls)
        assert made.running.worker.lane.under_way == 1
    await eventually(lambda: not made.running.worker.lane.under_way)


async def test_what_is_under_way_is_answered_when_the_worker_stops(shop: Open) -> None:
    made = await shop()
    made.stall.hold = asyncio.Event()
    async with connected(made) as (reader, writer):
        writer.write(OPEN)
        await eventually(lambda: made.stall.calls)
        async with asyncio.TaskGroup() as group:
            group.create_task(made.running.worker.__aexit__(None, None, None))
            await eventually(lambda: not made.running.worker.door.listening)
            made.stall.hold.set()
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")


@pytest.fixture
async def upstream() -> AsyncIterator[FaultUpstream]:
    async with FaultUpstream() as server:
        yield server


async def passing(shop: Open, upstream: FaultUpstream, folder: Path) -> Shop:
    """A shop with a route to an upstream."""
    file = folder / "gateway.json"
    upstreams = [{"name": "up", "targets": [{"url": upstream.url}]}]
    route = {"name": "up", "path": "/v1/up/{rest...}", "to": [{"upstream": "up"}]}
    routes = [{**route, "access": "public"}]
    file.write_text(json.dumps({"upstreams": upstreams, "routes": routes}))
    made: Shop = await shop(gateway=GatewaySettings(config_file=file))
    return made


async def test_a_stream_is_passed_on_as_it_comes(
    shop: Open, upstream: FaultUpstream, tmp_path: Path, taken: list[str]
) -> None:
    made = await passing(shop, upstream, tmp_path)
    upstream.always = upstream.events
    async with connected(made) as (reader, writer):
        writer.write(asked("GET /v1/up/events") + OPEN)
        assert b"transfer-encoding: chunked" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readuntil(b"\n\n\r\n") == b"b\r\ndata: one\n\n\r\n"
        upstream.release.set()
        assert await reader.readuntil(b"0\r\n\r\n") == b"b\r\ndata: two\n\n\r\n0\r\n\r\n"
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert taken == ["/v1/up/events", "/v1/stall/open"]


async def test_who_reads_slowly_gets_all_of_it_and_nothing_piles_up(
    shop: Open, upstream: FaultUpstream, tmp_path: Path
) -> None:
    made = await passing(shop, upstream, tmp_path)
    size = 32 * 1_048_576
    upstream.always = upstream.status(200, "x" * size)
    async with connected(made) as (reader, writer):
        writer.write(asked("GET /v1/up/long"))
        await reader.readuntil(b"\r\n\r\n")
        await eventually(lambda: any(one._full for one in connections(made)))
        got = 0
        while line := await reader.readline():
            length = int(line, 16)
            await reader.readexactly(length + 2)
            got += length
            if not length:
                break
    assert got == size


async def test_an_answer_that_breaks_off_is_seen_to_be_broken(
    shop: Open, upstream: FaultUpstream, tmp_path: Path
) -> None:
    made = await passing(shop, upstream, tmp_path)
    upstream.always = upstream.half
    async with connected(made) as (reader, writer):
        writer.write(asked("GET /v1/up/half"))
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        rest = b""
        with contextlib.suppress(ConnectionResetError):
            rest = await reader.read()
    assert not rest.endswith(b"0\r\n\r\n")

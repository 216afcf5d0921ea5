"""A list is followed over HTTP as it is asked for once: same rights, limits and problems."""

import asyncio
import hashlib
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge.gateway.live import wants_events
from ops import metrics
from services._kit.operation import operations
from services._live.settings import LiveSettings
from tests.fakes.calls import served
from tests.fakes.clock import FakeClock
from tests.fakes.follower import Follower
from tests.fakes.following import Following, following
from tests.fakes.notes.service import NOTES
from tests.fakes.postgres import Postgres
from tests.fakes.small_gateway import SmallGateway

NOTES_PATH = "/v1/notes/notes"
EVENTS = {"Accept": "text/event-stream"}
DEADLINE_SECONDS = 20.0
SETTINGS = LiveSettings(gather_ms=5, heartbeat_seconds=0.2, look_seconds=3_600)


@dataclass
class Door:
    """A gateway to notes whose lists are followed."""

    gateway: SmallGateway
    live: Following
    clock: FakeClock

    def headers(self, *permissions: str, **more: Any) -> dict[str, str]:
        return self.gateway.bearer(*permissions, **more) | EVENTS

    async def add(self, title: str, **who: Any) -> None:
        told = await self.gateway.ask(
            "POST", NOTES_PATH, json={"title": title}, headers=self.gateway.bearer(**who)
        )
        assert told.status == 201, told

    @asynccontextmanager
    async def follow(
        self, path: str = NOTES_PATH, seen: Follower | None = None, **headers: str
    ) -> AsyncIterator["Followed"]:
        asked = self.headers() | headers
        if seen is not None and seen.last_id:
            asked["Last-Event-ID"] = seen.last_id
        async with self.gateway.client.get(path, headers=asked) as answer:
            yield Followed(answer, seen or Follower())


@dataclass
class Followed:
    """An answer that goes on."""

    answer: Any
    seen: Follower

    async def until(self, check: Callable[[Follower], object]) -> Follower:
        assert self.answer.status == 200, await self.answer.read()
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not check(self.seen):
                piece = await self.answer.content.readany()
                assert piece, f"it ended: {self.seen}"
                self.seen.feed(piece)
        return self.seen


Make = Callable[..., Awaitable[Door]]


@pytest.fixture
async def make(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack, served(postgres, NOTES) as calls:

        async def made(settings: LiveSettings = SETTINGS) -> Door:
            clock = FakeClock()
            live = await stack.enter_async_context(following(calls, settings, clock=clock))
            gateway = SmallGateway(tmp_path, services=calls.runtime, operations=operations([NOTES]))
            await stack.enter_async_context(gateway)
            gateway.gateway.stream(live.lists)
            return Door(gateway, live, clock)

        yield made
        await stack.aclose()


@pytest.fixture
async def door(make: Make) -> Door:
    return await make()


async def until(check: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not check():  # noqa: ASYNC110 - another task does it
            await asyncio.sleep(0.01)


async def test_it_is_told_as_it_happens(door: Door) -> None:
    await door.add("before")
    async with door.follow(**{"Accept-Encoding": "gzip, br"}) as followed:
        headers = followed.answer.headers
        assert headers["Content-Type"] == "text/event-stream"
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Accel-Buffering"] == "no"
        assert "Content-Encoding" not in headers
        assert "Content-Length" not in headers
        seen = await followed.until(lambda seen: seen.events)
        assert [item["title"] for item in seen.items.values()] == ["before"]
        await door.add("after", subject="bob")
        await followed.until(lambda seen: len(seen.items) == 2)
        await followed.until(lambda seen: seen.comments)
    await until(lambda: len(door.live.lists) == 0)
    await door.add("meanwhile")
    async with door.follow(seen=seen) as followed:
        await followed.until(lambda seen: len(seen.items) == 3)
    assert seen.kinds == ["page", "created", "created"]
    assert seen.doubled == []


async def test_refusals_are_problems(door: Door) -> None:
    ask = door.gateway.get
    assert (await ask(NOTES_PATH, headers=EVENTS)).status == 401
    told = await ask(NOTES_PATH, headers=door.headers("notes.note.add"))
    assert (told.status, told.json["code"]) == (403, "auth.forbidden")
    told = await ask(NOTES_PATH + "?nothing=1", headers=door.headers())
    assert (told.status, told.json["errors"][0]["parameter"]) == (422, "nothing")
    assert told.headers["Content-Type"].startswith("application/problem+json")
    assert len(door.live.lists) == 0


async def test_too_many_streams_are_refused(make: Make) -> None:
    door = await make(LiveSettings(tenant_streams_max=1, streams_max=2))
    async with door.follow() as first:
        await first.until(lambda seen: seen.events)
        told = await door.gateway.get(NOTES_PATH, headers=door.headers())
        assert (told.status, told.json["code"]) == (429, "live.tenant_full")
        assert int(told.headers["Retry-After"]) > 0
        async with door.follow(**door.headers(tenant="other")) as second:
            await second.until(lambda seen: seen.events)
            told = await door.gateway.get(NOTES_PATH, headers=door.headers(tenant="third"))
            assert (told.status, told.json["code"]) == (503, "live.full")
            assert int(told.headers["Retry-After"]) > 0


async def test_who_likes_json_gets_json(door: Door) -> None:
    for accept in ("*/*", "application/json", "application/json, text/event-stream"):
        headers = door.headers() | {"Accept": accept}
        told = await door.gateway.get(NOTES_PATH, headers=headers)
        assert told.json == {"data": [], "next_cursor": None}
    told = await door.gateway.get("/v1/notes/who", headers=door.headers())
    assert told.json == {}, "what is no list is not followed"
    head = await door.gateway.ask("HEAD", NOTES_PATH, headers=door.headers())
    assert (head.body, len(door.live.lists)) == (b"", 0)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("Text/Event-Stream; q=0.4, */*;q=0.1", True),
        ("text/event-stream, */*", True),
        ("text/event-stream;q=0.5, application/json;q=0.4", True),
        ("text/event-stream;q=0.5, application/json", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=x", False),
        ("text/*", False),
        ("", False),
    ],
)
def test_who_wants_events(accept: str, wanted: bool) -> None:
    assert wants_events(accept) is wanted


async def test_it_counts_once_against_the_limit(door: Door) -> None:
    door.gateway.configure(
        limits=[{"name": "few", "requests": 10, "seconds": 3_600}],
        overrides=[{"operations": "*", "limits": ["few"]}],
    )
    async with door.follow() as followed:
        assert '"few";r=9;' in followed.answer.headers["RateLimit"]
        for number in range(5):
            await door.add(f"note {number}", subject="bob")
        await followed.until(lambda seen: len(seen.items) == 5)
    told = await door.gateway.get(NOTES_PATH, headers=door.gateway.bearer())
    assert '"few";r=8;' in told.headers["RateLimit"]


async def test_a_kept_list_is_followed_all_the_same(door: Door) -> None:
    door.gateway.configure(overrides=[{"operations": "notes.notes", "cache": {"seconds": 60}}])
    for _ in range(2):
        told = await door.gateway.get(NOTES_PATH, headers=door.gateway.bearer())
    assert told.headers["Cache-Status"] == "nexus; hit"
    async with door.follow() as followed, door.follow() as other:
        await door.add("new")
        await followed.until(lambda seen: seen.items)
        await other.until(lambda seen: seen.items)


async def test_what_is_changed_on_the_way_is_not_streamed(door: Door) -> None:
    """An operator who takes members out of a list must find them nowhere."""
    change = {"json": {"remove": ["/data"]}}
    door.gateway.configure(overrides=[{"operations": "notes.*", "response": change}])
    told = await door.gateway.get(NOTES_PATH, headers=door.headers())
    assert (told.status, told.json["code"]) == (406, "gateway.not_acceptable")


async def test_it_ends_with_the_token(door: Door) -> None:
    async with door.follow() as followed:
        await followed.until(lambda seen: seen.events)
        door.clock.advance(3_700)
        seen = await followed.until(lambda seen: seen.ended)
        assert seen.ended["code"] == "auth.expired"
        assert await followed.answer.content.read() == b"", "and nothing behind it"


async def test_it_ends_when_keys_are_taken_away(door: Door) -> None:
    key = "a key of the till"
    consumer = {
        "name": "till",
        "tenant": "acme",
        "key_sha256": hashlib.sha256(key.encode()).hexdigest(),
        "permissions": ["notes.*"],
    }
    door.gateway.configure(consumers=[consumer])
    asked = {"X-Api-Key": key} | EVENTS
    async with door.gateway.client.get(NOTES_PATH, headers=asked) as answer:
        followed = Followed(answer, Follower())
        await followed.until(lambda seen: seen.events)
        door.gateway.configure(consumers=[])
        seen = await followed.until(lambda seen: seen.ended)
        assert (seen.ended["code"], seen.ended["retry"]) == ("auth.renew", True)
    assert (await door.gateway.get(NOTES_PATH, headers=asked)).status == 401
    async with door.follow() as followed:
        await followed.until(lambda seen: seen.events)
        door.gateway.gateway.flush()
        await followed.until(lambda seen: seen.ended)


async def test_many_are_told_at_once(door: Door) -> None:
    async with AsyncExitStack() as stack:
        opened = [await stack.enter_async_context(door.follow()) for _ in range(80)]
        for followed in opened:
            await followed.until(lambda seen: seen.events)
        await door.add("for all")
        for followed in opened:
            seen = await followed.until(lambda seen: seen.items)
            assert seen.kinds == ["page", "created"]


async def test_who_stops_reading_is_told_so(make: Make, postgres: Postgres) -> None:
    """Nothing is buffered for it beyond the limit and what the sockets take."""
    door = await make(
        LiveSettings(waiting_events_max=300, gather_ms=5, look_seconds=3_600, retry_ms=1)
    )
    await asyncio.to_thread(
        postgres.run,
        "INSERT INTO notes.note (id, tenant, title) SELECT 'n' || n, 'acme', repeat('x', 190) || n"
        " FROM generate_series(1, 200) n",
    )
    slow = _slow_client(door)
    try:
        await until(lambda: len(door.live.lists) == 1)
        async with door.follow(f"{NOTES_PATH}?limit=200") as quick:
            seen = await quick.until(lambda seen: seen.events)
            turns, before = 0, _slow_ones()
            while _slow_ones() == before:
                turns += 1
                assert turns < 100, "this is not bounded"
                await asyncio.to_thread(postgres.run, "UPDATE notes.note SET version = version + 1")
                door.live.lists.changed("notes", frozenset({"acme"}))
                wanted = 1 + 200 * turns
                await quick.until(lambda seen, n=wanted: len(seen.events) >= n)
            assert seen.doubled == []
        text = await asyncio.to_thread(_read_all, slow)
        assert b'event: end\ndata: {"code":"live.slow"' in text
        assert text.endswith(b"0\r\n\r\n"), "and it ends as an answer should"
        assert text.count(b"event: updated") < 200 * turns
    finally:
        slow.close()


def _slow_ones() -> float:
    """How many streams have ended so."""
    name = b'nexus_live_ended_total{code="live.slow"}'
    lines = [line for line in metrics.render().splitlines() if line.startswith(name)]
    return float(lines[0].rpartition(b" ")[2]) if lines else 0.0


def _slow_client(door: Door) -> socket.socket:
    """One that asks, and does not read."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    client.settimeout(DEADLINE_SECONDS)
    client.connect(("127.0.0.1", door.gateway.port))
    fields = "".join(f"{name}: {value}\r\n" for name, value in door.headers().items())
    request = f"GET {NOTES_PATH}?limit=200 HTTP/1.1\r\nHost: a\r\n{fields}\r\n"
    client.sendall(request.encode())
    return client


def _read_all(client: socket.socket) -> bytes:
    found = bytearray()
    while not found.endswith(b"0\r\n\r\n") and (piece := client.recv(1_048_576)):
        found += piece
    return bytes(found)


async def test_the_document_tells_of_it(door: Door) -> None:
    told = await door.gateway.get("/openapi.json")
    answers = told.json["paths"][NOTES_PATH]["get"]["responses"]["200"]["content"]
    assert set(answers) == {"application/json", "text/event-stream"}
    single = told.json["paths"][NOTES_PATH + "/{id}"]["get"]["responses"]["200"]["content"]
    assert set(single) == {"application/json"}
    assert json.dumps(told.json).count("Last-Event-ID") == 1

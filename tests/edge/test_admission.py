"""What one address and one key may take: 429 that names the limit, and nobody else notices."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from edge.access import AuthSettings, KeySettings
from edge.admission import Admission
from edge.http_head import fields_of
from edge.http_settings import HttpSettings
from edge.limit_settings import LimitSettings
from edge.problems import Refusal
from edge.settings import Settings
from media.messages import Grant, Play, Publish
from ops.settings import SettingsError, load
from tests.edge.conftest import Running, Start, eventually
from tests.fakes.clock import FakeClock

HLS = b"GET /hls/demo/v/live.m3u8 HTTP/1.1\r\nHost: localhost\r\n"
KEYS = AuthSettings(
    keys=(
        KeySettings("studio", secret="secret-studio"),
        KeySettings("other", secret="secret-other", actions=("publish", "read", "control")),
    )
)
PROXY = HttpSettings(trusted_proxies=("127.0.0.0/8",))


def no_limits(**some: Any) -> LimitSettings:
    """Only what a test is about is limited, loopback too."""
    names = [name for name in LimitSettings.__slots__ if name.startswith(("address_", "key_"))]
    return LimitSettings(**{"exempt": (), **dict.fromkeys(names, 0), **some})


def admission(clock: FakeClock, **some: Any) -> Admission:
    more = {name: some.pop(name) for name in ("workers", "trusted_proxies") if name in some}
    return Admission(no_limits(**some), clock=clock.monotonic, **more)


def problem_of(said: bytes) -> dict[str, Any]:
    head, _, body = said.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 429 "), said
    found: dict[str, Any] = json.loads(body)
    assert f"Retry-After: {found['retry_after_seconds']}\r\n".encode() in head + b"\r\n"
    return found


def fields(forwarded_for: str) -> Any:
    return fields_of([("Host", "localhost"), ("X-Forwarded-For", forwarded_for)])


async def ask(running: Running, address: str, *, key: str = "", data: bytes = HLS) -> bytes:
    """One request as a trusted proxy passes it on for that address."""
    lines = [f"X-Forwarded-For: {address}", "Connection: close"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    return await running.raw(data + "\r\n".join(lines).encode() + b"\r\n\r\n")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def test_a_rate_lets_a_burst_through_and_then_its_pace() -> None:
    clock = FakeClock()
    guard = admission(clock, address_requests_per_second_max=10)
    taker = guard.find("192.0.2.1")
    for _ in range(20):
        guard.request(taker)
    with pytest.raises(Refusal) as refused:
        guard.request(taker)
    assert refused.value.fields["limit"] == "limits.address_requests_per_second_max"
    guard.request(guard.find("192.0.2.2"))
    for _ in range(50):
        clock.advance(0.1)
        guard.request(taker)
        with pytest.raises(Refusal):
            guard.request(taker)


def test_an_ipv6_address_counts_as_its_network_and_a_mapped_one_as_ipv4() -> None:
    guard = admission(FakeClock(), address_connections_max=1)
    assert guard.find("2001:db8::1") is guard.find("2001:db8::ffff:2")
    assert guard.find("2001:db8::1") is not guard.find("2001:db8:0:1::1")
    assert guard.find("::ffff:192.0.2.1") is guard.find("192.0.2.1")


@pytest.mark.parametrize(("workers", "granted"), [(1, 100), (2, 100), (4, 50), (8, 25)])
def test_a_worker_grants_its_share(workers: int, granted: int) -> None:
    guard = admission(FakeClock(), address_connections_max=100, workers=workers)
    for _ in range(granted):
        guard.opened("192.0.2.1")
    with pytest.raises(Refusal):
        guard.opened("192.0.2.1")


def test_the_tables_are_bounded_and_forget_nobody_who_holds_something() -> None:
    guard = admission(FakeClock(), address_connections_max=1, tracked_max=16)
    held = guard.opened("192.0.2.1")
    for number in range(1_000):
        guard.find(f"198.51.{number // 250}.{number % 250}")
    with pytest.raises(Refusal):
        guard.opened("192.0.2.1")
    guard.closed(held)
    assert guard.tracked <= 16


@pytest.mark.parametrize(
    ("peer", "said", "address"),
    [
        ("192.0.2.9", "198.51.100.1", "192.0.2.9"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "203.0.113.7, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "198.51.100.1:4431", "198.51.100.1"),
        ("10.0.0.1", "[2001:db8::1]:4431", "2001:db8::1"),
        ("10.0.0.1", "198.51.100.1, nonsense", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.2", "10.0.0.1"),
        ("10.0.0.1", ", ,", "10.0.0.1"),
    ],
)
def test_only_a_trusted_proxy_is_believed(peer: str, said: str, address: str) -> None:
    guard = admission(FakeClock(), trusted_proxies=("10.0.0.0/24",))
    assert guard.address_of(peer, fields(said)) == address


def test_networks_are_checked_at_the_start() -> None:
    for name in ("NEXUS_LIMITS_EXEMPT", "NEXUS_EDGE_TRUSTED_PROXIES"):
        with pytest.raises(SettingsError, match=r"192\.0\.2\.0/24"):
            load(Settings, environment={name: "10.0.0.1/8"})


async def test_connections_of_an_address(start: Start) -> None:
    running: Running = await start(limits=no_limits(address_connections_max=2))
    held = [await asyncio.open_connection("127.0.0.1", running.port) for _ in range(2)]
    await eventually(lambda: running.worker.door.count == 2)
    refused = problem_of(await running.raw(b""))
    assert refused["code"] == "limits.connections"
    assert refused["limit"] == "limits.address_connections_max"
    other, writer = await asyncio.open_connection(
        "127.0.0.1", running.port, local_addr=("127.0.0.2", 0)
    )
    writer.write(HLS + b"Connection: close\r\n\r\n")
    assert (await other.read()).startswith(b"HTTP/1.1 404 ")
    for _, held_writer in (*held, (other, writer)):
        held_writer.close()
    await eventually(lambda: running.worker.door.count == 0)
    assert (await running.raw(HLS + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 404 ")


async def test_loopback_and_what_is_exempt_is_free(start: Start) -> None:
    limits = LimitSettings(address_connections_max=1, address_requests_per_second_max=1)
    running: Running = await start(limits=limits)
    first = await asyncio.open_connection("127.0.0.1", running.port)
    for _ in range(10):
        assert (await running.raw(HLS + b"Connection: close\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
    first[1].close()


@pytest.mark.parametrize("path", [b"/hls/demo/v/live.m3u8", b"/livez"], ids=["hls", "aiohttp"])
async def test_requests_of_an_address_on_one_connection(start: Start, path: bytes) -> None:
    running: Running = await start(limits=no_limits(address_requests_per_second_max=2))
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    request = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\n"
    said = await running.raw((request + b"\r\n") * 5 + request + b"Connection: close\r\n\r\n")
    assert said.count(b"HTTP/1.1 200 ") == 4
    assert said.count(b"HTTP/1.1 429 ") == 2
    assert b'"limit":"limits.address_requests_per_second_max"' in said
    assert b"Retry-After: 1\r\n" in said


async def test_behind_a_proxy_clients_are_told_apart(start: Start) -> None:
    limits = no_limits(address_requests_per_second_max=1)
    running: Running = await start(limits=limits, edge=PROXY, auth=KEYS)
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    request = HLS + b"Authorization: Bearer secret-studio\r\nX-Forwarded-For: "
    ends = (b"192.0.2.1", b"192.0.2.1", b"192.0.2.1", b"192.0.2.2", b"192.0.2.1")
    one_connection = b"".join(request + end + b"\r\n\r\n" for end in ends)
    said = await running.raw(one_connection + request + b"192.0.2.2\r\nConnection: close\r\n\r\n")
    statuses = [part[:3] for part in said.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"429", b"200", b"429", b"200"]


async def test_requests_that_wait_of_an_address(start: Start) -> None:
    running: Running = await start(limits=no_limits(address_blocked_max=2))
    running.shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=3")
    waits = HLS.replace(b"live.m3u8", b"live.m3u8?_HLS_msn=3") + b"\r\n"
    closing = waits[:-2] + b"Connection: close\r\n\r\n"
    tasks = [asyncio.ensure_future(running.raw(closing)) for _ in range(2)]
    await eventually(lambda: running.worker.hls.waiting == 2)
    assert problem_of(await running.raw(closing))["limit"] == "limits.address_blocked_max"
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n", query="_HLS_msn=3")
    running.media.hls_changed("demo")
    assert all(said.startswith(b"HTTP/1.1 200 ") for said in await asyncio.gather(*tasks))
    running.shelf.expect("demo", "v/live.m3u8", query="_HLS_msn=4")
    again = closing.replace(b"msn=3", b"msn=4")
    for _ in range(3):
        _, writer = await asyncio.open_connection("127.0.0.1", running.port)
        writer.write(again)
        await eventually(lambda: running.worker.hls.waiting == 1)
        writer.close()
        await eventually(lambda: running.worker.hls.waiting == 0)


async def test_offers_of_an_address_and_of_a_key(start: Start, http: aiohttp.ClientSession) -> None:
    limits = no_limits(address_joins_per_minute_max=3, key_joins_per_minute_max=2)
    running: Running = await start(limits=limits, edge=PROXY, auth=KEYS)
    running.media.live("demo")

    async def offer(address: str, key: str) -> tuple[int, str]:
        headers = {
            "Content-Type": "application/sdp",
            "Authorization": f"Bearer {key}",
            "X-Forwarded-For": address,
        }
        url = f"{running.url}/whep/demo"
        async with http.post(url, data="v=0\r\na=ice-ufrag:abcd\r\n", headers=headers) as reply:
            body = await reply.read()
            if reply.status == 429:
                assert int(reply.headers["Retry-After"]) >= 1
                return 429, str(json.loads(body)["limit"])
            return reply.status, ""

    for number in range(2):
        assert await offer(f"192.0.2.{number}", "secret-studio") == (201, "")
    assert await offer("192.0.2.3", "secret-studio") == (429, "limits.key_joins_per_minute_max")
    assert await offer("192.0.2.3", "secret-other") == (201, "")
    assert (await offer("192.0.2.3", "no-such-key"))[0] == 401
    assert await offer("192.0.2.3", "secret-other") == (429, "limits.address_joins_per_minute_max")
    assert await offer("192.0.2.4", "secret-other") == (201, "")


async def test_offers_of_the_node_are_503(start: Start, http: aiohttp.ClientSession) -> None:
    running: Running = await start(limits=no_limits(joins_per_second_max=1))
    running.media.live("demo")
    headers = {"Content-Type": "application/sdp"}
    statuses = []
    for _ in range(4):
        url = f"{running.url}/whep/demo"
        async with http.post(url, data="v=0\r\na=ice-ufrag:abcd\r\n", headers=headers) as reply:
            statuses.append(reply.status)
            if reply.status == 503:
                assert reply.headers["Retry-After"] == "1"
                assert (await reply.json(content_type=None))[
                    "limit"
                ] == "limits.joins_per_second_max"
    assert statuses[:2] == [201, 201]
    assert 503 in statuses
    assert len(running.media.asked(Play)) == statuses.count(201)


async def test_media_is_told_whose_sessions_to_count(
    start: Start, http: aiohttp.ClientSession
) -> None:
    limits = LimitSettings(address_sessions_max=7, key_sessions_max=9)
    running: Running = await start(limits=limits, edge=PROXY, auth=KEYS)
    headers = {"Content-Type": "application/sdp", "Authorization": "Bearer secret-studio"}
    data = "v=0\r\na=ice-ufrag:abcd\r\n"
    for address in ("2001:db8::77", ""):
        more = {"X-Forwarded-For": address} if address else {}
        async with http.post(
            f"{running.url}/whip/demo", data=data, headers={**headers, **more}
        ) as reply:
            assert reply.status == 201
    grants = [message.grant for message in running.media.asked(Publish)]
    actions = ("publish", "read")
    assert grants == [
        Grant("studio", actions, 0.0, "2001:db8::/64", 7, 9),
        Grant("studio", actions, 0.0, "", 0, 9),
    ]


async def test_guessing_keys_ends_in_429_and_locks_nobody_out(start: Start) -> None:
    limits = no_limits(address_failures_per_minute_max=5)
    running: Running = await start(limits=limits, edge=PROXY, auth=KEYS)
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    neighbour, elsewhere = "192.0.2.1", "192.0.2.2"
    assert (await ask(running, neighbour, key="secret-other")).startswith(b"HTTP/1.1 200 ")
    for number in range(5):
        said = await ask(running, neighbour, key=f"guess-{number}")
        assert said.startswith(b"HTTP/1.1 401 ")
    for key in ("guess-6", "secret-studio"):
        refused = problem_of(await ask(running, neighbour, key=key))
        assert refused["limit"] == "limits.address_failures_per_minute_max"
    in_path = HLS.replace(b"/hls/", b"/hls/~guess-7/")
    assert problem_of(await ask(running, neighbour, data=in_path))["code"] == "limits.failures"
    api = b"GET /api/v1/streams HTTP/1.1\r\nHost: localhost\r\n"
    said = await ask(running, neighbour, key="guess-8", data=api)
    assert said.startswith(b"HTTP/1.1 429 ")
    assert (await ask(running, neighbour, key="secret-other")).startswith(b"HTTP/1.1 200 ")
    assert (await ask(running, elsewhere, key="secret-studio")).startswith(b"HTTP/1.1 200 ")
    assert b" 401 " in (await ask(running, neighbour))


async def test_requests_of_a_key_on_either_path(start: Start) -> None:
    limits = no_limits(key_requests_per_second_max=2)
    running: Running = await start(limits=limits, auth=KEYS)
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    request = HLS + b"Authorization: Bearer secret-studio\r\n"
    said = await running.raw((request + b"\r\n") * 5 + request + b"Connection: close\r\n\r\n")
    assert said.count(b"HTTP/1.1 200 ") == 4
    assert said.count(b'"limit":"limits.key_requests_per_second_max"') == 2
    api = b"GET /api/v1/streams HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    refused = problem_of(await running.raw(api + b"Authorization: Bearer secret-studio\r\n\r\n"))
    assert refused["limit"] == "limits.key_requests_per_second_max"
    said = await running.raw(api + b"Authorization: Bearer secret-other\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")

"""PostgreSQL or Valkey restarted under load: errors are 503s, and all is well 2 s after it is back.

A server is back when a connection of the test's own gets its first answer from it, so the time that
it takes to start and to recover does not count. From 2 s after that on nobody is refused any more,
and what is enqueued is done. No answer at any time is anything but right or a 503 with Retry-After,
and none takes longer than the service allows. Without Valkey nobody is refused at all.
"""

import asyncio
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from tests.end_to_end.family import fetch
from tests.end_to_end.figures import say
from tests.end_to_end.service_node import Node
from tests.fakes.postgres import PostgresServer
from tests.fakes.state_node import alive, data_directory
from tests.fakes.steady_clients import LISTS, Answered, Load

RECOVERY_SECONDS = 2.0 if os.environ.get("NEXUS_PROVE") == "1" else 15.0
"""As claimed, on a machine that does nothing else; the short form finds what is broken."""
CALM_SECONDS = 1.0
"""How long nobody must have been refused until a test takes it for over."""
DEADLINE_SECONDS = 10.0
"""That of the service's routes (`Route.seconds_max`)."""
BACK_SECONDS = 60.0
KINDS = {"read", "page", "write"}
SHOW = {"name": "Show", "capacity": 100_000, "ends_at": "2099-01-01T00:00:00Z"}
LIMITS = """
[[limits]]
name = "everybody"
requests = 1000000
key = "all"
shared = true

[[overrides]]
operations = "*"
limits = ["everybody"]
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """With a limit that all workers count together, so that each request asks Valkey."""
    folder = tmp_path_factory.mktemp("restarted")
    (folder / "gateway.toml").write_text(LIMITS)
    settings = {
        "NEXUS_EDGE_WORKERS": "2",
        "NEXUS_GATEWAY_CONFIG_FILE": str(folder / "gateway.toml"),
    }
    with data_directory() as data, Node(folder, data, **settings) as made:
        yield made


@asynccontextmanager
async def steady(node: Node) -> AsyncIterator[Load]:
    """Clients that have all been served, and go on until the body has ended."""
    status, show = node.ask("POST", LISTS, SHOW)
    assert status == 201, show
    load = Load(node.url, node.token, show["id"])
    async with asyncio.TaskGroup() as group:
        group.create_task(load.run())
        try:
            await until("all are served", lambda: len(load.invited) >= 20)
            assert not load.told(lambda one: not one.good)
            yield load
        finally:
            load.stop()


async def until(what: str, check: Callable[[], Any], seconds: float = BACK_SECONDS) -> None:
    """Polls until it is so."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)


async def answers(url: str) -> bool:
    """Whether a client gets in and gets an answer."""
    with suppress(OSError, TimeoutError, asyncpg.PostgresError):
        connection = await asyncpg.connect(url, timeout=1)
        try:
            return bool(await connection.fetchval("SELECT 1"))
        finally:
            connection.terminate()
    return False


async def back(url: str) -> float:
    """The moment of the first answer of PostgreSQL."""
    async with asyncio.timeout(BACK_SECONDS):
        while not await answers(url):  # noqa: ASYNC110  another process
            await asyncio.sleep(0.01)
    return time.monotonic()


async def calm(load: Load, ready: float) -> float:
    """Waits until each kind has been served and nobody refused for a moment; seconds from `ready`
    to the end of the last refusal, or of each kind's first good answer."""

    def over() -> bool:
        now = time.monotonic()
        late = [one for one in load.answers if one.ended > now - CALM_SECONDS]
        served = {one.kind for one in load.since(ready) if one.good}
        return now > ready + CALM_SECONDS and served == KINDS and all(one.good for one in late)

    await until("nobody is refused any more", over)
    first: dict[str, float] = {}
    for one in load.since(ready):
        if one.good:
            first.setdefault(one.kind, one.ended)
    refused = [one.ended for one in load.answers if not one.good and one.ended > ready]
    return max([*first.values(), *refused]) - ready


def judge(load: Load, *, refuses: bool = True) -> None:
    """That nobody got an answer that nobody should get."""

    def wrong(one: Answered) -> bool:
        return not one.good and not (refuses and one.excused)

    assert not load.told(wrong)
    assert max(one.ended - one.began for one in load.answers) < DEADLINE_SECONDS


async def check_writes(load: Load, url: str) -> None:
    """What was acknowledged is there, once; and nothing that nobody asked for."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT data->>'name' FROM guest_list.event WHERE stream = $1 AND version > 1",
            load.list_id,
        )
    finally:
        await connection.close()
    names = [row[0] for row in rows]
    assert len(names) == len(set(names)), "a guest was invited twice"
    assert load.invited <= set(names) <= load.asked


async def done(node: Node, list_id: str, url: str) -> float:
    """Invites a guest; the moment when the letter was written and the read model has the guest."""
    body = {"name": "Late", "email": "late@example.org"}
    once = {"Idempotency-Key": f'"{list_id}"'}
    path = f"{LISTS}/{list_id}/guests"
    sql = (
        "SELECT EXISTS (SELECT FROM guest_list.invitation WHERE guest = $1)"
        " AND EXISTS (SELECT FROM guest_list.guest WHERE id = $1)"
    )
    async with asyncio.timeout(BACK_SECONDS):
        status, made = 0, None
        while status != 201:
            status, made = await asyncio.to_thread(node.ask, "POST", path, body, **once)
            await asyncio.sleep(0.01)
        connection = await asyncpg.connect(url)
        try:
            while not await connection.fetchval(sql, made["id"]):  # noqa: ASYNC110  a worker's work
                await asyncio.sleep(0.01)
        finally:
            await connection.close()
    return time.monotonic()


async def disturbed(
    node: Node,
    url: str,
    disturb: Callable[[], Coroutine[Any, Any, None]],
    *,
    what: str,
) -> None:
    """Disturbs PostgreSQL under load and judges. url: as one who sees all."""
    status, aside = node.ask("POST", LISTS, SHOW)
    assert status == 201, aside
    async with steady(node) as load:
        began = time.monotonic()
        await disturb()
        ready = await back(url)
        in_the_background = await done(node, aside["id"], url) - ready
        seconds = await calm(load, ready)
    refused = load.told(lambda one: not one.good)
    say(
        f"PostgreSQL {what} under load",
        away_seconds=ready - began,
        recovery_seconds=seconds,
        background_seconds=in_the_background,
        refused=refused.total(),
        answers=len(load.answers),
        longest_seconds=max(one.ended - one.began for one in load.answers),
    )
    assert refused, "nobody noticed"
    judge(load)
    await check_writes(load, url)
    assert seconds <= RECOVERY_SECONDS
    assert in_the_background <= RECOVERY_SECONDS


async def gone(node: Node, name: str, number: int) -> None:
    """Signals one of the node's servers, and waits for its end."""
    pid = node.servers()[name]
    os.kill(pid, number)
    await until(f"{name} has ended", lambda: not alive(pid))


@pytest.mark.parametrize(
    ("what", "number"), [("killed", signal.SIGKILL), ("stopped", signal.SIGINT)]
)
async def test_postgres_comes_back(node: Node, what: str, number: int) -> None:
    await disturbed(
        node,
        node.database_url("nexus_admin"),
        lambda: gone(node, "postgres", number),
        what=what,
    )


async def test_nobody_misses_valkey(node: Node) -> None:
    path = node.data / node.region / "valkey/valkey.sock"
    async with steady(node) as load:
        failed = calls(node, "failed")
        await gone(node, "valkey", signal.SIGKILL)
        await until("Valkey answers", lambda: pings(path))
        ready = time.monotonic()
        answered = calls(node, "answered")
        await until("workers ask it again", lambda: calls(node, "answered") > answered)
        seconds = time.monotonic() - ready
        await calm(load, ready)
    say(
        "Valkey killed under load",
        recovery_seconds=seconds,
        answers=len(load.answers),
        failed_calls=calls(node, "failed") - failed,
        longest_seconds=max(one.ended - one.began for one in load.answers),
    )
    judge(load, refuses=False)
    assert seconds <= RECOVERY_SECONDS


def calls(node: Node, outcome: str) -> float:
    """Calls of Valkey for shared limits, of all workers."""
    wanted = f'nexus_gateway_shared_limits_total{{outcome="{outcome}"}}'
    lines = fetch(f"{node.url}/metrics")[1].decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(wanted))


def pings(path: Path) -> bool:
    with suppress(OSError), socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(1)
        asking.connect(str(path))
        asking.sendall(b"PING\r\n")
        return asking.recv(16) == b"+PONG\r\n"
    return False


@pytest.mark.prove
async def test_a_server_of_yours_is_away_for_long(tmp_path: Path) -> None:
    """Pauses between tries have grown by then, and are not to be waited for."""
    with PostgresServer() as server, data_directory() as data:
        database = server.database()
        settings = {
            "NEXUS_EDGE_WORKERS": "2",
            "NEXUS_DATABASE_URL": database.url,
            "NEXUS_DATABASE_ADMIN_URL": database.admin_url,
        }

        async def away() -> None:
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(20)
            await asyncio.to_thread(server.start)

        with Node(tmp_path, data, **settings) as node:
            await disturbed(node, database.admin_url, away, what="away for 20 s")

"""kill -9 of any process of a node while its guest lists are written: nothing is lost or doubled.

The node is whole: supervisor, edge, media, worker and state, with its PostgreSQL and Valkey; beside
it a stranger's consumer, and in the long form on Kafka the broker. Each is killed at random moments
while clients write over HTTP (`tests/fakes/guest_writers.py`); afterwards what they were told is
compared with what is there (`tests/fakes/guest_ledger.py`).
"""

import asyncio
import io
import os
import random
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import psutil
import pytest

from ops.db import Database, DatabaseSettings
from services._events.outbox import CHANNEL
from services._events.projection import rebuild
from services._kit import audit
from services.entertainment.guest_list.store import BOARD
from tests.end_to_end.family import wait_until
from tests.end_to_end.figures import say
from tests.end_to_end.service_node import Node
from tests.fakes.guest_ledger import Found, Ledger, Outcome, judge, read
from tests.fakes.guest_writers import TENANTS, Writers
from tests.fakes.kafka import Kafka, kafka
from tests.fakes.state_node import data_directory
from tests.fakes.witness import Witness

__all__ = ["kafka"]

LONG_KILLS = 100
WRITERS = 6
PAUSE_SECONDS = 0.3
IMPATIENCE = 0.25
"""The share of kills that do not wait until the one before is overcome."""
RECOVERY_SECONDS = 60.0
DRAIN_SECONDS = 90.0
REPEATED = 30
SHORT = ("worker", "postgres", "edge", "state", "supervisor", "valkey")
WEIGHTS = {
    "edge": 4,
    "worker": 4,
    "witness": 3,
    "postgres": 3,
    "session": 3,
    "state": 2,
    "supervisor": 2,
    "valkey": 1,
    "media": 1,
}
"""How often each is killed; "session": a process of PostgreSQL's, that takes all of them down."""
QUICK = {
    "NEXUS_EDGE_WORKERS": "2",
    "NEXUS_EVENTS_LEASE_SECONDS": "2",
    "NEXUS_EVENTS_POLL_SECONDS": "0.5",
    "NEXUS_JOBS_LEASE_SECONDS": "2",
    "NEXUS_JOBS_POLL_SECONDS": "0.5",
    "NEXUS_STATE_START_SECONDS": "15",
    "NEXUS_STATE_STOP_SECONDS": "2",
}
"""Two edge workers; and leases of dead processes end sooner than the test's patience, as does that
with a PostgreSQL which hangs: one that loses another process while it recovers may."""


class Doomed:
    """A node, the witness and maybe a broker: killed by name, and back."""

    def __init__(self, node: Node, witness: Witness, broker: Kafka | None) -> None:
        self.node = node
        self._witness = witness
        self._broker = broker
        self.weights = WEIGHTS | ({"broker": 2} if broker is not None else {})

    def kill(self, name: str, chance: random.Random) -> None:
        """SIGKILL. What nobody else starts again is started here."""
        if name == "witness":
            self._witness.kill()
            self._witness.start()
        elif name == "broker":
            assert self._broker is not None
            self._broker.kill()
            self._broker.start()
        elif name == "supervisor":
            assert self.node.process is not None
            self.node.process.kill()
            self.node.process.wait()
            self.node.start_again()
        else:
            wait_until(f"{name} lives", lambda: self._pids(name), RECOVERY_SECONDS)
            with suppress(ProcessLookupError, IndexError):
                os.kill(chance.choice(self._pids(name)), signal.SIGKILL)

    def _pids(self, name: str) -> list[int]:
        servers = self.node.servers()
        if name == "session":
            with suppress(psutil.Error, KeyError):
                return [one.pid for one in psutil.Process(servers["postgres"]).children()]
            return []
        if name in {"postgres", "valkey"}:
            return [servers[name]] if name in servers else []
        return self.node.pids(name)


def kill_one_after_the_other(
    doomed: Doomed, ledger: Ledger, names: Sequence[str], chance: random.Random
) -> None:
    """Each at a random moment; most of them only when writes go on after the one before."""
    for name in names:
        before = ledger.acknowledged
        if chance.random() >= IMPATIENCE:
            wait_until(
                f"writes go on before {name} is killed",
                lambda before=before: ledger.acknowledged > before or ledger.faults,
                RECOVERY_SECONDS,
            )
        if ledger.faults:
            return
        time.sleep(chance.uniform(0, PAUSE_SECONDS))
        doomed.kill(name, chance)
    before = ledger.acknowledged
    wait_until(
        "writes go on after the last",
        lambda: ledger.acknowledged >= before + 10 or ledger.faults,
        RECOVERY_SECONDS,
    )


async def write_under_kills(doomed: Doomed, names: Sequence[str], seed: int) -> None:
    """Kills these while clients write, then judges."""
    tokens = {tenant: await asyncio.to_thread(doomed.node.minted, tenant) for tenant in TENANTS}
    ledger = Ledger()
    writers = Writers(doomed.node.url, tokens, ledger, seed=seed)
    chance = random.Random(seed)
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        group.create_task(writers.run(WRITERS))
        try:
            await asyncio.to_thread(kill_one_after_the_other, doomed, ledger, names, chance)
        finally:
            writers.stop()
    say(
        "writes under kills",
        kills=len(names),
        seconds=time.monotonic() - began,
        acknowledged=ledger.acknowledged,
        refused=len(ledger.of(Outcome.NO)),
        unknown=len(ledger.of(Outcome.UNKNOWN)),
        tries_cut=ledger.cuts,
        tries_max=max(one.tries for one in ledger.asked),
    )
    found = await drained(doomed.node)
    judge(ledger, found)
    await check_audit_chain(doomed.node)
    await check_repeats(doomed.node, writers, ledger, found)
    await check_replay(doomed.node)


async def connected(node: Node) -> asyncpg.Connection:
    """As one who sees all; waits until the server is back from the last kill."""
    async with asyncio.timeout(RECOVERY_SECONDS):
        while True:
            with suppress(OSError, asyncpg.PostgresError):
                return await asyncpg.connect(node.database_url("nexus_admin"), timeout=5)
            await asyncio.sleep(0.05)


async def drained(node: Node) -> Found:
    """What is there when all has come to rest, or when time is over."""
    admin = await connected(node)
    deadline = time.monotonic() + DRAIN_SECONDS
    try:
        while True:
            found = await read(admin)
            if found.at_rest or time.monotonic() > deadline:
                return found
            await asyncio.sleep(0.2)
    finally:
        await admin.close()


async def check_audit_chain(node: Node) -> None:
    async with Database(node.database_url(), DatabaseSettings(connections_max=2)) as database:
        for tenant in TENANTS:
            async with database.session("guest_list", tenant=tenant) as session:
                assert await audit.verify(session) is None


async def check_repeats(node: Node, writers: Writers, ledger: Ledger, found: Found) -> None:
    """Who asks again with the key of an answered request gets that answer, and nothing happens."""
    answered = ledger.of(Outcome.YES)
    for asked in random.Random(1).sample(answered, min(REPEATED, len(answered))):
        assert await writers.repeat(asked) == (asked.status, asked.answer, True), asked
    admin = await connected(node)
    try:
        assert (await read(admin)).events == found.events
    finally:
        await admin.close()


async def check_replay(node: Node) -> None:
    """Read models that are made anew from the log are the same, byte for byte."""
    admin = await connected(node)
    try:
        before = await shown(admin)
        async with (
            Database(node.database_url(), DatabaseSettings(connections_max=2)) as database,
            database.session("guest_list", tenant="") as session,
        ):
            generation = await rebuild(session, BOARD)
            await session.run("SELECT pg_notify($1, 'guest_list')", CHANNEL)
        active = "SELECT generation FROM guest_list.projection WHERE active"
        async with asyncio.timeout(DRAIN_SECONDS):
            while await admin.fetchval(active) != generation:  # noqa: ASYNC110  a worker's work
                await asyncio.sleep(0.05)
        assert await shown(admin) == before
    finally:
        await admin.close()


async def shown(admin: asyncpg.Connection) -> dict[str, bytes]:
    """The active read models as text, without their generation."""
    columns = {
        "board": "tenant, id, name, capacity, taken, ends_at, closed, version",
        "guest": "tenant, id, guest_list, name, seats, status",
    }
    made = {}
    for table, names in columns.items():
        text = io.BytesIO()
        sql = (
            f"SELECT {names} FROM guest_list.{table} WHERE generation ="
            " (SELECT generation FROM guest_list.projection WHERE active) ORDER BY id"
        )
        await admin.copy_from_query(sql, output=text)
        made[table] = text.getvalue()
        assert made[table]
    return made


async def check(
    tmp_path: Path, names: Sequence[str], *, broker: Kafka | None = None, seed: int
) -> None:
    """The scene. names: whom to kill; without any, `LONG_KILLS` by chance, each once at first."""
    settings: dict[str, Any] = dict(QUICK)
    if broker is not None:
        settings |= {"NEXUS_NODE_REGION": broker.region(), "NEXUS_KAFKA": broker.servers}
    with data_directory() as data, Node(tmp_path, data, **settings) as node:
        async with Witness(
            tmp_path,
            node.database_url(),
            admin_url=node.database_url("nexus_admin"),
            region=node.region,
            kafka=broker.servers if broker is not None else "",
        ) as witness:
            doomed = Doomed(node, witness, broker)
            await write_under_kills(doomed, names or chosen(doomed.weights, seed), seed)


def chosen(weights: dict[str, int], seed: int) -> list[str]:
    """Everyone once in any order, then by their weights."""
    chance = random.Random(seed)
    first = list(weights)
    chance.shuffle(first)
    rest = chance.choices(list(weights), list(weights.values()), k=LONG_KILLS)
    return [*first, *rest][:LONG_KILLS]


async def test_kills_at_random_moments(tmp_path: Path) -> None:
    names = random.Random(5).sample(SHORT, len(SHORT))
    await check(tmp_path, names, seed=5)


@pytest.mark.prove
async def test_a_hundred_kills(tmp_path: Path) -> None:
    await check(tmp_path, (), seed=6)


@pytest.mark.prove
async def test_a_hundred_kills_on_kafka(tmp_path: Path, kafka: Kafka) -> None:
    await check(tmp_path, (), broker=kafka, seed=7)

"""Whatever is killed and when: what was acknowledged is there, told once and in order.

Processes of ours are killed at random moments, and the database server itself, on both buses; in
the long form the broker too.
"""

import asyncio
import multiprocessing
import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.courier import TENANTS, Life, Town, settle, until, work_for_ever, write_for_ever
from tests.fakes.postgres import Postgres, PostgresServer

SHORT_KILLS = 8
LONG_KILLS = 100
PAUSE_SECONDS = (0.02, 0.25)
DRAIN_SECONDS = 90.0
DATABASE = ("the database",)
BROKER = ("the broker",)


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A server of its own, since it is killed; what it acknowledged has left its process."""
    with PostgresServer() as server:
        made = server.database()
        asyncio.run(settle(made, tmp_path))
        made.run(f'ALTER DATABASE "{made.name}" SET synchronous_commit = on')
        yield made


class Family:
    """A writer, two relays with read models, two consumers: each replaced when it was killed."""

    def __init__(self, town: Town, acknowledged: Path, servers: dict[tuple[str, ...], Any]) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tests.fakes.courier"])
        self._town = town
        self._acknowledged = str(acknowledged)
        self._started = 0
        carry = ("relay", "project", "sweep events")
        self.roles: list[tuple[str, ...]] = [(), carry, carry, *[("consume taker",)] * 2]
        self.roles += servers
        self._servers = servers
        self._alive: dict[int, BaseProcess] = {}

    def start(self, place: int) -> None:
        """Starts one, or starts it again; servers run already."""
        self._started += 1
        only = self.roles[place]
        if only in self._servers:
            return
        if only:
            made = self._context.Process(target=work_for_ever, args=(self._town, only))
        else:
            given = (self._town, self._acknowledged, self._started)
            made = self._context.Process(target=write_for_ever, args=given)
        made.start()
        self._alive[place] = made

    def kill(self, place: int) -> None:
        """SIGKILL; a server is started again at once."""
        role = self.roles[place]
        if role in self._servers:
            self._servers[role].kill()
            self._servers[role].start()
            return
        process = self._alive.pop(place)
        assert process.is_alive(), f"{self.roles[place] or 'the writer'} ended by itself"
        process.kill()
        process.join()
        process.close()

    def end(self) -> None:
        for place in list(self._alive):
            self.kill(place)


@contextmanager
def family(town: Town, acknowledged: Path, servers: dict[tuple[str, ...], Any]) -> Iterator[Family]:
    made = Family(town, acknowledged, servers)
    try:
        for place in range(len(made.roles)):
            made.start(place)
        yield made
    finally:
        made.end()


def kill_at_random(
    town: Town, acknowledged: Path, kills: int, servers: dict[tuple[str, ...], Any]
) -> str:
    """Kills one after the other while all work, and starts each again; what was acknowledged."""
    chance = random.Random(kills)
    with family(town, acknowledged, servers) as alive:
        deadline = time.monotonic() + 30
        while not acknowledged.exists() or not acknowledged.stat().st_size:
            assert time.monotonic() < deadline, "nothing was written"
            time.sleep(0.01)
        # Everyone once; then a server once for four of the others, as it takes seconds to start.
        places = list(range(len(alive.roles)))
        chance.shuffle(places)
        weights = [1 if role in servers else 4 for role in alive.roles]
        places += chance.choices(range(len(alive.roles)), weights, k=kills)
        for place in places[:kills]:
            time.sleep(chance.uniform(*PAUSE_SECONDS))
            alive.kill(place)
            alive.start(place)
    return acknowledged.read_text()


async def check(life: Life, postgres: Postgres, acknowledged: str) -> None:
    """The promises, once everything has come to rest."""
    moves: dict[str, int] = {}
    told: dict[str, list[int]] = defaultdict(list)
    for tenant in TENANTS:
        async with life.database.session("sender", tenant=tenant) as session:
            moves |= {row["id"]: row["moves"] for row in await session.rows("SELECT * FROM thing")}
            for row in await session.rows(
                "SELECT stream, (data->>'number')::int AS number FROM event ORDER BY version"
            ):
                told[row["stream"]].append(row["number"])

    lines = [line.split() for line in acknowledged.splitlines()]
    promised = Counter[str]()
    for thing, number in lines:
        promised[thing] = max(promised[thing], int(number))
    assert promised, "nothing was acknowledged"
    assert {thing: count for thing, count in promised.items() if moves[thing] < count} == {}
    whole = {thing: list(range(1, count + 1)) for thing, count in moves.items()}
    assert told == whole, "each change has its event, each event its change"

    heard: dict[str, list[int]] = defaultdict(list)

    async def all_heard() -> bool:
        return len(await life.effects()) >= sum(moves.values())

    await until(all_heard, DRAIN_SECONDS)
    for thing, number in await life.effects():
        heard[thing].append(number)
    assert heard == whole, "each effect once, in its key's order"

    async def all_shown() -> bool:
        return postgres.run("SELECT coalesce(sum(moves), 0) FROM sender.board") >= sum(
            moves.values()
        )

    await until(all_shown, DRAIN_SECONDS)
    board: dict[str, str] = {}
    for tenant in TENANTS:
        async with life.database.session("sender", tenant=tenant) as session:
            rows = await session.rows("SELECT thing, path FROM board")
        board |= {row["thing"]: row["path"] for row in rows}
    assert board == {thing: " ".join(map(str, numbers)) for thing, numbers in whole.items()}
    assert postgres.run("SELECT count(*) FROM taker.parked") == 0


async def killed(town: Town, postgres: Postgres, lines: str) -> None:
    async with town.life() as life:
        life.run()
        await check(life, postgres, lines)


async def test_kills_at_random_moments(town: Town, postgres: Postgres, tmp_path: Path) -> None:
    servers = {DATABASE: postgres.server}
    lines = kill_at_random(town, tmp_path / "acknowledged", SHORT_KILLS, servers)
    await killed(town, postgres, lines)


@pytest.mark.prove
async def test_a_hundred_kills(
    town: Town, postgres: Postgres, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    servers: dict[tuple[str, ...], Any] = {DATABASE: postgres.server}
    if town.kafka:
        servers[BROKER] = request.getfixturevalue("kafka")
    lines = kill_at_random(town, tmp_path / "acknowledged", LONG_KILLS, servers)
    await killed(town, postgres, lines)

"""Two small services and the bus between them: `sender` moves things, `taker` writes down what it
hears. Used in tests of events, in their process and in processes of their own that may be killed.
"""

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Final

import asyncpg
import msgspec
import pytest

from ops.db import Database, DatabaseSettings, Session
from ops.db_faults import DatabaseFault
from ops.migrate import Folder, Schema, migrate
from ops.notices import Notices
from ops.state.settings import KafkaSettings
from ops.tasks import Restart, SupervisedGroup
from services._bus.inbox import Consumer, Reaction
from services._bus.kafka import KafkaBus
from services._bus.loops import Part, loops
from services._bus.port import Bus
from services._bus.postgres import BUS, PostgresBus
from services._events.event import Envelope, Event, Origin, partition, position
from services._events.outbox import publish
from services._events.projection import Projection, Recorded
from services._events.settings import EventsSettings
from services._events.store import Aggregate, execute
from tests.fakes.postgres import LOGIN, Postgres, PostgresServer

ROOT: Final = Path(__file__).resolve().parent.parent.parent
TENANTS: Final = ("acme", "other")
SETTINGS: Final = EventsSettings(
    gather_ms=5,
    lease_seconds=2.0,
    poll_seconds=0.5,
    retry_first_seconds=0.0,
    kafka_partitions=3,
)

SENDER: Final = """
CREATE TABLE thing (tenant text NOT NULL, id text PRIMARY KEY, moves integer NOT NULL);
CREATE TABLE board (
    tenant text NOT NULL, generation integer NOT NULL, thing text NOT NULL, moves integer NOT NULL,
    path text NOT NULL, PRIMARY KEY (generation, thing)
);
"""
TAKER: Final = """
CREATE SEQUENCE effect_seq;
CREATE TABLE effect (
    seq bigint PRIMARY KEY DEFAULT nextval('effect_seq'),
    tenant text NOT NULL, event text NOT NULL, thing text NOT NULL, number integer NOT NULL
);
"""


EMPTY: Final = """
DO $$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT n.nspname, c.relname FROM pg_class c
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname IN ('sender', 'taker', 'bus') AND c.relkind IN ('r', 'p')
            AND NOT c.relispartition AND c.relname NOT IN ('head', 'relay_cursor', 'log_epoch')
    LOOP
        EXECUTE format('DELETE FROM %I.%I', one.nspname, one.relname);
    END LOOP;
    UPDATE bus.head SET position = 0;
    UPDATE sender.relay_cursor
        SET epoch = 0, xid = '0', seq = 0, owner = '', lease_until = '-infinity';
    UPDATE taker.relay_cursor
        SET epoch = 0, xid = '0', seq = 0, owner = '', lease_until = '-infinity';
    UPDATE sender.log_epoch SET epoch = 1, system = s.system_identifier FROM pg_control_system() s;
END $$
"""


class Moved(Event):
    """A thing was moved once more."""

    TYPE: ClassVar[str] = "nexus.test.thing.moved.v1"
    KEY: ClassVar[str] = "thing"
    thing: str
    number: int


class Painted(Event):
    """A thing has another colour."""

    TYPE: ClassVar[str] = "nexus.test.paint.painted.v1"
    KEY: ClassVar[str] = "thing"
    thing: str
    colour: str


class Thing(msgspec.Struct, frozen=True):
    """The state of a thing."""

    moves: int = 0


def evolve(state: Thing, event: Event) -> Thing:
    assert isinstance(event, Moved)
    assert event.number == state.moves + 1
    return Thing(event.number)


THING: Final = Aggregate(
    "thing", events=(Moved,), initial=Thing(), evolve=evolve, snapshot_every=10
)


async def show(session: Session, generation: int, recorded: Recorded) -> None:
    """The read model: how often each thing was moved, and the path of its numbers."""
    event = recorded.event
    assert isinstance(event, Moved)
    await session.run(
        "INSERT INTO board (tenant, generation, thing, moves, path) VALUES ($1, $2, $3, 1, $4)"
        " ON CONFLICT (generation, thing) DO UPDATE SET moves = board.moves + 1,"
        " path = board.path || ' ' || $4",
        recorded.tenant,
        generation,
        event.thing,
        str(event.number),
    )


BOARD: Final = Projection("board", version=1, events=(Moved,), apply=show, tables=("board",))


async def write_down(session: Session, envelope: Envelope, event: Event) -> None:
    """The taker's reaction."""
    assert isinstance(event, Moved)
    await session.run(
        "INSERT INTO effect (tenant, event, thing, number) VALUES ($1, $2, $3, $4)",
        envelope.tenant,
        envelope.id,
        event.thing,
        event.number,
    )


def origin(tenant: str = "acme", region: str = "eu1") -> Origin:
    return Origin("sender", region, tenant, "usr_1", "00-11-22-01")


async def move(session: Session, thing: str, region: str = "eu1") -> int:
    """One move, as one transaction: the thing's row, its event, the outbox. Its number."""
    tenant = session.pin.tenant
    async with session.transaction():
        found = await execute(
            session,
            THING,
            thing,
            lambda state: [Moved(thing=thing, number=state.moves + 1)],
            origin=origin(tenant, region),
        )
        await session.run(
            "INSERT INTO thing (tenant, id, moves) VALUES ($1, $2, 1)"
            " ON CONFLICT (id) DO UPDATE SET moves = thing.moves + 1",
            tenant,
            thing,
        )
    return found.version


async def say(session: Session, *events: Event, region: str = "eu1") -> None:
    """Publishes without a store, in a transaction of its own."""
    async with session.transaction():
        await publish(session, events, origin=origin(session.pin.tenant, region))


def envelope(thing: str, number: int, region: str = "eu1", **changed: Any) -> Envelope:
    """An event as a relay would send it."""
    fields = {
        "id": f"evt_{uuid.uuid4().hex}",
        "type": Moved.TYPE,
        "source": f"/v1/sender/{region}",
        "subject": thing,
        "time": "2026-11-23T12:00:00.000001Z",
        "tenant": "acme",
        "region": region,
        "partitionkey": thing,
        "sequence": position(epoch=1, xid=7, seq=number),
        "data": msgspec.Raw(msgspec.json.encode(Moved(thing=thing, number=number))),
        "traceparent": "00-11-22-01",
    }
    return Envelope(**(fields | changed))


def same_partition(count: int) -> list[str]:
    """Keys that share one virtual partition."""
    keys = (f"thg_{number}" for number in range(100_000))
    wanted = partition("thg_0")
    return [key for key in keys if partition(key) == wanted][:count]


def schemas(folder: Path) -> list[Schema]:
    """The bus and the two services."""
    kernel = Folder("events", ROOT / "services/_events/migrations")
    made = [BUS]
    for name, sql in (("sender", SENDER), ("taker", TAKER)):
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "0001_create_tables.sql").write_text(sql)
        made.append(Schema(name, (kernel, Folder(name, folder / name))))
    return made


@dataclass(frozen=True, slots=True)
class Town:
    """Where the two services live: handed to other processes as it is."""

    url: str
    region: str = "eu1"
    kafka: KafkaSettings | None = None
    """How to reach it, when that is the bus."""
    settings: EventsSettings = SETTINGS

    @asynccontextmanager
    async def life(self, connections_max: int = 12) -> AsyncIterator["Life"]:
        """Database, bus and wake-ups of one process."""
        async with (
            Database(self.url, DatabaseSettings(connections_max=connections_max)) as database,
            SupervisedGroup("courier") as group,
        ):
            notices = Notices(self.url, DatabaseSettings())
            if self.kafka is None:
                bus = PostgresBus(database, notices, self.settings, region=self.region)
                yield Life(self, database, bus, notices, group)
                return
            async with KafkaBus(self.kafka, self.settings, region=self.region) as kafka_bus:
                yield Life(self, database, kafka_bus, notices, group)


@dataclass(frozen=True, slots=True)
class Life:
    """One process's connections."""

    town: Town
    database: Database
    bus: Bus
    notices: Notices
    group: SupervisedGroup

    def run(
        self,
        reaction: Reaction = write_down,
        *,
        hold: bool = False,
        only: Sequence[str] = (),
        settings: EventsSettings | None = None,
    ) -> None:
        """Starts the loops a worker has, all or only those of these names."""
        taker = Consumer("taker", "taker", {Moved: reaction}, hold=hold)
        parts = [Part("sender", projections=(BOARD,)), Part("taker", consumer=taker)]
        for name, make in loops(
            parts,
            database=self.database,
            bus=self.bus,
            notices=self.notices,
            region=self.town.region,
            settings=settings or self.town.settings,
        ):
            if not only or name in only:
                self.keep(name, make)
        self.keep("notices", self.notices.run)

    def keep(self, name: str, make: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.group.keep(name, make, Restart(pause_seconds_max=0.2))

    async def effects(self) -> list[tuple[str, int]]:
        """What the taker has written down, in its order, of all tenants."""
        found = []
        for tenant in TENANTS:
            async with self.database.session("taker", tenant=tenant) as session:
                found += await session.rows("SELECT seq, thing, number FROM effect")
        return [(row["thing"], row["number"]) for row in sorted(found, key=lambda row: row["seq"])]


async def settle(postgres: Postgres, folder: Path) -> None:
    """Migrates a database, with files written into the folder."""
    await migrate(postgres.admin_url, schemas(folder), logins=(LOGIN,))


def empty(postgres: Postgres) -> None:
    """As it was after its migrations; a tenth of the time that another database takes."""
    postgres.run(EMPTY)


@pytest.fixture(scope="session")
def settled(
    postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Postgres]:
    """One database for the tests that take `postgres` from here."""
    made = postgres_server.database()
    asyncio.run(settle(made, tmp_path_factory.mktemp("migrations")))
    yield made
    postgres_server.drop(made.name)


@pytest.fixture
def postgres(settled: Postgres) -> Postgres:
    """The two services' tables, empty."""
    empty(settled)
    return settled


async def until(condition: Callable[[], Coroutine[Any, Any, Any]], seconds: float = 20.0) -> None:
    """Waits for something that is asked for again and again."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110 - other processes make it true
            await asyncio.sleep(0.01)


def write_for_ever(town: Town, acknowledged: str, seed: int) -> None:
    """A process: moves things, and notes each move in a file once it was acknowledged."""
    asyncio.run(_write(town, acknowledged, seed))


def work_for_ever(town: Town, only: Sequence[str]) -> None:
    """A process: relays, consumes or projects."""
    asyncio.run(_work(town, only))


async def _write(town: Town, acknowledged: str, seed: int) -> None:
    chance = random.Random(seed)
    file = os.open(acknowledged, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    async def one(tenant: str) -> None:
        # Two at a time, so that commits overtake each other.
        while True:
            thing = f"thg_{tenant}_{chance.randrange(4)}"
            try:
                async with database.session("sender", tenant=tenant) as session:
                    number = await move(session, thing, town.region)
            except (DatabaseFault, asyncpg.PostgresError):
                await asyncio.sleep(0.02)
                continue
            os.write(file, f"{thing} {number}\n".encode())

    async with (
        Database(town.url, DatabaseSettings(connections_max=4)) as database,
        asyncio.TaskGroup() as group,
    ):
        for tenant in TENANTS:
            group.create_task(one(tenant))


async def _work(town: Town, only: Sequence[str]) -> None:
    async with town.life() as life:
        life.run(only=only)
        await life.group.join()

"""`nexus bench events`: what an event costs from its outbox to its effect, over PostgreSQL alone.

    outbox.publish  CPU µs an event written with its change, twenty in a transaction
    outbox.relay    CPU µs an event carried from the outbox to the embedded bus
    inbox.take      CPU µs an event read from the bus, its effect and its inbox row in one
                    transaction each
    events.way      how long after it was written an event's effect is done, at a steady pace:
                    p50, p95, p99 in ms

CPU is that of this process and of all processes of the server, user and system; the server must run
on this machine. `--database` names it, as one who may create databases; what is measured happens in
a database of its own, which is dropped. How the server flushes is its own business.
"""

import argparse
import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Final
from urllib.parse import urlsplit

import asyncpg

from benchmarks.options import count, seconds
from benchmarks.process import cpu_seconds, family
from benchmarks.progress import Progress
from benchmarks.results import Row, percentile
from ops.clock import SYSTEM
from ops.db import Database, DatabaseSettings, Session
from ops.migrate import Folder, Schema, migrate
from ops.notices import Notices
from ops.tasks import SupervisedGroup
from services._bus.inbox import Consumer, Inbox
from services._bus.loops import Consuming
from services._bus.postgres import BUS, PostgresBus
from services._bus.relay import Relay
from services._events import outbox
from services._events.event import Envelope, Event, Origin
from services._events.settings import EventsSettings

KEYS: Final = 1_000
IN_A_TRANSACTION: Final = 20
SETTLE_SECONDS_MAX: Final = 300.0
_ORIGIN: Final = Origin("sender", "eu1", "acme", "bench")
_SETTINGS: Final = EventsSettings()


class Counted(Event):
    """What is sent: about a hundred bytes, and when."""

    TYPE: ClassVar[str] = "nexus.bench.thing.counted.v1"
    KEY: ClassVar[str] = "thing"
    thing: str
    number: int
    sent_at: float = 0.0
    text: str = "a hundred bytes or so, as events of services are"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nexus bench events`."""
    parser.add_argument("--database", required=True, help="PostgreSQL, as one who may make others")
    parser.add_argument("--events", type=count, default=50_000, help="of each measurement")
    parser.add_argument("--pace", type=count, default=100, help="events a second on their way")
    parser.add_argument("--seconds", type=seconds, default=10.0, help="of that pace")


async def run(chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    """Rows of all measurements, one each time. Raises LookupError, OSError, TimeoutError."""
    progress.expect(4 * chosen.repeat)
    rows: list[Row] = []
    for _ in range(chosen.repeat):
        async with scratch(chosen.database) as world:
            rows += await carry(world, chosen.events, progress)
            rows.append(await on_the_way(world, chosen.pace, chosen.seconds))
            progress.advance()
    return [replace(row, note=chosen.note) for row in rows]


@dataclass(slots=True)
class World:
    """A database with two services in it."""

    url: str
    database: Database
    notices: Notices
    bus: PostgresBus
    server: int
    """Process of the server, whose children have a connection each."""

    def cpu(self) -> float:
        return cpu_seconds(os.getpid(), *family(self.server))


@asynccontextmanager
async def scratch(url: str) -> AsyncIterator[World]:
    """A database of its own on the server. Raises OSError when it cannot be reached."""
    name = f"nexus_bench_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(url)
    await admin.execute(f'CREATE DATABASE "{name}"')
    parts = urlsplit(url)
    own = parts._replace(path=f"/{name}").geturl()
    try:
        await migrate(own, schemas())
        notices = Notices(own, DatabaseSettings())
        async with Database(own, DatabaseSettings()) as database:
            bus = PostgresBus(database, notices, _SETTINGS, region="eu1")
            backend = await admin.fetchval("SELECT pg_backend_pid()")
            yield World(own, database, notices, bus, _parent(backend))
    finally:
        await admin.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
        await admin.close()


def schemas() -> list[Schema]:
    """The bus, who sends and who takes."""
    kernel = Folder("events", Path(outbox.__file__).parent / "migrations")
    return [BUS, Schema("sender", (kernel,)), Schema("taker", (kernel,))]


async def carry(world: World, events: int, progress: Progress) -> list[Row]:
    """Writes so many events, then relays them, then takes them in."""
    handled = 0

    async def react(session: Session, _: Envelope, event: Event) -> None:
        nonlocal handled
        assert isinstance(event, Counted)
        handled += 1
        await session.run("SELECT 1")

    inbox = Inbox(world.database, Consumer("taker", "taker", {Counted: react}), _SETTINGS)
    relay = Relay(
        world.database,
        world.bus,
        world.notices,
        schemas=["sender"],
        region="eu1",
        settings=_SETTINGS,
    )

    async def publish() -> None:
        async with world.database.session("sender", tenant="acme") as session:
            for start in range(0, events, IN_A_TRANSACTION):
                numbers = range(start, min(start + IN_A_TRANSACTION, events))
                made = [Counted(thing=f"thg_{item % KEYS}", number=item) for item in numbers]
                async with session.transaction():
                    await outbox.publish(session, made, origin=_ORIGIN)

    async def carry_all() -> None:
        while await relay.relay("sender"):
            pass

    async def take_all() -> None:
        async with SupervisedGroup("bench") as group:
            group.start("consume", Consuming(world.bus, inbox, _SETTINGS).run())
            await until(lambda: handled >= events)

    rows = []
    for name, work in (
        ("outbox.publish", publish),
        ("outbox.relay", carry_all),
        ("inbox.take", take_all),
    ):
        progress.say(name)
        rows.append(await measured(world, name, events=events, work=work))
        progress.advance()
    return rows


async def measured(
    world: World, bench: str, *, events: int, work: Callable[[], Awaitable[None]]
) -> Row:
    """CPU and pace of some work on so many events."""
    cpu, began = world.cpu(), SYSTEM.monotonic()
    await work()
    lasted = SYSTEM.monotonic() - began
    spent = world.cpu() - cpu
    return Row(
        bench=bench,
        clients=1,
        unit="event",
        cpu_us=round(spent / events * 1e6, 1),
        per_second=round(events / lasted),
    )


async def on_the_way(world: World, pace: int, lasting: float) -> Row:
    """Latency from writing to effect, while relay and consumer run as in a worker."""
    ways: list[float] = []

    async def react(session: Session, _: Envelope, event: Event) -> None:
        assert isinstance(event, Counted)
        await session.run("SELECT 1")
        ways.append((SYSTEM.unix() - event.sent_at) * 1e3)

    inbox = Inbox(world.database, Consumer("other", "taker", {Counted: react}), _SETTINGS)
    relay = Relay(
        world.database,
        world.bus,
        world.notices,
        schemas=["sender"],
        region="eu1",
        settings=_SETTINGS,
    )
    wanted = int(pace * lasting)
    async with SupervisedGroup("bench") as group:
        consuming = Consuming(world.bus, inbox, _SETTINGS)
        group.start("consume", consuming.run())
        group.start("relay", relay.run())
        group.start("notices", world.notices.run())
        # It reads all that was sent before, first.
        await until(lambda: bool(ways))
        before = -1
        while before < len(ways):
            before = len(ways)
            await asyncio.sleep(1.0)
        ways.clear()
        cpu = world.cpu()
        async with world.database.session("sender", tenant="acme") as session:
            for number in range(wanted):
                async with session.transaction():
                    event = Counted(
                        thing=f"thg_{number % KEYS}", number=number, sent_at=SYSTEM.unix()
                    )
                    await outbox.publish(session, [event], origin=_ORIGIN)
                await asyncio.sleep(1.0 / pace)
        await until(lambda: len(ways) >= wanted)
        spent = world.cpu() - cpu
    return Row(
        bench="events.way",
        clients=1,
        unit="event",
        cpu_us=round(spent / wanted * 1e6, 1),
        p50_ms=percentile(ways, 0.5),
        p95_ms=percentile(ways, 0.95),
        p99_ms=percentile(ways, 0.99),
        per_second=pace,
        lost=wanted - len(ways),
    )


async def until(condition: Callable[[], bool]) -> None:
    """Waits for it. Raises TimeoutError."""
    async with asyncio.timeout(SETTLE_SECONDS_MAX):
        while not condition():  # noqa: ASYNC110 - other tasks make it true
            await asyncio.sleep(0.005)


def _parent(pid: int) -> int:
    """Raises LookupError: the server runs elsewhere."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError as fault:
        raise LookupError("the server does not run on this machine") from fault
    return int(stat.rpartition(")")[2].split()[1])

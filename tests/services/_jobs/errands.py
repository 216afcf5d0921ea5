"""A service that has jobs and nothing else, and a world to run it in: a database, its tables."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from ops.db import Database, DatabaseSettings, Row, Session
from ops.errors import Rejected
from ops.ids import IdMaker
from ops.migrate import Folder, Schema, migrate
from ops.notices import Notices
from ops.tasks import SupervisedGroup
from services import _jobs
from services._jobs.attempt import Outcome, Work, attempt
from services._jobs.desk import BY_INDEX, Claim, Desk
from services._jobs.job import Backoff, Job
from services._jobs.queue import CHANNEL, enqueue
from services._jobs.runner import Runner
from services._jobs.settings import JobSettings
from tests.fakes.postgres import LOGIN, Postgres

WAIT_SECONDS = 20.0
SCHEMA = "errands"
SETTINGS = JobSettings(poll_seconds=0.5, lease_seconds=5.0, grace_seconds=1.0)
QUICK = Backoff(first_seconds=0.05, factor=1.0, spread=0.0)


class What(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An errand's arguments."""

    what: Annotated[str, msgspec.Meta(max_length=300_000)]


@dataclass(frozen=True, slots=True)
class Hands:
    """What a handler gets, as the kit's Store is."""

    db: Session
    tenant: str

    async def write(self, what: str) -> None:
        await self.db.run("INSERT INTO effect (tenant, what) VALUES ($1, $2)", self.tenant, what)


async def write(store: Hands, arguments: What) -> None:
    """Leaves its effect."""
    await store.write(arguments.what)


async def fail(store: Hands, arguments: What) -> None:
    """Leaves its effect, and fails after it."""
    await store.write(arguments.what)
    raise ValueError(f"no luck with {arguments.what}")


async def refuse(store: Hands, arguments: What) -> None:
    """Says that it is no use."""
    await store.write(arguments.what)
    raise Rejected("the card has expired", code="test.expired")


async def hang(store: Hands, arguments: What) -> None:
    """Leaves its effect and never ends."""
    await store.write(arguments.what)
    await asyncio.Event().wait()


async def tick(store: Hands) -> None:
    """A scheduled job."""
    if store.tenant:
        await store.write("tick")


WRITE = Job("write", write, timeout_seconds=30)
FAIL = Job("fail", fail, timeout_seconds=30, retries_max=2, backoff=QUICK)
REFUSE = Job("refuse", refuse, timeout_seconds=30)
HANG = Job("hang", hang, timeout_seconds=30)
SHORT = Job("short", hang, timeout_seconds=0.2, retries_max=1, backoff=QUICK)
JOBS = (WRITE, FAIL, REFUSE, HANG, SHORT)


@dataclass(frozen=True, slots=True)
class Errands:
    """The service."""

    jobs: tuple[Job, ...] = JOBS
    schema: str = SCHEMA


async def run_handler(_owner: Any, job: Job, arguments: Any, tenant: str, session: Session) -> None:
    """Runs a handler as the kit does, without a kit."""
    hands = Hands(session, tenant)
    await (job.handler(hands) if arguments is None else job.handler(hands, arguments))


def schemas(*names: str) -> list[Schema]:
    """Schemas with a queue and a table of effects."""
    kernel = Folder("jobs", Path(_jobs.__path__[0]) / "migrations")
    own = Folder("errands", Path(__file__).parent / "migrations")
    return [Schema(name, (kernel, own)) for name in names or (SCHEMA,)]


@dataclass(frozen=True, slots=True)
class World:
    """A database with the service's tables."""

    postgres: Postgres
    database: Database
    ids: IdMaker

    async def enqueue(
        self, job: Job, what: str = "", *, tenant: str = "acme", schema: str = SCHEMA, **more: Any
    ) -> str:
        """Enqueues one in a transaction of its own."""
        async with self.database.session(schema, tenant=tenant) as session, session.transaction():
            arguments = None if job.is_scheduled else What(what=what)
            return await enqueue(session, job, arguments, tenant=tenant, ids=self.ids, **more)

    async def enqueue_many(self, job: Job, count: int, *, tenant: str = "acme") -> None:
        """Enqueues many in one transaction; effects are their numbers."""
        async with self.database.session(SCHEMA, tenant=tenant) as session, session.transaction():
            for number in range(count):
                arguments = What(what=str(number))
                await enqueue(session, job, arguments, tenant=tenant, ids=self.ids)

    async def jobs(self, schema: str = SCHEMA) -> Sequence[Row]:
        """All rows of the queue, of every tenant."""
        async with self.database.relay("") as session:
            return await session.rows(f"SELECT * FROM {schema}.job ORDER BY id")

    async def effects(self, schema: str = SCHEMA) -> list[tuple[str, str]]:
        """Tenant and effect of every row, in the order of their writing."""
        async with self.database.relay("") as session:
            rows = await session.rows(f"SELECT tenant, what FROM {schema}.effect ORDER BY number")
        return [(row["tenant"], row["what"]) for row in rows]

    async def has_done(self, count: int) -> bool:
        """Whether that many effects are there."""
        return len(await self.effects()) >= count

    async def is_empty(self) -> bool:
        """Whether no job is left."""
        return not await self.jobs()

    async def is_all_dead(self) -> bool:
        """Whether there are jobs, dead ones alone."""
        return {row["state"] for row in await self.jobs()} == {"dead"}

    async def runs(self, count: int) -> bool:
        """Whether that many jobs run."""
        return sum(row["state"] == "running" for row in await self.jobs()) == count

    async def listens(self) -> bool:
        """Whether a worker hears notices."""
        sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'nexus-notices'"
        async with self.database.relay("") as session:
            return bool(await session.value(sql))

    async def waits_for_a_lock(self) -> bool:
        """Whether a session of this database waits for another's transaction."""
        sql = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
        async with self.database.relay("") as session:
            return bool(await session.value(sql))

    async def claim(self, desk: Desk, most: int = 1, lease_seconds: float = 30.0) -> list[Claim]:
        async with self.database.relay("") as session:
            return await desk.claim(session, most, lease_seconds)

    async def sweep(self, desk: Desk, losses_max: int = 10) -> tuple[int, list[str]]:
        async with self.database.relay("") as session:
            return await desk.sweep(session, losses_max)

    async def replay(self, desk: Desk, job: str) -> bool:
        async with self.database.relay("") as session:
            return await desk.replay(session, job)

    async def attempt(self, desk: Desk, claim: Claim) -> Outcome:
        owner = Errands(tuple(desk.jobs.values()), desk.schema)
        return await attempt(Work(owner, desk, run_handler, self.database, self.database), claim)

    @asynccontextmanager
    async def runner(
        self,
        owners: Sequence[Errands] = (Errands(),),
        settings: JobSettings = SETTINGS,
        *,
        hears: bool = True,
    ) -> AsyncIterator[Runner]:
        """A worker in this process, with a pool of its own."""
        notices = Notices(self.postgres.url, DatabaseSettings())
        async with (
            Database(self.postgres.url, DatabaseSettings()) as database,
            Database(self.postgres.url, DatabaseSettings(), options=BY_INDEX) as claims,
            SupervisedGroup("test") as group,
            Runner(database, owners, run_handler, settings, claims=claims, ids=self.ids) as runner,
        ):
            for name, make in runner.loops():
                group.keep(name, make)
            if hears:
                notices.subscribe(CHANNEL, runner.heard)
                group.keep("notices", notices.run)
            yield runner


async def make_tables(postgres: Postgres, *names: str) -> None:
    """Migrates one schema, or those of these names."""
    await migrate(postgres.admin_url, schemas(*names), logins=[LOGIN])


@asynccontextmanager
async def world(postgres: Postgres, *names: str) -> AsyncIterator[World]:
    """Makes the tables; one schema, or those of these names."""
    await make_tables(postgres, *names)
    settings = replace(DatabaseSettings(), connections_max=60, wait_seconds=20.0)
    async with Database(postgres.url, settings, options=BY_INDEX) as database:
        yield World(postgres, database, IdMaker("eu1"))


async def until(true: Callable[[], Awaitable[bool]], seconds: float = WAIT_SECONDS) -> None:
    """Waits for something to come true."""
    async with asyncio.timeout(seconds):
        while not await true():  # noqa: ASYNC110  a row of a database
            await asyncio.sleep(0.01)

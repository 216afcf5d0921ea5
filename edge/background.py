"""The role `worker`: runs the jobs and schedules of all services, and carries their events.

It holds no socket and nothing that is lost with it: any number of workers share the work by leases
in the database. It starts without the database, and without its tables; it waits for them, and goes
on by itself whenever the database comes back. When it is stopped running jobs get their grace.
"""

import asyncio
from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Any, Final

import asyncpg

from edge import event_parts
from edge.services_side import ServicesSide
from edge.settings import Settings
from ops.db import Database, Session
from ops.db_faults import DatabaseFault
from ops.ids import IdMaker
from ops.inherited import Inherited
from ops.log import get_logger
from ops.notices import Notices
from ops.tasks import Restart, SupervisedGroup
from services._bus.loops import loops
from services._bus.port import Bus
from services._jobs.desk import BY_INDEX
from services._jobs.job import Job
from services._jobs.queue import CHANNEL
from services._jobs.runner import Runner
from services._jobs.settings import JobSettings
from services._kit.actor import Actor
from services._kit.call import Runtime
from services._kit.service import Service

CONNECTIONS_BESIDE: Final = 4
"""Connections of a worker beside those of its jobs, and those with which it claims them."""
STOP_SPARE_SECONDS: Final = 1.5
"""What of `node.stop_seconds` is kept for rolling back and giving jobs to others."""
_AGAIN: Final = Restart(pause_seconds_max=1.0)
"""However long the database was away, work goes on soon after it is back."""

_log = get_logger("edge.background")


async def run(settings: Settings, given: Inherited) -> None:
    """Serves until cancelled; running jobs then get `jobs.grace_seconds`. Raises SettingsError."""
    region, jobs, pool = settings.node.region, _jobs(settings), settings.database
    most = max(pool.connections_max, jobs.running_max + CONNECTIONS_BESIDE)
    side = ServicesSide(replace(settings, database=replace(pool, connections_max=most)))
    url = side.addresses.database_url
    claiming = replace(pool, connections_max=CONNECTIONS_BESIDE)
    notices = Notices(url, pool)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        claims = await enter(Database(url, claiming, options=BY_INDEX))
        await tables_made(claims, side.services)
        await enter(side)
        bus = await enter(_bus(side, notices, settings))
        group = await enter(SupervisedGroup("worker"))
        runner = await enter(
            Runner(
                side.database,
                side.services,
                Handlers(side.runtime).run,
                jobs,
                claims=claims,
                ids=IdMaker(region),
            )
        )
        notices.subscribe(CHANNEL, runner.heard)
        carried = loops(
            event_parts.parts(side.services, side.runtime),
            database=side.database,
            bus=bus,
            notices=notices,
            region=region,
            settings=settings.events,
        )
        for name, make in [*runner.loops(), *carried, ("notices", notices.run)]:
            group.keep(name, make, _AGAIN)
        given.ready()
        await asyncio.Event().wait()


def _bus(
    side: ServicesSide, notices: Notices, settings: Settings
) -> AbstractAsyncContextManager[Bus]:
    return event_parts.bus(
        side.database,
        notices,
        settings.events,
        region=settings.node.region,
        kafka=settings.kafka,
    )


def _jobs(settings: Settings) -> JobSettings:
    """The grace ends before the supervisor's patience does."""
    most = max(0.0, settings.node.stop_seconds - STOP_SPARE_SECONDS)
    return replace(settings.jobs, grace_seconds=min(settings.jobs.grace_seconds, most))


class Handlers:
    """Runs jobs' handlers with the hands that the kit makes: as the service itself, in a tenant."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def run(
        self, service: Service, job: Job, arguments: Any, tenant: str, session: Session
    ) -> None:
        """For `services._jobs.attempt.Run`."""
        await self._runtime.fence(session, tenant)
        actor = Actor(
            id=f"{service.name}.{job.name}",
            tenant=tenant,
            kind="job",
            permissions=frozenset({f"{service.name}.*"}),
        )
        store = self._runtime.store(service, session, actor)
        await (job.handler(store) if arguments is None else job.handler(store, arguments))


async def tables_made(database: Database, services: Iterable[Service]) -> None:
    """Waits until the database answers and has every service's queue."""
    names = [f"{service.schema}.job" for service in services]
    tries = 0
    while not await _has_tables(database, names):
        tries += 1
        if tries == 1:
            _log.info("waiting for the services' tables")
        await asyncio.sleep(_AGAIN.pause_seconds(tries + 1))


async def _has_tables(database: Database, names: Sequence[str]) -> bool:
    sql = "SELECT bool_and(to_regclass(name) IS NOT NULL) FROM unnest($1::text[]) AS name"
    try:
        async with database.relay("") as session:
            return bool(await session.value(sql, names))
    except (DatabaseFault, asyncpg.PostgresError):
        # Away, or nobody has made the roles yet.
        return False

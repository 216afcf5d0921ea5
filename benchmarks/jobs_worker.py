"""A worker process of `nexus bench jobs`: says that it is there, waits for a line, runs jobs."""

import asyncio
import sys
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
import uvloop

from ops import log
from ops.db import Database, DatabaseSettings, Session
from ops.ids import IdMaker
from ops.log import LogSettings
from ops.tasks import SupervisedGroup
from services._jobs.desk import BY_INDEX
from services._jobs.job import Job
from services._jobs.runner import Runner
from services._jobs.settings import JobSettings

CLAIMING: Final = 4
"""Connections with which jobs are claimed."""
SCHEMA: Final = "bench"


class What(msgspec.Struct, frozen=True):
    """The job's arguments."""

    number: int


async def write(session: Session, arguments: What) -> None:
    """One row."""
    await session.run("INSERT INTO effect VALUES ($1, $2)", session.pin.tenant, arguments.number)


WRITE: Final = Job("write", write, timeout_seconds=30)


@dataclass(frozen=True, slots=True)
class Owner:
    """The service that has the job."""

    schema: str = SCHEMA
    jobs: tuple[Job, ...] = (WRITE,)


async def _run(_owner: Any, job: Job, arguments: Any, _tenant: str, session: Session) -> None:
    await job.handler(session, arguments)


async def main(url: str) -> None:
    """Works until it is killed."""
    log.configure(LogSettings(level="warning"), role="worker")
    settings = JobSettings()
    pool = replace(DatabaseSettings(), connections_max=settings.running_max + 4)
    async with (
        Database(url, pool) as database,
        Database(url, replace(pool, connections_max=CLAIMING), options=BY_INDEX) as claims,
        SupervisedGroup("worker") as group,
        Runner(database, [Owner()], _run, settings, claims=claims, ids=IdMaker()) as runner,
    ):
        async with database.relay("") as session:
            await session.value("SELECT 1")
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        for name, make in runner.loops():
            group.keep(name, make)
        await asyncio.Event().wait()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(main(sys.argv[1]))

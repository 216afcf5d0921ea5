"""`nexus bench jobs`: what a durable job costs, from its claim to the commit of its effect.

Jobs of several tenants lie ready, each to write one row. Worker processes run them; measured is the
CPU time of the workers and of PostgreSQL for each job, from the workers' first job to the last.
PostgreSQL is an embedded one of its own, durable as a node's is.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from benchmarks import options
from benchmarks.jobs_worker import SCHEMA, WRITE, What
from benchmarks.process import cpu_seconds, family
from benchmarks.progress import Progress
from benchmarks.results import ROOT, Row
from edge.settings import Settings
from ops import log
from ops.clock import SYSTEM
from ops.db import Database
from ops.ids import IdMaker
from ops.log import LogSettings
from ops.migrate import Folder, Schema, migrate
from ops.state.embedded import Embedded
from ops.state.places import LOGIN, addresses
from services import _jobs
from services._jobs.queue import enqueue

_TABLE: Final = """
CREATE TABLE effect (tenant text NOT NULL, number integer NOT NULL);
CREATE POLICY relay ON effect TO nexus_relay USING (true);
GRANT SELECT ON effect TO nexus_relay;
"""
_CONNECTIONS: Final = 200
_BATCH: Final = 500
_LOOK_SECONDS: Final = 0.05
_PATIENCE_SECONDS: Final = 300.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument("--jobs", type=options.count, default=20_000, help="ready at the start")
    parser.add_argument("--tenants", type=options.count, default=20, help="that they belong to")
    parser.add_argument("--workers", type=options.count, default=1, help="worker processes")


async def run(chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    """Measures `chosen.repeat` times. Raises TimeoutError, OSError."""
    log.configure(LogSettings(level="warning"), role="bench")
    progress.expect(chosen.repeat * chosen.jobs * 2)
    rows = []
    for _ in range(chosen.repeat):
        async with _server() as server:
            progress.say("enqueueing")
            made = await _fill(server, chosen, progress)
            progress.say("running")
            rows += [made, await _drain(server, chosen, progress)]
    return rows


@dataclass(frozen=True, slots=True)
class _Server:
    """A database with the queue."""

    url: str
    database: Database
    pid: int


@asynccontextmanager
async def _server() -> AsyncIterator[_Server]:
    with tempfile.TemporaryDirectory(prefix="nexus-bench-", ignore_cleanup_errors=True) as folder:
        table = _table_in(folder)
        settings = Settings()
        settings = replace(settings, state=replace(settings.state, data_dir=Path(folder, "state")))
        where = addresses(settings)
        failed = asyncio.Event()
        async with Embedded(settings, connections_max=_CONNECTIONS, on_failure=failed.set) as made:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                await made.ready()
            kernel = Folder("jobs", Path(_jobs.__path__[0]) / "migrations")
            schema = Schema(SCHEMA, (kernel, Folder("bench", table)))
            await migrate(where.admin_url, [schema], logins=[LOGIN])
            async with Database(where.database_url, settings.database) as database:
                yield _Server(where.database_url, database, made.pids()["postgres"])


def _table_in(folder: str) -> Path:
    """A folder with the migration of the effects' table. PostgreSQL's account passes through."""
    Path(folder).chmod(0o755)
    table = Path(folder, "tables")
    table.mkdir()
    (table / "0001_create_effect.sql").write_text(_TABLE)
    return table


async def _fill(server: _Server, chosen: argparse.Namespace, progress: Progress) -> Row:
    """Enqueues the jobs, in transactions of many."""
    ids = IdMaker()
    began, cpu = SYSTEM.monotonic(), cpu_seconds(*family(server.pid))
    for number, first in enumerate(range(0, chosen.jobs, _BATCH)):
        tenant = f"t{number % chosen.tenants}"
        numbers = range(first, min(first + _BATCH, chosen.jobs))
        async with server.database.session(SCHEMA, tenant=tenant) as session, session.transaction():
            for item in numbers:
                await enqueue(session, WRITE, What(number=item), tenant=tenant, ids=ids)
        progress.advance(len(numbers))
    seconds = SYSTEM.monotonic() - began
    used = cpu_seconds(*family(server.pid)) - cpu
    return Row(
        bench="jobs.enqueue",
        who=chosen.who,
        clients=1,
        unit="job",
        cpu_us=used / chosen.jobs * 1e6,
        per_second=chosen.jobs / seconds,
        note=chosen.note or f"{_BATCH} a transaction; CPU of PostgreSQL alone",
    )


async def _drain(server: _Server, chosen: argparse.Namespace, progress: Progress) -> Row:
    """Has workers run the jobs until none is left."""
    command = (sys.executable, "-P", "-m", "benchmarks.jobs_worker", server.url)
    workers = [
        await asyncio.create_subprocess_exec(
            *command,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        for _ in range(chosen.workers)
    ]
    try:
        for worker in workers:
            assert worker.stdout is not None
            await worker.stdout.readline()
        pids = [worker.pid for worker in workers]
        ours, theirs = cpu_seconds(*pids), cpu_seconds(*family(server.pid))
        began = SYSTEM.monotonic()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write(b"\n")
        async with asyncio.timeout(_PATIENCE_SECONDS):
            done = 0
            while left := await _left(server):
                progress.advance(chosen.jobs - left - done)
                done = chosen.jobs - left
                await asyncio.sleep(_LOOK_SECONDS)
        seconds = SYSTEM.monotonic() - began
        ours, theirs = cpu_seconds(*pids) - ours, cpu_seconds(*family(server.pid)) - theirs
    finally:
        for worker in workers:
            worker.kill()
            await worker.wait()
    async with server.database.relay("") as session:
        sql = f"SELECT count(*), count(DISTINCT number) FROM {SCHEMA}.effect"
        row = await session.row(sql)
    assert row is not None
    assert tuple(row) == (chosen.jobs, chosen.jobs), "each effect once"
    return Row(
        bench="jobs.run",
        who=chosen.who,
        clients=chosen.workers,
        unit="job",
        cpu_us=(ours + theirs) / chosen.jobs * 1e6,
        per_second=chosen.jobs / seconds,
        more={
            "worker_cpu_us": ours / chosen.jobs * 1e6,
            "postgres_cpu_us": theirs / chosen.jobs * 1e6,
        },
        note=chosen.note or f"{chosen.jobs} jobs of {chosen.tenants} tenants, one row each",
    )


async def _left(server: _Server) -> int:
    async with server.database.relay("") as session:
        return int(await session.value(f"SELECT count(*) FROM {SCHEMA}.job"))

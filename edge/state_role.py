"""The role `state`: runs a region's embedded servers and brings all schemas up to date.

It is ready when the servers answer and every schema is as the code needs it. With addresses of your
own it starts no server, and only migrates. When its supervisor is killed it goes on for a moment,
so that the next node takes living servers over; when none comes, it stops them
(`ops/state/embedded.py`). Media and edge start without waiting for it.
"""

import asyncio
import os
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Final

import asyncpg

from edge.http_settings import HttpSettings
from ops.db import DatabaseSettings
from ops.errors import NexusError
from ops.inherited import Inherited
from ops.log import LogSettings, get_logger
from ops.node import NodeSettings
from ops.state.claim import family_claim
from ops.state.embedded import Embedded
from ops.state.errors import StateError
from ops.state.places import is_embedded
from ops.state.settings import RedisSettings, StateSettings
from ops.tasks import Restart, SupervisedGroup
from ops.tracing import TracingSettings
from services._jobs.settings import JobSettings

PROCESSES_BESIDE: Final = 2
"""Processes with a pool of their own beside the node's: another worker's claims, one to look in."""

_log = get_logger("edge.state")


@dataclass(frozen=True, slots=True)
class Settings:
    """The sections that this process reads."""

    node: NodeSettings = field(default_factory=NodeSettings)
    edge: HttpSettings = field(default_factory=HttpSettings)
    state: StateSettings = field(default_factory=StateSettings)
    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    jobs: JobSettings = field(default_factory=JobSettings)
    log: LogSettings = field(default_factory=LogSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)


async def run(settings: Settings, given: Inherited) -> None:
    """Serves until cancelled, or until its supervisor is gone and its servers have found a home."""
    over = asyncio.Event()
    given.watch_life(over.set)
    try:
        async with AsyncExitStack() as stack:
            if not given.supervised:
                stack.enter_context(family_claim(settings, holder="nexus serve state"))
            embedded = None
            if is_embedded(settings):
                most = connections(settings)
                embedded = Embedded(settings, connections_max=most, on_failure=over.set)
                await stack.enter_async_context(embedded)
            async with SupervisedGroup("state") as group:
                group.start("bring up", _bring_up(settings, embedded, given))
                await over.wait()
            if embedded is not None:
                if embedded.failure is not None:
                    raise embedded.failure
                await embedded.hand_on()
    except StateError as fault:
        _log.error("state cannot be kept", reason=fault.message)


def connections(settings: Settings) -> int:
    """How many connections all processes of the node may open together."""
    edges = settings.edge.workers or len(os.sched_getaffinity(0))
    database = settings.database
    processes = edges + settings.jobs.workers + PROCESSES_BESIDE
    return processes * (database.connections_max + database.pipelines_max)


async def _bring_up(settings: Settings, embedded: Embedded | None, given: Inherited) -> None:
    """Migrates as soon as the server answers, again and again until it is done; then is ready."""
    pauses, failures = Restart(), 0
    while True:
        if embedded is not None:
            await embedded.ready()
        try:
            if settings.state.migrate:
                from edge import migrations  # noqa: PLC0415  loads every service

                await migrations.run(settings)
        except (NexusError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as fault:
            failures += 1
            _log.error("schemas are not up to date", reason=str(fault))
            await asyncio.sleep(pauses.pause_seconds(failures + 1))
        else:
            given.ready()
            return

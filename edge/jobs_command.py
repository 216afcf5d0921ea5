"""`nexus jobs dead|replay`: what is dead, and having it tried again.

    nexus jobs dead [--service NAME] [--job NAME] [--json]
    nexus jobs replay --service NAME [--job NAME | --id ID]

Both ask the database that the settings name, as a worker would; no worker need run.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Any, Final

import orjson

from edge.settings import Settings
from ops.db import Database
from ops.db_faults import Duplicate
from ops.errors import Rejected
from ops.state.places import addresses
from services._jobs.desk import Desk
from services._kit.load import load_all
from services._kit.service import Service

LISTED_MAX: Final = 1_000
"""Dead jobs of one service that one command takes."""


class NoSuchJob(Rejected):
    """Nothing of that service, name or id is dead."""

    code = "job.not_dead"


async def run(settings: Settings, chosen: argparse.Namespace) -> None:
    """Does what was asked. Raises Rejected, DatabaseFault."""
    services = load_all([chosen.service] if chosen.service else ())
    url = addresses(settings).database_url
    async with Database(url, settings.database) as database:
        if chosen.verb == "dead":
            await _list(database, services, chosen)
        else:
            await _replay(database, services[0], chosen)


async def _list(
    database: Database, services: Sequence[Service], chosen: argparse.Namespace
) -> None:
    for service in services:
        for row in await _dead(database, service, chosen.job):
            told = {"service": service.name, **dict(row)}
            if chosen.json:
                sys.stdout.write(orjson.dumps(told).decode() + "\n")
            else:
                sys.stdout.write(
                    f"{row['ended_at']:%Y-%m-%d %H:%M:%S}  {service.name}.{row['name']}"
                    f"  {row['id']}  tenant {row['tenant'] or '-'}"
                    f"  failed {row['failures']}, lost {row['losses']}\n    {row['error']}\n"
                )


async def _replay(database: Database, service: Service, chosen: argparse.Namespace) -> None:
    ids = (
        [chosen.id]
        if chosen.id
        else [row["id"] for row in await _dead(database, service, chosen.job)]
    )
    desk = Desk(service.schema, service.jobs)
    replayed = doubled = 0
    for job in ids:
        try:
            async with database.relay("") as session:
                replayed += await desk.replay(session, job)
        except Duplicate:
            doubled += 1
    if not replayed and not doubled:
        raise NoSuchJob("no such job is dead")
    more = f"; {doubled} not: one with their key waits or runs" if doubled else ""
    sys.stdout.write(f"{replayed} tried again{more}\n")


async def _dead(database: Database, service: Service, job: str) -> Sequence[Any]:
    async with database.relay("") as session:
        return await Desk(service.schema, service.jobs).dead(session, job, LISTED_MAX)

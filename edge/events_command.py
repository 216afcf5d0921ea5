"""`nexus events dead|replay|discard`: events that a service could not handle.

    nexus events dead --service NAME [--json]
    nexus events replay --service NAME [--id EVENT]      all of them, or one
    nexus events discard --service NAME --id EVENT       its key goes on without it

All ask the database that the settings name, as a worker would; no worker need run. What is replayed
is tried within `events.poll_seconds`.
"""

import argparse
import sys
from typing import Final

import orjson

from edge.settings import Settings
from ops.db import Database
from ops.errors import Rejected
from ops.state.places import addresses
from services._bus.inbox import dead_letters, discard, replay
from services._kit.load import load_all

LISTED_MAX: Final = 1_000
"""Dead letters that one command lists."""


class NoSuchLetter(Rejected):
    """Nothing of that service or id is dead."""

    code = "event.not_dead"


async def run(settings: Settings, chosen: argparse.Namespace) -> None:
    """Does what was asked. Raises Rejected, DatabaseFault."""
    (service,) = load_all([chosen.service])
    async with (
        Database(addresses(settings).database_url, settings.database) as database,
        database.relay(service.schema) as session,
    ):
        if chosen.verb == "dead":
            for row in await dead_letters(session, service.name, limit=LISTED_MAX):
                told = dict(row) | {"service": service.name}
                if chosen.json:
                    sys.stdout.write(orjson.dumps(told).decode() + "\n")
                    continue
                sys.stdout.write(
                    f"{row['parked_at']:%Y-%m-%d %H:%M:%S}  {row['event']}  key {row['key']}"
                    f"  tenant {row['tenant']}  failed {row['tries']}\n    {row['error']}\n"
                )
            return
        change = replay if chosen.verb == "replay" else discard
        count = await change(session, service.name, event=chosen.id)
    if not count:
        raise NoSuchLetter("no such event is dead")
    verb = "tried again" if chosen.verb == "replay" else "discarded"
    sys.stdout.write(f"{count} {verb}\n")

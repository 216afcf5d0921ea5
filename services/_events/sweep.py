"""Forgets what is over: relayed days of outboxes, events handled long ago. The log is kept."""

from collections.abc import Sequence
from typing import Final

from ops.db import Database
from ops.db_faults import DatabaseFault
from ops.log import get_logger
from ops.metrics import counter
from services._events.settings import EventsSettings

ROWS_MAX: Final = 10_000
"""Rows of an inbox forgotten in one statement."""

_emptied = counter("nexus_events_outbox_days_emptied", "Days of outboxes emptied.")
_forgotten = counter("nexus_events_forgotten", "Handled events forgotten.")
_log = get_logger("services.events")

_FORGET: Final = """
DELETE FROM inbox WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM inbox WHERE at < now() - make_interval(secs => $1) LIMIT $2
))
"""


async def sweep(database: Database, schemas: Sequence[str], settings: EventsSettings) -> None:
    """Once through these schemas. A table that is locked just now is left for the next time."""
    for schema in schemas:
        async with database.relay(schema) as session:
            while count := await session.run(_FORGET, settings.remember_seconds, ROWS_MAX):
                _forgotten.inc(count)
            try:
                slot = await session.value("SELECT empty_outbox_slot()")
            except DatabaseFault as fault:
                if fault.code != "db.conflict":
                    raise
                continue
        if slot is not None:
            _emptied.inc()
            _log.info("a day of an outbox was emptied", schema=schema, slot=slot)

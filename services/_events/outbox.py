"""The way out: events are rows of the same transaction as the change they tell of.

A relay is woken by NOTIFY, which PostgreSQL makes commits queue for: so a process notifies once in
`NOTIFY_SECONDS` for each schema, and a woken relay goes on looking for longer than that. What falls
between (the notifying transaction rolled back, or was slow) is found by the relay's own look at the
sequence, within about a second.
"""

from collections.abc import Sequence
from typing import Final

import msgspec

from ops.clock import SYSTEM
from ops.db import Session
from ops.errors import Rejected
from ops.ids import IdMaker
from services._events.event import TYPE, Event, Origin, partition

CHANNEL: Final = "nexus_outbox"
NOTIFY_SECONDS: Final = 0.25
EVENTS_MAX: Final = 1_000
"""Events that one call publishes at most."""
DATA_BYTES_MAX: Final = 262_144
"""Of one event as JSON; Kafka takes 1 MiB for a message with all its headers."""

_PUBLISH: Final = """
INSERT INTO outbox (epoch, partition, tenant, source, traceparent, id, type, subject, data)
SELECT e.epoch, g.partition, $1, $2, $3, g.id, g.type, g.subject, g.data::json
FROM log_epoch e, unnest($4::smallint[], $5::text[], $6::text[], $7::text[], $8::text[])
    WITH ORDINALITY AS g (partition, id, type, subject, data, place)
ORDER BY g.place
"""

_makers: dict[str, IdMaker] = {}
"""By region."""
_notified: dict[str, float] = {}
"""When this process last notified, by schema, monotonic seconds."""


class EventRefused(Rejected):
    """Too many events in one call, or one that is too large."""

    code = "event.too_large"


async def publish(session: Session, events: Sequence[Event], *, origin: Origin) -> None:
    """Writes events into the schema's outbox. The session is inside the change's transaction.

    Raises EventRefused, DatabaseFault.
    """
    if not events:
        return
    data = encode(events)
    ids = [new_id(origin.region) for _ in events]
    await write(session, events, data=data, ids=ids, origin=origin)


def encode(events: Sequence[Event]) -> list[str]:
    """Each as JSON. Raises EventRefused."""
    data = [msgspec.json.encode(event) for event in events]
    if len(data) > EVENTS_MAX or max(map(len, data)) > DATA_BYTES_MAX:
        raise EventRefused("more than an event may carry, or more events than one change may have")
    return [item.decode() for item in data]


def new_id(region: str) -> str:
    """An event's id, `evt_<region>_…`."""
    maker = _makers.get(region)
    if maker is None:
        maker = _makers[region] = IdMaker(region)
    return maker.new("evt")


async def write(
    session: Session,
    events: Sequence[Event],
    *,
    data: Sequence[str],
    ids: Sequence[str],
    origin: Origin,
) -> None:
    """Writes events that are encoded and named already; the store's log has the same names."""
    assert session.in_transaction, "events are written with their change"
    assert all(TYPE.fullmatch(event.TYPE) for event in events), "an event without a type"
    keys = [event.key for event in events]
    await session.run(
        _PUBLISH,
        origin.tenant,
        f"/v1/{origin.service}/{origin.region}",
        origin.trace,
        [partition(key) for key in keys],
        ids,
        [event.TYPE for event in events],
        keys,
        data,
    )
    schema, now = session.pin.schema, SYSTEM.monotonic()
    if now - _notified.get(schema, -NOTIFY_SECONDS) >= NOTIFY_SECONDS:
        _notified[schema] = now
        await session.run("SELECT pg_notify($1, $2)", CHANNEL, schema)

"""Carries outboxes to the bus: one loop for all schemas of a process, in any number of processes.

    woken ─▶ look_outbox: which partitions have rows from the floor on, below pg_snapshot_xmin?
          ─▶ claim_outbox: lease those that are free, read in (epoch, xid, seq) order ─▶ bus.send
          ─▶ settle_outbox: move the cursors of leases still held, by their fence

A transaction that commits late has an older xid than others that committed before it. So nothing is
read that is not older than every transaction still running, in any database of the cluster. A relay
that lost its lease may send again what its successor sends, in the same order: each event comes
first after all earlier ones of its key, and the inbox drops what comes again.
"""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Final, NamedTuple

import msgspec

from ops.clock import SYSTEM, Clock
from ops.db import Database, Row, Session
from ops.ids import secret_id
from ops.metrics import counter, gauge
from ops.notices import Notices
from ops.tasks import within
from ops.watch import Bell, Watch
from services._bus.port import Bus
from services._events.event import PARTITIONS, Envelope, position
from services._events.outbox import CHANNEL
from services._events.settings import EventsSettings

SCHEMAS_AT_ONCE: Final = 4
TELL_SECONDS: Final = 1.0
"""How often the lag of an outbox is looked at, while it is."""
_SETTLED: Final = ("partition", "fence", "epoch", "xid", "seq")
_LOOK: Final = """
SELECT l.*, ROW(pg_postmaster_start_time(), c.checkpoint_lsn)::text AS life
FROM look_outbox($1, $2) l, pg_control_checkpoint() c
"""
_EVERY: Final = range(PARTITIONS)

_relayed = counter("nexus_events_relayed", "Events carried from an outbox to the bus.", ["schema"])
_lag = gauge(
    "nexus_events_outbox_lag_seconds",
    "Age of the oldest event that waits in an outbox.",
    ["schema"],
    combine="max",
)
_lost = counter("nexus_events_relay_leases_lost", "Leases of outboxes lost before the end.")


class _Floor(NamedTuple):
    """Below this place everything was relayed.

    That holds for one life of the server: cursors are not flushed, so one that crashes may forget
    that they were moved, along with what its own bus was sent, and it gives transaction ids again
    that left nothing in its log. Recovery from a crash ends with a checkpoint, before anybody is
    let in; so a life is told by the newest one, and seldom ends without need.
    """

    life: str
    epoch: int
    xid: int


_NOWHERE: Final = _Floor("", 2**31 - 1, 0)
"""Without a floor the cursors are asked instead, not all of the outbox."""


class Relay:
    """One process's relay of these schemas."""

    def __init__(
        self,
        database: Database,
        bus: Bus,
        notices: Notices,
        *,
        schemas: Sequence[str],
        region: str,
        settings: EventsSettings,
        clock: Clock = SYSTEM,
    ) -> None:
        self._database = database
        self._bus = bus
        self._region = region
        self._settings = settings
        self._clock = clock
        self._owner = secret_id()
        self._told: dict[str, float] = {}
        self._floors: dict[str, _Floor] = {}
        """By schema."""
        bell = Bell()
        notices.subscribe(CHANNEL, bell.ring)
        self._watch = Watch(
            database,
            bell,
            schemas=schemas,
            sequence="outbox_seq",
            pause_seconds=settings.gather_ms / 1_000,
            clock=clock,
        )

    async def run(self) -> None:
        """Relays for ever. Raises what stops it, in a group: to be kept by a supervised group."""
        self._watch.keep_all()
        while True:
            schemas = await self._watch.due()
            for start in range(0, len(schemas), SCHEMAS_AT_ONCE):
                async with asyncio.TaskGroup() as group:
                    for schema in schemas[start : start + SCHEMAS_AT_ONCE]:
                        group.create_task(self._look(schema))

    async def relay(self, schema: str) -> int:
        """One round of one schema; how many events were carried. Raises Unavailable."""
        settings = self._settings
        # One connection until the cursor is moved: a server that crashes in between may have
        # forgotten the claim, and what a bus of its own was sent; so it must not be moved then.
        async with self._database.relay(schema) as session:
            floor = self._floors.get(schema, _NOWHERE)
            look = await session.row(_LOOK, floor.epoch, floor.xid)
            assert look is not None
            found = _Floor(look["life"], look["epoch"], look["xid"])
            wanted = look["partitions"] if floor.life == found.life else _EVERY
            if not wanted:
                return 0
            rows = await session.rows(
                "SELECT * FROM claim_outbox($1, $2, $3, $4)",
                self._owner,
                settings.lease_seconds,
                settings.batch_max,
                wanted,
            )
            held = await self._carry(session, rows) if rows else 0
            whole = held == len(wanted) and len(rows) < settings.batch_max
            if not rows or wanted is _EVERY:
                # What another relay has leased may yet come back.
                settled = (wanted, found.epoch, found.xid)
                whole = await session.value("SELECT settled_outbox($1, $2, $3)", *settled)
            if whole:
                self._floors[schema] = found
        _relayed.inc(len(rows), labels=(schema,))
        return len(rows)

    async def _carry(self, session: Session, rows: Sequence[Row]) -> int:
        """Sends what was claimed, and moves the cursors; how many were still ours."""
        envelopes = [_envelope(row, self._region) for row in rows]
        # Half the lease: who waits longer may have lost it.
        await within(self._settings.lease_seconds / 2, self._bus.send(envelopes), "the bus")
        last = [list(group)[-1] for _, group in groupby(rows, itemgetter(0))]
        held: int = await session.value(
            "SELECT settle_outbox($1, $2, $3, $4, $5)",
            *([row[name] for row in last] for name in _SETTLED),
        )
        _lost.inc(len(last) - held)
        return held

    async def _look(self, schema: str) -> None:
        # First: what cannot be carried is what the figure is for, and is not to be forgotten.
        await self._tell(schema)
        if await self.relay(schema):
            self._watch.found(schema)

    async def _tell(self, schema: str) -> None:
        """How long something has waited, at most once in TELL_SECONDS; it is looked at again."""
        now = self._clock.monotonic()
        if now - self._told.get(schema, now - TELL_SECONDS) < TELL_SECONDS:
            return
        self._told[schema] = now
        async with self._database.relay(schema) as session:
            lag: float = await session.value("SELECT outbox_lag_seconds()")
        _lag.set(lag, labels=(schema,))
        if lag:
            self._watch.keep(schema)


def _envelope(row: Row, region: str) -> Envelope:
    at: datetime = row["at"]
    return Envelope(
        id=row["id"],
        type=row["type"],
        source=row["source"],
        subject=row["subject"],
        time=at.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        tenant=row["tenant"],
        region=region,
        partitionkey=row["subject"],
        sequence=position(epoch=row["epoch"], xid=row["xid"], seq=row["seq"]),
        traceparent=row["traceparent"],
        data=msgspec.Raw(row["data"].encode()),
    )

"""Read models: tables made of a service's own log, which can be made again at any time.

    Projection("board", version=1, events=(GuestInvited,), apply=apply, tables=("board",))

Each of its tables has a column `generation`; `apply(session, generation, recorded)` writes rows of
that generation alone. A higher `version`, or `rebuild`, begins a new generation from the first
event on, beside the one that is read; once it has come as far, it is made the active one and the
old rows go. Readers name the generation in the statement itself: `generation = {board.active}`.

The place in the log moves in the transaction of the writes, from the place they started at: of two
processes that apply the same events one finds that the place is not there any more. Events of many
tenants share a transaction; each is applied with its own tenant set.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, takewhile
from operator import itemgetter
from typing import Final

from ops.clock import SYSTEM, Clock
from ops.db import Database, Row, Session
from ops.errors import Rejected, Unavailable
from ops.metrics import counter, gauge
from ops.notices import Notices
from ops.watch import Bell, Watch
from services._events.event import Codec, Event, parse_position
from services._events.outbox import CHANNEL
from services._events.settings import EventsSettings

BARRIER_SECONDS: Final = 2.0
BARRIER_PAUSE_SECONDS: Final = 0.02

_applied = counter("nexus_events_projected", "Events applied to read models.", ["projection"])
_lag = gauge(
    "nexus_events_projection_lag_seconds",
    "Age of the oldest event that a read model lacks.",
    ["projection"],
    combine="max",
)

_READ: Final = "SELECT * FROM read_log($1, $2, $3, $4)"
_PLACES: Final = "SELECT * FROM projection WHERE name = $1 ORDER BY generation"
_BEGIN: Final = """
INSERT INTO projection (name, generation, version, active) VALUES ($1, $2, $3, $2 = 1)
ON CONFLICT DO NOTHING
"""
_MOVE: Final = """
UPDATE projection SET epoch = $6, xid = $7, seq = $8
WHERE name = $1 AND generation = $2 AND (epoch, xid, seq) = ($3, $4, $5)
"""
_BEHIND_ACTIVE: Final = """
SELECT EXISTS (SELECT FROM projection p, projection a WHERE p.name = $1 AND p.generation = $2
    AND a.name = $1 AND a.active AND (p.epoch, p.xid, p.seq) < (a.epoch, a.xid, a.seq))
"""
_AHEAD: Final = """
SELECT ($1, $2) >= (epoch, pg_snapshot_xmax(pg_current_snapshot())) FROM log_epoch
"""
_CURSOR: Final = ("epoch", "xid", "seq")


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event as the log has it."""

    event: Event
    stream: str
    version: int
    tenant: str
    at: datetime


Apply = Callable[[Session, int, Recorded], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Projection:
    """The declaration of a read model."""

    name: str
    version: int
    events: tuple[type[Event], ...]
    apply: Apply
    tables: tuple[str, ...]
    codec: Codec = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codec", Codec(self.events))

    @property
    def active(self) -> str:
        """SQL for the generation that is to be read."""
        name = self.name
        return f"(SELECT generation FROM projection WHERE name = '{name}' AND active)"  # noqa: S608


class Behind(Unavailable):
    """The read model has not come as far as the caller asks for."""

    code = "projection.behind"


class Unwritten(Rejected):
    """Nothing stands at this position of the log, and nothing did: waiting for it is no use."""

    code = "projection.unwritten"


async def wait_for(
    session: Session, projection: Projection, position: str, *, seconds: float = BARRIER_SECONDS
) -> None:
    """Waits until the read model holds what was written at `position`. Raises Behind, Unwritten."""
    wanted = parse_position(position)
    if await session.value(_AHEAD, *wanted[:2]):
        raise Unwritten("this is no position of the log")
    try:
        async with asyncio.timeout(seconds):
            while not await session.value(  # noqa: ASYNC110 - another process moves it
                "SELECT (epoch, xid, seq) >= ($2, $3, $4) FROM projection"
                " WHERE name = $1 AND active",
                projection.name,
                *wanted,
            ):
                await asyncio.sleep(BARRIER_PAUSE_SECONDS)
    except TimeoutError:
        raise Behind("this is not there to read yet", retry_after_seconds=1) from None


async def rebuild(session: Session, projection: Projection) -> int:
    """Begins a new generation; its number. The active one is read until it has come as far."""
    places = await session.rows(_PLACES, projection.name)
    generation = max((row["generation"] for row in places), default=0) + 1
    await session.run(_BEGIN, projection.name, generation, projection.version)
    return generation


class Projector:
    """One process's part in keeping read models, of all services."""

    def __init__(
        self,
        database: Database,
        notices: Notices,
        projections: Mapping[str, Sequence[Projection]],
        settings: EventsSettings,
        clock: Clock = SYSTEM,
    ) -> None:
        self._database = database
        self._projections = projections
        self._settings = settings
        self._clock = clock
        bell = Bell()
        notices.subscribe(CHANNEL, bell.ring)
        self._watch = Watch(
            database,
            bell,
            schemas=list(projections),
            sequence="event_seq",
            pause_seconds=settings.gather_ms / 1_000,
            clock=clock,
        )

    async def run(self) -> None:
        """Applies for ever. Raises what stops it."""
        self._watch.keep_all()
        while True:
            for schema in await self._watch.due():
                for projection in self._projections[schema]:
                    if await self.advance(schema, projection):
                        self._watch.found(schema)

    async def advance(self, schema: str, projection: Projection) -> int:
        """Applies one batch to each generation that grows; how many events."""
        async with self._database.session(schema, tenant="") as session:
            places = await session.rows(_PLACES, projection.name)
            if all(row["version"] < projection.version for row in places):
                await rebuild(session, projection)
                places = await session.rows(_PLACES, projection.name)
        count = 0
        for place in places:
            if place["version"] == projection.version:
                count += await self._apply(schema, projection, place)
        return count

    async def _apply(self, schema: str, projection: Projection, place: Row) -> int:
        most = self._settings.batch_max
        async with self._database.relay(schema) as session:
            found = await session.rows(_READ, *itemgetter(*_CURSOR)(place), most)
        rows = list(takewhile(itemgetter("safe"), found))
        if found:
            # Also what cannot be applied yet, or fails: it is not forgotten, and its age is told.
            self._watch.keep(schema)
        name = f"{schema}.{projection.name}"
        if place["active"]:
            late = self._clock.unix() - found[0]["at"].timestamp() if found else 0.0
            _lag.set(max(late, 0.0), labels=(name,))
        if rows and not await self._write(schema, projection, place=place, rows=rows):
            return 0
        _applied.inc(len(rows), labels=(name,))
        if not place["active"] and len(found) < most:
            await self._swap(schema, projection, place["generation"])
        return len(rows)

    async def _write(
        self, schema: str, projection: Projection, *, place: Row, rows: Sequence[Row]
    ) -> bool:
        """Whether the place was still there."""
        generation, cursor = place["generation"], itemgetter(*_CURSOR)
        async with self._database.session(schema, tenant="") as session, session.transaction():
            change = (projection.name, generation, *cursor(place), *cursor(rows[-1]))
            if not await session.run(_MOVE, *change):
                return False
            for tenant, group in groupby(rows, itemgetter("tenant")):
                # For this transaction alone; the pin of the session stays.
                await session.run("SELECT set_config('nexus.tenant', $1, true)", tenant)
                session.concerns(tenant)
                for row in group:
                    event = projection.codec.decode(row["type"], data=row["data"])
                    if event is not None:
                        recorded = Recorded(event, row["stream"], row["version"], tenant, row["at"])
                        await projection.apply(session, generation, recorded)
        return True

    async def _swap(self, schema: str, projection: Projection, generation: int) -> None:
        """Makes the generation the one that is read, and drops what was read before."""
        name = projection.name
        async with self._database.relay(schema) as session:
            tenants = await session.rows("SELECT DISTINCT tenant FROM stream")
        async with self._database.session(schema, tenant="") as session, session.transaction():
            await session.run("SELECT FROM projection WHERE name = $1 FOR UPDATE", name)
            if await session.value(_BEHIND_ACTIVE, name, generation):
                return
            await session.run("DELETE FROM projection WHERE name = $1 AND active", name)
            await session.run(
                "UPDATE projection SET active = true WHERE name = $1 AND generation = $2",
                name,
                generation,
            )
            for row in tenants:
                await session.run("SELECT set_config('nexus.tenant', $1, true)", row["tenant"])
                for table in projection.tables:
                    await session.run(
                        f'DELETE FROM "{table}" WHERE generation < $1',  # noqa: S608
                        generation,
                    )

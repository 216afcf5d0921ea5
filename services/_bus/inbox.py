"""The way in: each event's effect happens once, whoever delivers it how often.

    take(envelope): one transaction, as the consumer's role, in the event's tenant
        ├── its id is in the inbox already ─▶ nothing
        ├── an earlier event of its key is parked ─▶ parked behind it
        └── the reaction ─▶ it fails ─▶ rolled back, parked for its next try

An event that fails does not hold up other keys: it lies in `parked` until its next try, four times
later each time, and events of its key queue behind it. After the last try it is a dead letter. Then
the key goes on (`hold=False`) or waits until somebody has replayed or discarded it (`hold=True`).

While the database is away nothing is counted as a try: the consumer stops and begins again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Final

import msgspec

from ops.clock import SYSTEM
from ops.db import Database, Row, Session
from ops.db_faults import DatabaseFault
from ops.log import get_logger
from ops.metrics import counter
from services._events.event import Codec, Envelope, Event
from services._events.settings import EventsSettings

ERROR_CHARACTERS_MAX: Final = 500
TOGETHER_MAX: Final = 20
TOGETHER_SECONDS: Final = 0.1
"""Events that share a transaction, and for how long: while it is open, relays read no further."""
DUE_MAX: Final = 100
"""Parked events that are tried again in one go."""
BUSY_SECONDS: Final = 0.25
"""How long parked events are left to others who are trying them."""
_AWAY: Final = frozenset({"db.unavailable", "db.busy"})

_handled = counter("nexus_events_handled", "Events whose effect happened.", ["consumer"])
_repeated = counter("nexus_events_repeated", "Events that came again.", ["consumer"])
_failed = counter("nexus_events_failed", "Attempts at an event that failed.", ["consumer"])
_dead = counter("nexus_events_dead_letters", "Events given up after their last try.", ["consumer"])

_log = get_logger("services.events")

Reaction = Callable[[Session, Envelope, Event], Awaitable[None]]
"""Does what an event means for a consumer, inside the session's transaction."""

_TAKE: Final = """
WITH new AS (
    INSERT INTO inbox (consumer, event, tenant) VALUES ($1, $2, $3)
    ON CONFLICT DO NOTHING RETURNING 1
)
SELECT EXISTS (SELECT FROM new) AS fresh, EXISTS (
    SELECT FROM parked WHERE consumer = $1 AND tenant = $3 AND key = $4 AND (NOT dead OR $5)
) AS held
"""
_PARK: Final = """
INSERT INTO parked (consumer, event, tenant, key, envelope, tries, error, dead, next_try_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(secs => $9))
"""
_DUE: Final = """
SELECT seq, tenant, greatest(extract(epoch FROM next_try_at - now()), 0)::float8 AS seconds
FROM (
    SELECT DISTINCT ON (tenant, key) seq, tenant, next_try_at, dead FROM parked
    WHERE consumer = $1 AND (NOT dead OR $2) ORDER BY tenant, key, seq
) first
WHERE NOT dead ORDER BY next_try_at LIMIT $3
"""
_FIRST: Final = """
SELECT envelope, tries FROM parked p WHERE seq = $1 AND NOT dead AND NOT EXISTS (
    SELECT FROM parked e WHERE e.consumer = p.consumer AND e.tenant = p.tenant AND e.key = p.key
        AND e.seq < p.seq AND (NOT e.dead OR $2)
) FOR UPDATE SKIP LOCKED
"""
_FAIL: Final = """
UPDATE parked SET tries = $3, error = $4, dead = $5,
    next_try_at = now() + make_interval(secs => $6)
WHERE seq = $1 AND tries = $2 AND NOT dead
"""
_REPLAY: Final = """
UPDATE parked SET dead = false, tries = 0, next_try_at = now()
WHERE consumer = $1 AND dead AND ($2 = '' OR event = $2)
"""


@dataclass(frozen=True, slots=True)
class Consumer:
    """Who consumes: a service, with its reaction to each type of event."""

    name: str
    schema: str
    reactions: Mapping[type[Event], Reaction]
    hold: bool = False
    """Whether a dead letter holds the later events of its key."""
    codec: Codec = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "codec", Codec(self.reactions))


class Inbox:
    """One consumer's way in."""

    def __init__(self, database: Database, consumer: Consumer, settings: EventsSettings) -> None:
        self._database = database
        self._settings = settings
        self._look_at = 0.0
        """When to look for parked events that are due, monotonic."""
        self.consumer = consumer
        # Told from the start: the first dead letter is to be seen as one more than none.
        _dead.inc(0.0, labels=(consumer.name,))

    async def take(self, envelope: Envelope) -> None:
        """Has the event's effect happen, or parks it. Raises DatabaseFault: neither was done."""
        if envelope.type not in self.consumer.codec.types:
            return
        fault = await _outcome(self._take_together([envelope], []))
        if fault is not None:
            await self._park(envelope, fault)

    async def take_all(self, envelopes: Sequence[Envelope]) -> int:
        """Takes some of them, from the first on, in one transaction if all goes well; how many."""
        tenant = envelopes[0].tenant
        same = list(takewhile(lambda one: one.tenant == tenant, envelopes))
        taken: list[Envelope] = []
        if await _outcome(self._take_together(same, taken)) is None:
            return len(taken)
        alone = envelopes[: len(taken) + 1]
        for envelope in alone:
            await self.take(envelope)
        return len(alone)

    async def retry(self) -> float:
        """Tries parked events that are due; seconds until it is to be called again."""
        while (wait := self._look_at - SYSTEM.monotonic()) <= 0:
            async with self._database.relay(self.consumer.schema) as session:
                waiting = await session.rows(_DUE, self.consumer.name, self.consumer.hold, DUE_MAX)
            due = [row for row in waiting if row["seconds"] <= 0]
            if not due:
                first = min((row["seconds"] for row in waiting), default=float("inf"))
                self._look_at = SYSTEM.monotonic() + min(first, self._settings.poll_seconds)
            tried = [await self._again(row) for row in due]
            if due and not any(tried):
                # Others are at all of them.
                self._look_at = SYSTEM.monotonic() + BUSY_SECONDS
        return wait

    async def _take_together(self, envelopes: Sequence[Envelope], taken: list[Envelope]) -> None:
        """Notes in `taken` what it took, if it is committed."""
        began, fresh = SYSTEM.monotonic(), 0
        opened = self._database.session(self.consumer.schema, tenant=envelopes[0].tenant)
        async with opened as session, session.transaction():
            for envelope in envelopes:
                if envelope.type in self.consumer.codec.types:
                    fresh += await self._take(session, envelope)
                taken.append(envelope)
                if SYSTEM.monotonic() - began > TOGETHER_SECONDS:
                    break
        _handled.inc(fresh, labels=(self.consumer.name,))
        _repeated.inc(len(taken) - fresh, labels=(self.consumer.name,))

    async def _take(self, session: Session, envelope: Envelope) -> bool:
        """Whether it had not come before."""
        consumer = self.consumer
        names = (consumer.name, envelope.id, envelope.tenant, envelope.partitionkey)
        found = await session.row(_TAKE, *names, consumer.hold)
        assert found is not None
        if found["fresh"] and found["held"]:
            await self._write_parked(session, envelope, None)
        elif found["fresh"]:
            await self._react(session, envelope)
        return bool(found["fresh"])

    async def _react(self, session: Session, envelope: Envelope) -> None:
        event = self.consumer.codec.decode(envelope.type, data=envelope.data)
        assert event is not None, envelope.type
        async with asyncio.timeout(self._settings.handle_seconds):
            await self.consumer.reactions[type(event)](session, envelope, event)

    async def _park(self, envelope: Envelope, fault: BaseException) -> None:
        consumer = self.consumer
        names = (consumer.name, envelope.id, envelope.tenant, envelope.partitionkey)
        opened = self._database.session(consumer.schema, tenant=envelope.tenant)
        async with opened as session, session.transaction():
            found = await session.row(_TAKE, *names, consumer.hold)
            if found is not None and found["fresh"]:
                await self._write_parked(session, envelope, None if found["held"] else fault)

    async def _write_parked(
        self, session: Session, envelope: Envelope, fault: BaseException | None
    ) -> None:
        """`fault` None: it waits for an earlier event of its key, and was not tried."""
        self._look_at = 0.0
        tries = 0 if fault is None else 1
        dead = self._count(envelope, tries=tries, fault=fault)
        await session.run(
            _PARK,
            self.consumer.name,
            envelope.id,
            envelope.tenant,
            envelope.partitionkey,
            msgspec.json.encode(envelope).decode(),
            tries,
            _text(fault),
            dead,
            self._settings.retry_seconds(tries) if tries else 0.0,
        )

    async def _again(self, row: Row) -> bool:
        """One more try of the first parked event of a key; whether it was there to be tried."""
        found: list[tuple[Envelope, int]] = []
        fault = await _outcome(self._try(row, found))
        if fault is None:
            return bool(found)
        if not found:
            # It was not even read: nothing was tried.
            raise fault
        envelope, tries = found[0]
        dead = self._count(envelope, tries=tries + 1, fault=fault)
        pause = self._settings.retry_seconds(tries + 1)
        async with self._database.session(self.consumer.schema, tenant=row["tenant"]) as session:
            await session.run(_FAIL, row["seq"], tries, tries + 1, _text(fault), dead, pause)
        return True

    async def _try(self, row: Row, found: list[tuple[Envelope, int]]) -> None:
        """Notes in `found` what it tried, before it does."""
        opened = self._database.session(self.consumer.schema, tenant=row["tenant"])
        async with opened as session, session.transaction():
            parked = await session.row(_FIRST, row["seq"], self.consumer.hold)
            if parked is None:
                return
            envelope = msgspec.json.decode(parked["envelope"], type=Envelope)
            found.append((envelope, parked["tries"]))
            await self._react(session, envelope)
            await session.run("DELETE FROM parked WHERE seq = $1", row["seq"])
        _handled.inc(labels=(self.consumer.name,))

    def _count(self, envelope: Envelope, *, tries: int, fault: BaseException | None) -> bool:
        """Whether that was the last try."""
        if fault is None:
            return False
        name = self.consumer.name
        dead = tries >= self._settings.tries_max
        _failed.inc(labels=(name,))
        _dead.inc(float(dead), labels=(name,))
        _log.warning(
            "an event failed", consumer=name, event_id=envelope.id, tries=tries, exc_info=fault
        )
        return dead


async def _outcome(work: Awaitable[None]) -> BaseException | None:
    """What the attempt failed with. Raises DatabaseFault when the database is away.

    A reaction may fail with anything, a bug of its own among them: it is the inbox that has to go
    on, so it is their supervisor.
    """
    (fault,) = await asyncio.gather(work, return_exceptions=True)
    if isinstance(fault, DatabaseFault) and fault.code in _AWAY:
        raise fault
    return fault


def _text(fault: BaseException | None) -> str:
    return "" if fault is None else f"{type(fault).__name__}: {fault}"[:ERROR_CHARACTERS_MAX]


async def replay(session: Session, consumer: str, *, event: str = "") -> int:
    """Has dead letters tried anew, those of the session's tenant, one or all; how many."""
    return await session.run(_REPLAY, consumer, event)


async def dead_letters(session: Session, consumer: str, *, limit: int = 200) -> Sequence[Row]:
    """`tenant`, `event`, `key`, `tries`, `error`, `envelope`, `parked_at` of each, oldest first."""
    return await session.rows(
        "SELECT tenant, event, key, tries, error, envelope, parked_at FROM parked"
        " WHERE consumer = $1 AND dead ORDER BY seq LIMIT $2",
        consumer,
        limit,
    )


async def discard(session: Session, consumer: str, *, event: str) -> int:
    """Gives a dead letter up: its key goes on; whether it was there (0, 1)."""
    return await session.run(
        "DELETE FROM parked WHERE consumer = $1 AND event = $2 AND dead", consumer, event
    )

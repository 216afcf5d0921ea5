"""The embedded bus: the schema `bus` of the region's database, woken by NOTIFY.

Messages lie in 64 partitions by hash of their key. Relays append under the lock of a partition's
head, so places have no gap and no late commit. Consumers lease partitions that have something for
them, in one statement for all 64; an idle consumer asks nothing until a topic of its is called out
or `poll_seconds` are over. The ring of days is emptied by `sweep`.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ops.clock import SYSTEM
from ops.db import Database
from ops.db_faults import DatabaseFault
from ops.ids import secret_id
from ops.log import get_logger
from ops.metrics import counter
from ops.migrate import Folder, Schema
from ops.notices import Notices
from ops.watch import EVERYTHING, Bell
from services._bus.port import Batch
from services._events.event import Envelope, partition, topic
from services._events.settings import EventsSettings

SCHEMA: Final = "bus"
BUS: Final = Schema(SCHEMA, (Folder("bus", Path(__file__).parent / "migrations"),))
"""To be migrated beside the services' schemas."""
CHANNEL: Final = "nexus_bus"
SUBSCRIBE_SECONDS: Final = 3_600.0
"""How often a consumer says that it is still there: one unseen for a week is waited for no more."""

_lost = counter("nexus_events_lost_leases", "Leases of partitions lost before they were settled.")
_log = get_logger("services.bus")
_decoder: Final = msgspec.json.Decoder(Envelope)


class _Token(NamedTuple):
    partition: int
    fence: int


class PostgresBus:
    """See `services/_bus/port.py`. Its wake-ups come while `notices.run` runs."""

    def __init__(
        self, database: Database, notices: Notices, settings: EventsSettings, *, region: str
    ) -> None:
        self._database = database
        self._settings = settings
        self._region = region
        self._owner = secret_id()
        self._bells: dict[str, set[Bell]] = {}
        notices.subscribe(CHANNEL, self._called)

    async def send(self, events: Sequence[Envelope]) -> None:
        topics = [topic(event.type, region=self._region) for event in events]
        async with self._database.relay(SCHEMA) as session:
            await session.run(
                "SELECT send_messages($1, $2, $3, $4)",
                [partition(event.partitionkey) for event in events],
                topics,
                [event.tenant for event in events],
                [msgspec.json.encode(event).decode() for event in events],
            )

    @asynccontextmanager
    async def receiver(
        self, consumer: str, types: Sequence[str]
    ) -> "AsyncIterator[PostgresReceiver]":
        topics = sorted({topic(kind, region=self._region) for kind in types})
        bell = Bell()
        for name in (*topics, EVERYTHING):
            self._bells.setdefault(name, set()).add(bell)
        try:
            # Two receivers of one process are two owners: neither may take the other's lease.
            owner = f"{self._owner}/{id(bell)}"
            yield PostgresReceiver(self._database, self._settings, bell, (consumer, owner), topics)
        finally:
            for bells in self._bells.values():
                bells.discard(bell)

    async def sweep(self) -> None:
        async with self._database.relay(SCHEMA) as session:
            try:
                slot = await session.value("SELECT empty_message_slot()")
            except DatabaseFault as fault:
                if fault.code != "db.conflict":
                    raise
                return
        if slot is not None:
            _log.info("a day of the bus was emptied", slot=slot)

    def _called(self, name: str) -> None:
        for bell in self._bells.get(name, ()):
            bell.ring()


class PostgresReceiver:
    """One process's leases of one consumer's partitions."""

    def __init__(
        self,
        database: Database,
        settings: EventsSettings,
        bell: Bell,
        names: tuple[str, str],
        topics: list[str],
    ) -> None:
        self._database = database
        self._settings = settings
        self._bell = bell
        self._consumer, self._owner = names
        self._topics = topics
        self._subscribe_at = SYSTEM.monotonic()
        self._more = True
        """Whether to look at once: there may be more than was called out."""

    async def fetch(self, seconds: float) -> Sequence[Batch]:
        if SYSTEM.monotonic() >= self._subscribe_at:
            async with self._database.relay(SCHEMA) as session:
                await session.run("SELECT subscribe($1)", self._consumer)
            self._subscribe_at = SYSTEM.monotonic() + SUBSCRIBE_SECONDS
        await self._bell.wait(0.0 if self._more else seconds)
        batches = await self._claim()
        self._more = any(len(batch.events) >= self._settings.batch_max for batch in batches)
        return batches

    async def settle(self, done: Sequence[tuple[Batch, int]]) -> None:
        places = [(batch.token, batch.places[count - 1]) for batch, count in done if count]
        self._more |= any(count < len(batch.events) for batch, count in done)
        if places:
            await self._settle(places)

    async def _settle(self, places: Sequence[tuple[_Token, int]]) -> None:
        async with self._database.relay(SCHEMA) as session:
            held = await session.value(
                "SELECT settle_messages($1, $2, $3, $4)",
                self._consumer,
                [token.partition for token, _ in places],
                [token.fence for token, _ in places],
                [place for _, place in places],
            )
        _lost.inc(len(places) - held)

    async def _claim(self) -> list[Batch]:
        """Batches of the partitions leased now; those with nothing of interest are settled."""
        settings, most = self._settings, self._settings.batch_max
        async with self._database.relay(SCHEMA) as session:
            found = await session.rows(
                "SELECT * FROM claim_messages($1, $2, $3, $4, $5)",
                self._consumer,
                self._owner,
                settings.lease_seconds,
                self._topics,
                most,
            )
        batches: list[Batch] = []
        passed: list[tuple[_Token, int]] = []
        for (number, fence, head), group in groupby(found, itemgetter(0, 1, 2)):
            rows = [row for row in group if row["place"] is not None]
            token = _Token(number, fence)
            if not rows:
                passed.append((token, head))
                continue
            places = [row["place"] for row in rows]
            if len(rows) < most:
                places[-1] = head
            events = tuple(_decoder.decode(row["event"]) for row in rows)
            batches.append(Batch(token, events, tuple(places)))
        if passed:
            await self._settle(passed)
        return batches

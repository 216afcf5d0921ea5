"""What a worker process runs of events: relay, consumers, read models, sweeping.

`loops` gives names and coroutine factories; who starts them keeps them alive in a supervised group.
Any process may run any of them, in any number: they share the work by leases.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Final

from ops.clock import SYSTEM, Clock
from ops.db import Database
from ops.notices import Notices
from services._bus.inbox import TOGETHER_MAX, Consumer, Inbox
from services._bus.port import Batch, Bus
from services._bus.relay import Relay
from services._events.projection import Projection, Projector
from services._events.settings import EventsSettings
from services._events.sweep import sweep

SWEEP_SECONDS: Final = 600.0
RETRY_SECONDS_MIN: Final = 0.02

Loop = tuple[str, Callable[[], Coroutine[Any, Any, None]]]


@dataclass(frozen=True, slots=True)
class Part:
    """What one service has of events."""

    schema: str
    consumer: Consumer | None = None
    projections: tuple[Projection, ...] = ()


def loops(
    parts: Sequence[Part],
    *,
    database: Database,
    bus: Bus,
    notices: Notices,
    region: str,
    settings: EventsSettings,
) -> list[Loop]:
    """All loops of these services. `notices.run` is the caller's, after this: others listen too."""
    schemas = [part.schema for part in parts]
    relay = Relay(database, bus, notices, schemas=schemas, region=region, settings=settings)
    made: list[Loop] = [("relay", relay.run)]
    for part in parts:
        if part.consumer is not None:
            inbox = Inbox(database, part.consumer, settings)
            made.append((f"consume {part.consumer.name}", Consuming(bus, inbox, settings).run))
    projected = {part.schema: part.projections for part in parts if part.projections}
    if projected:
        made.append(("project", Projector(database, notices, projected, settings).run))

    async def sweep_for_ever() -> None:
        while True:
            await sweep(database, schemas, settings)
            await bus.sweep()
            await asyncio.sleep(SWEEP_SECONDS)

    made.append(("sweep events", sweep_for_ever))
    return made


class Consuming:
    """Delivers to one inbox: different partitions side by side, each in its order."""

    def __init__(
        self, bus: Bus, inbox: Inbox, settings: EventsSettings, clock: Clock = SYSTEM
    ) -> None:
        self._bus = bus
        self._inbox = inbox
        self._settings = settings
        self._clock = clock
        self._turns = asyncio.Semaphore(settings.handlers_max)

    async def run(self) -> None:
        """Consumes for ever. Raises what stops it: what was not settled comes again."""
        consumer = self._inbox.consumer
        async with self._bus.receiver(consumer.name, consumer.codec.types) as receiver:
            while True:
                due = await self._inbox.retry()
                wait = min(max(due, RETRY_SECONDS_MIN), self._settings.poll_seconds)
                batches = await receiver.fetch(wait)
                until = self._clock.monotonic() + self._settings.lease_seconds / 2
                async with asyncio.TaskGroup() as group:
                    tasks = [group.create_task(self._deliver(item, until)) for item in batches]
                if batches:
                    counts = [task.result() for task in tasks]
                    await receiver.settle(list(zip(batches, counts, strict=True)))

    async def _deliver(self, batch: Batch, until: float) -> int:
        """How many of its events were handled: all, unless the lease would end before."""
        async with self._turns:
            count = 0
            while count < len(batch.events) and (not count or self._clock.monotonic() < until):
                count += await self._inbox.take_all(batch.events[count : count + TOGETHER_MAX])
        return count

"""Which schemas deserve a look: those called out by NOTIFY, and those whose sequence has moved.

A table that is only appended to tells by its sequence that something was written, or will be once
its transaction commits. So a watcher of many schemas asks one statement a second, whatever their
number; a schema that was called out or where something was found is looked at again and again for
a moment, one whose sequence moved once a second for as long as a transaction may run.
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from ops.clock import SYSTEM, Clock
from ops.db import Database

CHECK_SECONDS: Final = 1.0
HOT_SECONDS: Final = 0.6
"""Longer than writers keep silent after a NOTIFY: who did not notify is found by who is awake."""
WATCH_SECONDS: Final = 30.0
EVERYTHING: Final = ""
"""The name that stands for all names."""
NAMES_MAX: Final = 1_000
"""Names that a bell remembers; more are taken for all names."""


class Bell:
    """Names that were called out, kept until their one listener comes to look."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._event = asyncio.Event()

    def ring(self, name: str = EVERYTHING) -> None:
        """Calls out a name; wakes the listener."""
        if len(self._names) < NAMES_MAX:
            self._names.add(name)
        else:
            self._names = {EVERYTHING}
        self._event.set()

    async def wait(self, seconds: float) -> frozenset[str]:
        """The names since the last look; waits that long for one, none: nobody rang."""
        if not self._event.is_set() and seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._event.wait()
        self._event.clear()
        names, self._names = frozenset(self._names), set()
        return names


class Watch:
    """One watcher of one sequence in each of these schemas, read as the relay role."""

    def __init__(
        self,
        database: Database,
        bell: Bell,
        *,
        schemas: Sequence[str],
        sequence: str,
        pause_seconds: float,
        clock: Clock = SYSTEM,
    ) -> None:
        self._database = database
        self._bell = bell
        self._schemas = frozenset(schemas)
        self._pause_seconds = pause_seconds
        self._clock = clock
        self._sql = " UNION ALL ".join(
            f"SELECT '{name}' AS schema, last_value FROM \"{name}\".{sequence}"  # noqa: S608
            for name in sorted(schemas)
        )
        self._seen: dict[str, int] = {}
        self._hot: dict[str, float] = {}
        self._watched: dict[str, float] = {}
        self._check_at = clock.monotonic()
        self._looked_at = clock.monotonic() - pause_seconds

    def keep_all(self) -> None:
        """Whoever begins anew does not know what it left: all are watched for a time."""
        for schema in self._schemas:
            self.keep(schema)

    async def due(self) -> list[str]:
        """The schemas to look at now; waits, `pause_seconds` at least since the last answer.

        Raises DatabaseFault.
        """
        now = self._clock.monotonic()
        if (early := self._looked_at + self._pause_seconds - now) > 0:
            await asyncio.sleep(early)
        called = await self._bell.wait(0.0 if self._hot else max(self._check_at - now, 0.0))
        self._looked_at = now = self._clock.monotonic()
        self._hot = {name: until for name, until in self._hot.items() if until > now}
        if EVERYTHING in called:
            called = self._schemas
        if now >= self._check_at:
            await self._check(now)
            called |= self._watched.keys()
        self._hot |= dict.fromkeys(called & self._schemas, now + HOT_SECONDS)
        return sorted(self._hot)

    def found(self, schema: str) -> None:
        """Something was there: more may come."""
        self._hot[schema] = self._clock.monotonic() + HOT_SECONDS

    def keep(self, schema: str) -> None:
        """Something is there and cannot be taken yet."""
        self._watched[schema] = self._clock.monotonic() + WATCH_SECONDS

    async def _check(self, now: float) -> None:
        self._check_at = now + CHECK_SECONDS
        if not self._schemas:
            return
        async with self._database.relay(min(self._schemas)) as session:
            seen = {row["schema"]: row["last_value"] for row in await session.rows(self._sql)}
        self._watched = {name: until for name, until in self._watched.items() if until > now}
        for name, value in seen.items():
            if self._seen.get(name) != value:
                self._watched[name] = now + WATCH_SECONDS
        self._seen = seen

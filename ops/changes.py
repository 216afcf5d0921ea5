"""Whose rows have just changed, told to every process that shows them.

Each committed transaction of ours says for which schema and which tenant it was (`ops/db.py`).
Whoever watches in this process is called at once; other processes hear it by NOTIFY, in one
statement for all that was committed within `GATHER_SECONDS`, outside of the transactions
themselves: PostgreSQL lets commits that notify queue for one lock.

It is a hint to look again, never the truth. What a process could not tell before it was killed, or
what was written past it, is found by whoever looks now and then (`services/_live`).
"""

import asyncio
import secrets
from collections.abc import Callable
from typing import Final

import msgspec

from ops.db import Database
from ops.db_faults import DatabaseFault
from ops.metrics import counter

CHANNEL: Final = "nexus_changed"
GATHER_SECONDS: Final = 0.1
PAYLOAD_BYTES_MAX: Final = 7_900
"""PostgreSQL takes less than 8,000."""
TENANTS_MAX: Final = 200
"""Tenants of one schema that a notice names; more are told as all."""
AWAY_SECONDS: Final = 1.0

Changed = Callable[[str, frozenset[str]], None]
"""Takes a schema and the tenants whose rows changed; none: any of them may have."""

_told = counter("nexus_changes_told", "Notices that rows have changed, sent to other processes.")


class _Notice(msgspec.Struct, frozen=True):
    by: str
    of: dict[str, list[str]]


class Changes:
    """One process's part: `mark` is what its database calls, `heard` what its ear does."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._me = secrets.token_hex(4)
        self._watchers: list[Changed] = []
        self._marked: dict[str, set[str]] = {}
        """By schema; an empty set stands for all tenants."""
        self._woken = asyncio.Event()

    def watch(self, watcher: Changed) -> None:
        """Calls it with every change, of this process and of others. It returns soon and raises
        nothing."""
        self._watchers.append(watcher)

    def mark(self, schema: str, tenants: frozenset[str]) -> None:
        """Rows of these tenants have changed here; none: of any."""
        self._call(schema, tenants)
        self._keep(schema, tenants)
        self._woken.set()

    def heard(self, payload: str) -> None:
        """A notice of `CHANNEL`; "": some may have been lost."""
        if not payload:
            self._call("", frozenset())
            return
        notice = msgspec.json.decode(payload, type=_Notice)
        if notice.by != self._me:
            for schema, tenants in notice.of.items():
                self._call(schema, frozenset(tenants))

    async def run(self) -> None:
        """Tells other processes, for ever."""
        while True:
            await self._woken.wait()
            self._woken.clear()
            marked, self._marked = self._marked, {}
            try:
                await self._tell(marked)
            except DatabaseFault:
                for schema, tenants in marked.items():
                    self._keep(schema, frozenset(tenants))
                self._woken.set()
                await asyncio.sleep(AWAY_SECONDS)
            await asyncio.sleep(GATHER_SECONDS)

    def _call(self, schema: str, tenants: frozenset[str]) -> None:
        for watcher in self._watchers:
            watcher(schema, tenants)

    def _keep(self, schema: str, tenants: frozenset[str]) -> None:
        known = self._marked.get(schema)
        if known is None:
            self._marked[schema] = set(tenants)
        elif not tenants or len(known) >= TENANTS_MAX:
            known.clear()
        elif known:
            known |= tenants

    async def _tell(self, marked: dict[str, set[str]]) -> None:
        of = {schema: sorted(tenants) for schema, tenants in marked.items()}
        text = msgspec.json.encode(_Notice(self._me, of))
        if len(text) > PAYLOAD_BYTES_MAX:
            text = msgspec.json.encode(_Notice(self._me, {schema: [] for schema in of}))
        async with self._database.relay("") as session:
            # Nothing is lost with it: it need not be flushed.
            await session.run(
                "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)",
                CHANNEL,
                text.decode(),
            )
        _told.inc()

"""The directory of placements: the port by which a region asks it, and the one that keeps it.

Every step is one transaction that is undone whole or seen by all, and doing it twice is as good as
once: whoever got no answer asks again. The rules are `services/platform/placement/logic.py`.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

import asyncpg

from ops.clock import SYSTEM, Clock
from ops.db import Database
from ops.placement import Placement, State, Unplaced
from services.platform.placement import logic
from services.platform.placement.store import SCHEMA, Changes, Placements


class Directory(Protocol):
    """What one region asks of the directory, wherever it is. All raise Unplaced: it is away."""

    async def find(self, tenant: str) -> Placement | None:
        """What the directory knows of a tenant."""
        ...

    async def reserve(self, tenant: str) -> Placement:
        """Asks for a tenant; the answer says who has it."""
        ...

    async def confirm(self, tenant: str, epoch: int) -> Placement:
        """Says that the answer to `reserve` has come. Raises Conflict: too late."""
        ...

    async def release(self, tenant: str, epoch: int) -> Placement:
        """Says that this region has let go of a tenant. Raises Conflict."""
        ...

    async def changes(self, after: int) -> Changes | None:
        """What has changed after a turn; None: nothing. A smaller turn: the directory went back."""
        ...


@asynccontextmanager
async def table(database: Database) -> AsyncIterator[Placements]:
    """The table of this region. Raises DatabaseFault, Unplaced: nobody has made it yet."""
    try:
        async with database.session(SCHEMA, tenant="") as session:
            yield Placements(session)
    except asyncpg.UndefinedTableError:
        raise Unplaced("the schemas of this region are being made") from None


class LocalDirectory:
    """The directory in this region's database, as one region asks it. Owns nothing."""

    def __init__(
        self, database: Database, *, region: str, lease_seconds: float, clock: Clock = SYSTEM
    ) -> None:
        """region: who asks."""
        self._database = database
        self._region = region
        self._lease_seconds = lease_seconds
        self._clock = clock

    async def find(self, tenant: str) -> Placement | None:
        async with table(self._database) as placements:
            return await placements.find(tenant)

    async def reserve(self, tenant: str) -> Placement:
        known = await self.find(tenant)
        if known is not None and known.state is not State.RESERVED:
            # As nearly always: nothing to change, so no write of the tenant is made to wait.
            return known
        return await self._change(
            tenant,
            lambda known: logic.reserve(
                known,
                tenant,
                region=self._region,
                now=self._clock.unix(),
                lease_seconds=self._lease_seconds,
            ),
        )

    async def confirm(self, tenant: str, epoch: int) -> Placement:
        return await self._change(
            tenant, lambda known: logic.confirm(known, region=self._region, epoch=epoch)
        )

    async def release(self, tenant: str, epoch: int) -> Placement:
        return await self._change(
            tenant, lambda known: logic.release(known, region=self._region, epoch=epoch)
        )

    async def changes(self, after: int) -> Changes | None:
        async with table(self._database) as placements:
            newest = await placements.turn()
            if newest == after:
                return None
            if newest < after:
                return Changes((), newest, more=False)
            return await placements.changes(after)

    async def _change(
        self, tenant: str, rule: Callable[[Placement | None], Placement]
    ) -> Placement:
        async with (
            self._database.session(SCHEMA, tenant="") as session,
            session.transaction(),
        ):
            placements = Placements(session)
            known = await placements.lock(tenant)
            wanted = rule(known)
            if wanted != known and wanted.epoch:
                await placements.put(wanted)
            return wanted

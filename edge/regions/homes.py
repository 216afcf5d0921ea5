"""Where tenants live, as one process of a region knows it.

    memory ─▶ this region's table (the directory's own, or a copy of it) ─▶ birth, by the id
       ─▶ the directory: who has claimed this name? A first write claims it: reserve, confirm.

The table of another region's directory is copied every `regions.pull_seconds`, and serves on while
the directory is away: what is known goes on, and only names that nobody here has heard of cannot be
placed (503). Each process looks every `regions.look_seconds` for what has changed in the table, so
its memory may be that old: a read may still be answered by a home that has just been left, as if it
had come a second earlier. A write may not: it asks the table within its own transaction (`fence`),
which keeps the tenant where it is until the transaction ends.

A region that has never copied the directory serves nobody, since it cannot know who has left it.
"""

import asyncio
from typing import Final

from edge.regions.directory import Directory, LocalDirectory, table
from ops import metrics
from ops.clock import SYSTEM, Clock
from ops.db import Database, Session
from ops.errors import Unavailable
from ops.log import get_logger
from ops.placement import Misdirected, Moved, Placement, State, Unplaced, by_birth
from ops.region_settings import RegionSettings
from services._kit.errors import Conflict
from services.platform.placement import store
from services.platform.placement.store import SCHEMA, Placements

UNCLAIMED_SECONDS: Final = 1.0
"""How long a name that nobody has claimed is not asked for again, for reads."""
CLAIMS_MAX: Final = 16
"""Questions to the directory that one process has under way."""

_log = get_logger("edge.regions")
_known = metrics.gauge("nexus_regions_known", "Tenants whose home a process remembers.")
_age = metrics.gauge(
    "nexus_regions_directory_age_seconds",
    "Seconds since the directory of tenants was last heard of; 0 where it is kept.",
    combine="max",
)
_claimed = metrics.counter("nexus_regions_claimed", "Tenants that this region has claimed.")
_refused = metrics.counter(
    "nexus_regions_refused",
    "Calls below the door that were refused: the tenant lives elsewhere, has moved, or nobody"
    " knows.",
    ("why",),
)
_refused.expect(("elsewhere",), ("moved",), ("unknown",))


class Homes:
    """Knows where tenants live. One for a process; `run` keeps it fresh. Owns nothing."""

    def __init__(
        self,
        database: Database,
        settings: RegionSettings,
        *,
        region: str,
        directory: Directory | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        """directory: that of another region; None: it is kept here."""
        self.region = region
        self._database = database
        self._settings = settings
        self._here = directory is None
        self.directory: Directory = directory or LocalDirectory(
            database, region=region, lease_seconds=settings.lease_seconds, clock=clock
        )
        self._directory_name = settings.directory or region
        self._clock = clock
        self._known: dict[str, Placement] = {}
        self._unclaimed: dict[str, float] = {}
        self._turn: int | None = None
        """Up to which turn of this region's table the memory is right."""
        self._copied = self._here
        self._heard = clock.monotonic()
        self._questions = asyncio.Semaphore(CLAIMS_MAX)
        self._claiming: dict[str, asyncio.Lock] = {}

    def __len__(self) -> int:
        """How many tenants are remembered."""
        return len(self._known)

    async def admit(self, tenant: str, *, writes: bool) -> None:
        """As `ops.placement.Homes` says."""
        known = self._known.get(tenant)
        if known is None:
            if tenant == self._settings.operators:
                return
            if not writes and not self._settings.peers:
                # Alone: what is not here is nowhere.
                return
            known = await self.find(tenant, claim=writes)
        if known is None or known.served_in(self.region):
            return
        _refused.inc(labels=("elsewhere",))
        raise self.refusal(known)

    async def fence(self, session: Session, tenant: str) -> None:
        """As `ops.placement.Homes` says."""
        if tenant == self._settings.operators or not self._settings.peers:
            return
        found = await store.fence(session, tenant)
        if found is not None and found.served_in(self.region):
            return
        self._known.pop(tenant, None)
        if found is None:
            _refused.inc(labels=("unknown",))
            raise Unplaced("where this tenant lives is not known here")
        _refused.inc(labels=("moved",))
        raise Moved(found)

    async def find(self, tenant: str, *, claim: bool = False) -> Placement | None:
        """Where a tenant lives; claim: here, if nobody has it. None: nobody has claimed it.

        Raises Unplaced, DatabaseFault.
        """
        known = self._known.get(tenant)
        if known is not None:
            return known
        if tenant == self._settings.operators:
            return Placement(tenant=tenant, home=self.region)
        async with table(self._database) as placements:
            known = await placements.find(tenant)
            if not self._copied:
                self._copied = await placements.copied(self._directory_name) is not None
        if not self._copied:
            _refused.inc(labels=("unknown",))
            raise Unplaced("the directory of tenants was never heard of here")
        if known is not None and known.state is State.RESERVED:
            known = None
        known = known or by_birth(tenant)
        if known is not None:
            # Before the first look nobody would say when this has changed.
            return self._keep(known) if self._turn is not None else known
        return await self._claim(tenant) if claim else await self._ask(tenant)

    def refusal(self, known: Placement) -> Misdirected | Unplaced:
        """What is said to a request for a tenant that is not served here."""
        if known.state is not State.SETTLED or known.home == self.region:
            return Unplaced("this tenant is moving to another region", code="placement.moving")
        return Misdirected(known.home, url=self._settings.public_url(known.home))

    def forget(self, tenant: str) -> None:
        """What was remembered of the tenant has turned out to be old."""
        self._known.pop(tenant, None)

    async def run(self) -> None:
        """Keeps table and memory fresh until it is cancelled."""
        due, fault = self._clock.monotonic(), ""
        while True:
            try:
                if self._clock.monotonic() >= due:
                    due = self._clock.monotonic() + self._settings.pull_seconds
                    await self.pull()
                await self.look()
            except Unavailable as error:
                if fault != error.code:
                    _log.warning("where tenants live cannot be looked up", reason=error.message)
                fault = error.code
            else:
                fault = ""
            _age.set(0.0 if self._here else self._clock.monotonic() - self._heard)
            _known.set(len(self))
            await asyncio.sleep(self._settings.look_seconds)

    async def look(self) -> None:
        """Learns what has changed in this region's table. Raises DatabaseFault."""
        async with table(self._database) as placements:
            if self._turn is None:
                self._turn = await placements.turn()
                self._known.clear()
            more = True
            while more:
                found = await placements.changes(self._turn)
                for changed in found.placements:
                    if changed.state is not State.RESERVED:
                        self._keep(changed)
                self._turn, more = found.turn, found.more

    async def pull(self) -> None:
        """Copies what has changed in the directory, and lets go of whom it tells to.

        Raises Unavailable: the directory or the database is away.
        """
        if self._here:
            return
        more = True
        while more:
            more = await self._pull_once()
        self._heard = self._clock.monotonic()
        async with table(self._database) as placements:
            leaving = await placements.leaving(self.region)
        for placement in leaving:
            try:
                settled = await self.directory.release(placement.tenant, placement.epoch)
            except Conflict:
                # The next copy says what has become of it.
                continue
            await self._copy(settled)
            _log.info("a tenant has moved away", tenant=placement.tenant, home=placement.home)

    async def _pull_once(self) -> bool:
        """Copies one batch; whether there is more."""
        name = self._directory_name
        async with table(self._database) as placements:
            copied = await placements.copied(name)
        found = await self.directory.changes(copied or 0)
        if found is None and copied is not None:
            return False
        went_back = found is not None and found.turn < (copied or 0)
        async with self._database.session(SCHEMA, tenant="") as session, session.transaction():
            placements = Placements(session)
            if found is not None:
                told = [one for one in found.placements if one.state is not State.RESERVED]
                await placements.copy(told)
            turn = 0 if found is None or went_back else found.turn
            await placements.note_copied(name, turn)
        if went_back:
            _log.warning("the directory has gone back: it is copied anew", directory=name)
        return found is not None and (found.more or went_back)

    async def _ask(self, tenant: str) -> Placement | None:
        """Who has claimed a name of which nothing is known here."""
        now = self._clock.monotonic()
        if self._here or self._unclaimed.get(tenant, 0.0) > now:
            return None
        async with self._questions:
            found = await self.directory.find(tenant)
        if found is None or found.state is State.RESERVED:
            if len(self._unclaimed) >= self._settings.known_max:
                self._unclaimed.clear()
            self._unclaimed[tenant] = now + UNCLAIMED_SECONDS
            return None
        return await self._copy(found)

    async def _claim(self, tenant: str) -> Placement:
        """Asks for a tenant; the answer says who has it. Once for all who come meanwhile."""
        turn = self._claiming.setdefault(tenant, asyncio.Lock())
        try:
            async with turn, self._questions:
                return self._known.get(tenant) or await self._claim_now(tenant)
        finally:
            if not turn.locked():
                self._claiming.pop(tenant, None)

    async def _claim_now(self, tenant: str) -> Placement:
        found = await self.directory.reserve(tenant)
        if found.state is State.RESERVED:
            claiming = Unplaced("another region is claiming this tenant", code="placement.moving")
            if found.home != self.region:
                raise claiming
            try:
                found = await self.directory.confirm(tenant, found.epoch)
            except Conflict:
                raise claiming from None
            _claimed.inc()
            _log.info("a tenant lives here from now on", tenant=tenant)
        self._unclaimed.pop(tenant, None)
        return await self._copy(found)

    async def _copy(self, placement: Placement) -> Placement:
        """Writes down what the directory has just said, and remembers it."""
        if not self._here:
            async with self._database.session(SCHEMA, tenant="") as session, session.transaction():
                await Placements(session).copy([placement])
        return self._keep(placement)

    def _keep(self, placement: Placement) -> Placement:
        """Remembers it, unless something newer is remembered; what is."""
        known = self._known.pop(placement.tenant, None)
        if known is not None and not placement.newer_than(known):
            placement = known
        elif len(self._known) >= self._settings.known_max:
            del self._known[next(iter(self._known))]
        self._known[placement.tenant] = placement
        return placement

"""All SQL of placements: the directory's table, a region's copy of it, and the fence.

Changes of one database take turns, so that a greater `turn` was committed later: whoever reads
"everything after turn 7" misses nothing. Changing a tenant's placement waits until no write of that
tenant is under way, and keeps new ones waiting until it is done.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from ops.db import Row, Session
from ops.placement import Placement, State, by_birth
from ops.residency import Residency
from services._kit.store import Store

SCHEMA: Final = "placement"
BATCH_MAX: Final = 500
"""Placements that are copied at once."""
_SELECT: Final = (
    "SELECT name, home, epoch, state, previous, regions, residency, lease_unix, turn FROM placement"
)
_PUT: Final = (
    "INSERT INTO placement"
    " (name, home, epoch, state, previous, regions, residency, lease_unix, turn)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, (SELECT coalesce(max(turn), 0) + 1 FROM placement))"
    " ON CONFLICT (name) DO UPDATE SET home = excluded.home, epoch = excluded.epoch,"
    " state = excluded.state, previous = excluded.previous, regions = excluded.regions,"
    " residency = excluded.residency, lease_unix = excluded.lease_unix, turn = excluded.turn,"
    " changed_at = now()"
)
_TURNS: Final = "SELECT pg_advisory_xact_lock(hashtextextended('placement turns', 0))"
_FENCE: Final = "SELECT home, epoch, state FROM placement.fence($1)"


class Changes(NamedTuple):
    """What has changed after a turn, in order, and the turn of the last."""

    placements: tuple[Placement, ...]
    turn: int
    more: bool


class Placements:
    """The table, in a session of this schema."""

    __slots__ = ("_session",)

    def __init__(self, session: Session) -> None:
        assert session.pin.schema == SCHEMA, session.pin
        self._session = session

    async def find(self, tenant: str) -> Placement | None:
        """The row of a tenant."""
        row = await self._session.row(_SELECT + " WHERE name = $1", tenant)
        return None if row is None else _placement(row)

    async def lock(self, tenant: str) -> Placement | None:
        """The row, which nobody else changes, nor a write of the tenant runs, until the end of the
        transaction. Raises DatabaseFault: writes took too long to end."""
        assert self._session.in_transaction
        await self._session.run(
            "SELECT pg_advisory_xact_lock(hashtextextended('placement:' || $1, 0))", tenant
        )
        return await self.find(tenant)

    async def put(self, placement: Placement) -> None:
        """Writes the row. The last thing of a transaction: all other changes wait for its end."""
        assert self._session.in_transaction
        assert placement.state is not State.FREE
        await self._session.run(_TURNS)
        await self._session.run(_PUT, *_values(placement))

    async def copy(self, told: Iterable[Placement]) -> int:
        """Writes rows of a copy that are newer than what is known; how many were."""
        known = {one.tenant: (one, await self.lock(one.tenant)) for one in _by_tenant(told)}
        newer = [one for one, before in known.values() if before is None or one.newer_than(before)]
        for placement in newer:
            await self.put(placement)
        return len(newer)

    async def changes(self, after: int) -> Changes:
        """What has changed after that turn of this database; at most BATCH_MAX of it."""
        rows = await self._session.rows(
            _SELECT + " WHERE turn > $1 ORDER BY turn LIMIT $2",
            after,
            BATCH_MAX + 1,
        )
        shown = rows[:BATCH_MAX]
        turn = shown[-1]["turn"] if shown else after
        return Changes(tuple(map(_placement, shown)), turn, len(rows) > BATCH_MAX)

    async def turn(self) -> int:
        """The newest turn of this database."""
        return int(await self._session.value("SELECT coalesce(max(turn), 0) FROM placement"))

    async def leaving(self, region: str) -> Sequence[Placement]:
        """Those that this region is to let go."""
        rows = await self._session.rows(
            _SELECT + " WHERE state = 'moving' AND previous = $1 ORDER BY name LIMIT $2",
            region,
            BATCH_MAX,
        )
        return [_placement(row) for row in rows]

    async def copied(self, directory: str) -> int | None:
        """Up to which turn the directory has been copied; None: never."""
        found = await self._session.value(
            "SELECT turn FROM progress WHERE directory = $1", directory
        )
        return None if found is None else int(found)

    async def note_copied(self, directory: str, turn: int) -> None:
        """Says that the directory has been copied up to there."""
        await self._session.run(
            "INSERT INTO progress (directory, turn) VALUES ($1, $2)"
            " ON CONFLICT (directory) DO UPDATE SET turn = excluded.turn",
            directory,
            turn,
        )


async def fence(session: Session, tenant: str) -> Placement | None:
    """Where the tenant lives, and will until the session's transaction ends: any service's session.

    None: nobody has ever placed it.
    """
    assert session.in_transaction, "a fence holds until its transaction ends"
    row = await session.row(_FENCE, tenant)
    if row is None:
        return by_birth(tenant)
    return Placement(tenant=tenant, home=row["home"], epoch=row["epoch"], state=State(row["state"]))


class PlacementStore(Store):
    """The hands of one call of the API."""

    @property
    def placements(self) -> Placements:
        return Placements(self.db)

    async def page(self, *, after: str, limit: int, only: str | None) -> Sequence[Placement]:
        """Placements by tenant, of one tenant alone when `only` names it."""
        rows = await self.db.rows(
            _SELECT + " WHERE name > $1 AND ($2::text IS NULL OR name = $2) ORDER BY name LIMIT $3",
            after,
            only,
            limit,
        )
        return [_placement(row) for row in rows]


def _by_tenant(placements: Iterable[Placement]) -> list[Placement]:
    """In the order in which everybody locks them."""
    return sorted(placements, key=lambda one: one.tenant)


def _placement(row: Row) -> Placement:
    return Placement(
        tenant=row["name"],
        home=row["home"],
        epoch=row["epoch"],
        state=State(row["state"]),
        previous=row["previous"],
        regions=tuple(row["regions"]),
        residency=Residency(row["residency"]),
        lease_unix=row["lease_unix"],
    )


def _values(placement: Placement) -> tuple[Any, ...]:
    return (
        placement.tenant,
        placement.home,
        placement.epoch,
        placement.state.value,
        placement.previous,
        list(placement.regions),
        placement.residency.value,
        placement.lease_unix,
    )

"""All SQL of guest lists, and how commands reach the log. Row-level security shows one tenant."""

from collections.abc import Sequence
from typing import Final

from ops.db import Row, Session
from ops.db_faults import Duplicate
from services._events import store as log
from services._events.projection import Projection, Recorded, Unwritten, wait_for
from services._events.store import Loaded
from services._kit.errors import Conflict, Invalid, NotFound, Problem, Stale
from services._kit.paging import Slice
from services._kit.record import Page
from services._kit.store import Store
from services.entertainment.guest_list.api import (
    CapacityChanged,
    Guest,
    GuestAdmitted,
    GuestFilter,
    GuestInvited,
    GuestList,
    GuestListClosed,
    GuestListCreated,
    GuestRemoved,
    GuestStatus,
)
from services.entertainment.guest_list.logic import GUEST_LIST, Command, State, decide

_EMAIL: Final = "contact.email"
_LETTER: Final = "invitation.letter"


class GuestStore(Store):
    """The hands of one call."""

    async def run(self, command: Command, *, expected: int | None = None) -> GuestList:
        """Has a command decided, and appends what happens. Raises Stale, and what it decides."""
        try:
            loaded = await log.execute(
                self.db,
                GUEST_LIST,
                command.guest_list,
                lambda state: decide(state, command),
                origin=self.origin,
                expected=expected,
            )
        except log.Conflict as fault:
            raise Stale(int(fault.fields["version"] or 0)) from fault
        return self._shown(command.guest_list, loaded, await self._arrived(command.guest_list))

    async def guest_list(self, id: str) -> GuestList:
        """As of now, from its events. Raises NotFound."""
        loaded = await self._load(id)
        return self._shown(id, loaded, await self._arrived(id))

    async def guest_lists(self, page: Slice) -> Page[GuestList]:
        """By name, from the read model."""
        rows = await self.db.rows(
            "SELECT b.*, coalesce(a.seats, 0) AS arrived FROM board b"  # noqa: S608
            f" LEFT JOIN arrival a ON a.guest_list = b.id WHERE b.generation = {BOARD.active}"
            " AND ($1::text IS NULL OR (b.name, b.id) > ($1, $2)) ORDER BY b.name, b.id LIMIT $3",
            *(page.after or (None, None)),
            page.rows,
        )
        return page.page([_board(row) for row in rows], lambda found: (found.name, found.id))

    async def many(self, ids: Sequence[str]) -> dict[str, GuestList]:
        """Those that there are, by id, from the read model."""
        rows = await self.db.rows(
            "SELECT b.*, coalesce(a.seats, 0) AS arrived FROM board b"  # noqa: S608
            f" LEFT JOIN arrival a ON a.guest_list = b.id WHERE b.generation = {BOARD.active}"
            " AND b.id = ANY($1)",
            ids,
        )
        return {row["id"]: _board(row) for row in rows}

    async def guest(self, id: str) -> Guest:
        """One guest, from the read model. Raises NotFound."""
        row = await self.db.row(
            f"SELECT * FROM guest WHERE generation = {BOARD.active} AND id = $1",  # noqa: S608
            id,
        )
        if row is None:
            raise NotFound("guest")
        return _guest(row)

    async def guests(self, id: str, filter: GuestFilter, page: Slice) -> Page[Guest]:
        """A list's guests by name. Raises NotFound, Invalid, Behind."""
        await self._load(id)
        if filter.after:
            try:
                await wait_for(self.db, BOARD, filter.after)
            except Unwritten as fault:
                problem = Problem(parameter="after", code="unwritten", message=fault.message)
                raise Invalid("a parameter is wrong", problems=(problem,)) from None
        rows = await self.db.rows(
            f"SELECT * FROM guest WHERE generation = {BOARD.active}"  # noqa: S608
            " AND guest_list = $1 AND ($2::text IS NULL OR status = $2)"
            " AND ($3::text IS NULL OR (name, id) > ($3, $4)) ORDER BY name, id LIMIT $5",
            id,
            filter.status,
            *(page.after or (None, None)),
            page.rows,
        )
        return page.page([_guest(row) for row in rows], lambda found: (found.name, found.id))

    async def add_contact(self, guest: str, *, guest_list: str, email: str) -> None:
        """Keeps an e-mail address, sealed. Raises Conflict: it is on the list already."""
        index = self.blind(email.casefold(), column=_EMAIL)
        sealed = self.seal(email, column=_EMAIL, row=guest)
        try:
            await self.db.run(
                "INSERT INTO contact (guest, tenant, guest_list, email, email_index)"
                " VALUES ($1, $2, $3, $4, $5)",
                guest,
                self.tenant,
                guest_list,
                sealed,
                index,
            )
        except Duplicate:
            raise Conflict("this address is on the list", code="guest.invited") from None

    async def forget_contact(self, guest: str) -> None:
        """Removes what is known of a guest as a person."""
        await self.db.run("DELETE FROM contact WHERE guest = $1", guest)
        await self.db.run("DELETE FROM invitation WHERE guest = $1", guest)

    async def write_invitation(self, guest: str) -> None:
        """Writes a guest's letter; nothing when the guest was removed meanwhile.

        Who removes the guest waits for the letter, or else could not remove that too.
        """
        sealed = await self.db.value(
            "SELECT email FROM contact WHERE guest = $1 FOR KEY SHARE", guest
        )
        if sealed is None:
            return
        email = self.open(sealed, column=_EMAIL, row=guest)
        letter = self.seal(f"To {email}: you are on the list.", column=_LETTER, row=guest)
        await self.db.run(
            "INSERT INTO invitation (guest, tenant, letter) VALUES ($1, $2, $3)",
            guest,
            self.tenant,
            letter,
        )

    async def count_arrival(self, guest_list: str, seats: int) -> None:
        """Adds seats to those that have arrived."""
        await self.db.run(
            "INSERT INTO arrival (guest_list, tenant, seats) VALUES ($1, $2, $3)"
            " ON CONFLICT (guest_list) DO UPDATE SET seats = arrival.seats + excluded.seats",
            guest_list,
            self.tenant,
            seats,
        )

    async def ended(self, now: str, most: int) -> list[str]:
        """Lists that are open and whose time is over."""
        rows = await self.db.rows(
            f"SELECT id FROM board WHERE generation = {BOARD.active}"  # noqa: S608
            " AND NOT closed AND ends_at <= $1 ORDER BY ends_at LIMIT $2",
            now,
            most,
        )
        return [row["id"] for row in rows]

    async def _load(self, id: str) -> Loaded[State]:
        loaded = await log.load(self.db, GUEST_LIST, id)
        if loaded.version == 0:
            raise NotFound("guest list")
        return loaded

    async def _arrived(self, id: str) -> int:
        seats = await self.db.value("SELECT seats FROM arrival WHERE guest_list = $1", id)
        return int(seats or 0)

    def _shown(self, id: str, loaded: Loaded[State], arrived: int) -> GuestList:
        state = loaded.state
        return GuestList(
            id=id,
            name=state.name,
            capacity=state.capacity,
            taken=state.taken,
            arrived=arrived,
            closed=state.closed,
            ends_at=state.ends_at,
            version=loaded.version,
            position=loaded.position,
        )


async def project(session: Session, generation: int, recorded: Recorded) -> None:
    """Writes one event into the read models."""
    event, tenant = recorded.event, recorded.tenant
    match event:
        case GuestListCreated():
            await session.run(
                "INSERT INTO board VALUES ($1, $2, $3, $4, $5, 0, $6, false, $7)",
                *(generation, tenant, event.guest_list, event.name),
                *(event.capacity, event.ends_at, recorded.version),
            )
            return
        case GuestInvited():
            await session.run(
                "INSERT INTO guest VALUES ($1, $2, $3, $4, $5, $6, $7)",
                *(generation, tenant, event.guest, event.guest_list),
                *(event.name, event.seats, GuestStatus.INVITED.value),
            )
        case GuestAdmitted() | GuestRemoved():
            admitted = isinstance(event, GuestAdmitted)
            status = GuestStatus.ADMITTED if admitted else GuestStatus.REMOVED
            await session.run(
                "UPDATE guest SET status = $3 WHERE generation = $1 AND id = $2",
                generation,
                event.guest,
                status.value,
            )
    await session.run(
        "UPDATE board SET version = $3, taken = taken + $4, capacity = coalesce($5, capacity),"
        " closed = closed OR $6 WHERE generation = $1 AND id = $2",
        generation,
        event.key,
        recorded.version,
        _seats_taken(event),
        event.capacity if isinstance(event, CapacityChanged) else None,
        isinstance(event, GuestListClosed),
    )


BOARD: Final = Projection(
    "board", version=1, events=GUEST_LIST.events, apply=project, tables=("board", "guest")
)


def _seats_taken(event: object) -> int:
    if isinstance(event, GuestInvited):
        return event.seats
    return -event.seats if isinstance(event, GuestRemoved) else 0


def _board(row: Row) -> GuestList:
    return GuestList(
        id=row["id"],
        name=row["name"],
        capacity=row["capacity"],
        taken=row["taken"],
        arrived=row["arrived"],
        closed=row["closed"],
        ends_at=row["ends_at"],
        version=row["version"],
    )


def _guest(row: Row) -> Guest:
    return Guest(
        id=row["id"],
        guest_list=row["guest_list"],
        name=row["name"],
        seats=row["seats"],
        status=GuestStatus(row["status"]),
    )

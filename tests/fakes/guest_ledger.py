"""The judge of guest lists that were written while processes were killed.

Writers note each thing that they ask for as an `Asked`, and what came of it:

    yes       answered with success: it happened, once, and as the answer says
    no        refused: it never happened
    unknown   nobody answered, and the client gave up: it happened once, or never

Each thing asked for makes one event, and has a mark that no other has: so what is in the log can be
told apart without asking who wrote it. `Found` is all that the database holds afterwards, read in
one snapshot; the checks compare it with the ledger and with itself, and say what does not fit.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

import asyncpg
import msgspec

from services._events.event import Event, position
from services.entertainment.guest_list.api import (
    CapacityChanged,
    GuestAdmitted,
    GuestInvited,
    GuestListClosed,
    GuestListCreated,
    GuestRemoved,
    GuestStatus,
)
from services.entertainment.guest_list.logic import GUEST_LIST, State


class Outcome(StrEnum):
    """What a client knows of what it asked for."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"


Mark = tuple[type[Event], str]
"""The kind of event that a request makes, and what only that one is about."""


@dataclass(slots=True)
class Asked:
    """One thing that a client asked for, however often it had to."""

    mark: Mark
    tenant: str
    key: str
    """Its Idempotency-Key."""
    method: str
    path: str
    body: Any = None
    if_match: str = ""
    outcome: Outcome = Outcome.UNKNOWN
    status: int = 0
    answer: bytes = b""
    tries: int = 0


@dataclass(slots=True)
class Ledger:
    """All that was asked for, in the order in which it was settled."""

    asked: list[Asked] = field(default_factory=list)
    acknowledged: int = 0
    cuts: int = 0
    """Tries that nobody answered, or that were told to come again."""
    faults: list[str] = field(default_factory=list)
    """Answers that nobody should get."""

    def note(self, asked: Asked, outcome: Outcome) -> None:
        asked.outcome = outcome
        self.asked.append(asked)
        self.acknowledged += outcome is Outcome.YES

    def of(self, outcome: Outcome) -> list[Asked]:
        return [one for one in self.asked if one.outcome is outcome]


@dataclass(frozen=True, slots=True)
class Recorded:
    """An event of the log."""

    id: str
    stream: str
    version: int
    tenant: str
    place: str
    data: str
    event: Event

    @property
    def mark(self) -> Mark:
        return mark_of(self.event)


@dataclass(frozen=True, slots=True)
class Found:
    """What the database holds."""

    events: tuple[Recorded, ...]
    """By stream and version."""
    streams: Mapping[str, int]
    outbox: Mapping[str, tuple[str, str]]
    """Key and data of each event that was published, by its id."""
    doubled: int
    """Events that stand in the outbox more than once."""
    audited: Mapping[str, int]
    keys: frozenset[str]
    """Idempotency keys that have an answer."""
    contacts: Mapping[str, str]
    invitations: frozenset[str]
    arrived: Mapping[str, int]
    boards: Mapping[str, tuple[Any, ...]]
    guests: Mapping[str, tuple[Any, ...]]
    heard: tuple[tuple[str, str], ...]
    """Key and id of each event that the witness heard, in its order."""
    parked: int
    waiting_jobs: int
    dead_jobs: int

    @property
    def at_rest(self) -> bool:
        """Whether all that follows from the log has followed, or more than that."""
        admitted = [one.event for one in self.events if isinstance(one.event, GuestAdmitted)]
        return (
            not self.waiting_jobs
            and len(self.heard) >= len(self.events)
            and sum(self.arrived.values()) >= sum(event.seats for event in admitted)
            and sum(row[-1] for row in self.boards.values()) >= len(self.events)
        )


def mark_of(event: Event) -> Mark:
    """What only this event is about: see `Mark`."""
    match event:
        case GuestListCreated() | GuestInvited():
            return type(event), event.name
        case GuestAdmitted() | GuestRemoved():
            return type(event), event.guest
        case CapacityChanged():
            return type(event), f"{event.guest_list} {event.capacity}"
        case GuestListClosed():
            return type(event), event.guest_list
    raise AssertionError(event)


def judge(ledger: Ledger, found: Found) -> None:
    """All promises. Raises AssertionError, which says which one was broken."""
    assert not ledger.faults, ledger.faults[:5]
    check_answers(ledger, found)
    check_log(found)
    states = fold(found.events)
    check_changes(ledger, found, states)
    check_read_models(found, states)
    check_effects(found, states)


def check_answers(ledger: Ledger, found: Found) -> None:
    """What was acknowledged is there once, as it was told; what was refused is not there."""
    counts = Counter(one.mark for one in found.events)
    assert not [mark for mark, count in counts.items() if count > 1], "it happened more than once"
    yes, no = ledger.of(Outcome.YES), ledger.of(Outcome.NO)
    assert yes, "nothing was acknowledged"
    lost = [one for one in yes if one.mark not in counts]
    assert not lost, f"{len(lost)} acknowledged writes are lost: {lost[:3]}"
    refused = [one for one in no if one.mark in counts]
    assert not refused, f"refused, and yet done: {refused[:3]}"
    strangers = counts.keys() - {one.mark for one in ledger.asked}
    assert not strangers, f"nobody asked for {list(strangers)[:3]}"
    by_mark = {one.mark: one for one in found.events}
    for asked in yes:
        _check_answer(asked, by_mark[asked.mark])


def check_log(found: Found) -> None:
    """Versions have no gap, and each event was published once, as it is in the log."""
    versions: dict[str, list[int]] = defaultdict(list)
    for one in found.events:
        versions[one.stream].append(one.version)
    whole = {stream: list(range(1, count + 1)) for stream, count in found.streams.items()}
    assert versions == whole, "a stream and its events do not fit"
    assert found.doubled == 0, "an event was published twice"
    published = {one.id: (one.stream, one.data) for one in found.events}
    assert found.outbox == published, "log and outbox do not fit"


def check_changes(ledger: Ledger, found: Found, states: Mapping[str, State]) -> None:
    """What a transaction writes beside its event is there when the event is, and only then."""
    invited = {
        guest: stream
        for stream, state in states.items()
        for guest, place in state.places.items()
        if place.status != GuestStatus.REMOVED
    }
    assert found.contacts == invited, "guests and their addresses do not fit"
    assert found.audited == found.streams, "one audit row a change"
    happened = {one.mark for one in found.events}
    keys = {one.key for one in ledger.asked if one.mark in happened}
    assert found.keys == keys, "one stored answer a change"


def check_read_models(found: Found, states: Mapping[str, State]) -> None:
    """The tables made of the log say what folding it says."""
    boards = {
        stream: (one.name, one.capacity, one.taken, one.closed, found.streams[stream])
        for stream, one in states.items()
    }
    assert found.boards == boards
    guests = {
        guest: (stream, place.seats, str(place.status))
        for stream, state in states.items()
        for guest, place in state.places.items()
    }
    assert found.guests == guests


def check_effects(found: Found, states: Mapping[str, State]) -> None:
    """Jobs and consumers did what they had to, once, and in order for each key."""
    assert (found.dead_jobs, found.parked) == (0, 0)
    assert found.invitations == found.contacts.keys(), "a letter for each guest, and none else"
    admitted = {
        stream: sum(
            place.seats for place in state.places.values() if place.status == GuestStatus.ADMITTED
        )
        for stream, state in states.items()
    }
    assert found.arrived == {stream: seats for stream, seats in admitted.items() if seats}
    told: dict[str, list[str]] = defaultdict(list)
    for one in found.events:
        told[one.stream].append(one.id)
    heard: dict[str, list[str]] = defaultdict(list)
    for key, event in found.heard:
        heard[key].append(event)
    wrong = {key: _difference(told[key], heard[key]) for key in told if heard[key] != told[key]}
    assert not wrong, f"each event was heard once, in its key's order: {wrong}"
    assert heard.keys() == told.keys(), "events that nobody wrote were heard"


def _difference(told: list[str], heard: list[str]) -> str:
    """In a few words: what was never heard, heard twice, or heard at another time."""
    lost = [told.index(event) + 1 for event in told if event not in heard]
    again = [told.index(event) + 1 for event in {*told} if heard.count(event) > 1]
    order = [told.index(event) + 1 for event in heard if event in told]
    return f"never {lost}, again {again}, in this order {order}"


def fold(events: Iterable[Recorded]) -> dict[str, State]:
    """The guest lists as their events say."""
    states: dict[str, State] = {}
    for one in events:
        states[one.stream] = GUEST_LIST.evolve(states.get(one.stream, State()), one.event)
    return states


def _check_answer(asked: Asked, recorded: Recorded) -> None:
    """That the answer told of this event, and of no other."""
    assert asked.tenant == recorded.tenant
    if not asked.answer:
        return
    told = msgspec.json.decode(asked.answer)
    assert told["position"] == recorded.place, (asked, recorded)
    if isinstance(recorded.event, GuestInvited):
        shown = (told["id"], told["guest_list"], told["seats"])
        assert shown == (recorded.event.guest, recorded.stream, recorded.event.seats)
    else:
        assert (told["id"], told["version"]) == (recorded.stream, recorded.version)


_ACTIVE: Final = "(SELECT generation FROM guest_list.projection WHERE active)"
_PAIRS: Final = {
    "streams": "SELECT id, version FROM guest_list.stream",
    "audited": "SELECT target, count(*) FROM guest_list.audit GROUP BY target",
    "contacts": "SELECT guest, guest_list FROM guest_list.contact",
    "arrived": "SELECT guest_list, seats FROM guest_list.arrival",
}
_ROWS: Final = {
    "outbox": "SELECT id, subject, data::text FROM guest_list.outbox",
    "boards": "SELECT id, name, capacity, taken, closed, version FROM guest_list.board"
    f" WHERE generation = {_ACTIVE}",
    "guests": "SELECT id, guest_list, seats, status FROM guest_list.guest"
    f" WHERE generation = {_ACTIVE}",
}
_SETS: Final = {
    "keys": "SELECT key FROM guest_list.idempotency",
    "invitations": "SELECT guest FROM guest_list.invitation",
}
_COUNTS: Final = {
    "doubled": "SELECT count(*) - count(DISTINCT id) FROM guest_list.outbox",
    "parked": "SELECT (SELECT count(*) FROM guest_list.parked)"
    " + (SELECT count(*) FROM witness.parked)",
    "waiting_jobs": "SELECT count(*) FROM guest_list.job WHERE state <> 'dead'"
    " AND name = 'write_invitation'",
    "dead_jobs": "SELECT count(*) FROM guest_list.job WHERE state = 'dead'",
}
_EVENTS: Final = """
SELECT id, stream, version, tenant, type, data::text, epoch, xid::text, seq FROM guest_list.event
ORDER BY stream, version
"""


async def read(connection: asyncpg.Connection) -> Found:
    """All of it, as one who sees every row."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        read: dict[str, Any] = {}
        for name, sql in _PAIRS.items():
            read[name] = {row[0]: row[1] for row in await connection.fetch(sql)}
        for name, sql in _ROWS.items():
            read[name] = {row[0]: tuple(row)[1:] for row in await connection.fetch(sql)}
        for name, sql in _SETS.items():
            read[name] = frozenset(row[0] for row in await connection.fetch(sql))
        for name, sql in _COUNTS.items():
            read[name] = await connection.fetchval(sql)
        heard = await connection.fetch("SELECT key, event FROM witness.heard ORDER BY seq")
        events = tuple(_recorded(row) for row in await connection.fetch(_EVENTS))
    return Found(events=events, heard=tuple((row[0], row[1]) for row in heard), **read)


def _recorded(row: asyncpg.Record) -> Recorded:
    event = GUEST_LIST.codec.decode(row["type"], data=row["data"])
    assert event is not None, row["type"]
    return Recorded(
        id=row["id"],
        stream=row["stream"],
        version=row["version"],
        tenant=row["tenant"],
        place=position(epoch=row["epoch"], xid=int(row["xid"]), seq=row["seq"]),
        data=row["data"],
        event=event,
    )

"""The rules of a guest list, as pure functions: `decide` says what happens, `evolve` what is then.

No seat is given twice: the seats of all guests who are invited or in never exceed the capacity. A
guest is admitted once. A closed list changes no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from services._events.event import Event
from services._events.store import Aggregate
from services._kit.errors import Conflict, Invalid, NotFound
from services.entertainment.guest_list.api import (
    CapacityChanged,
    GuestAdmitted,
    GuestInvited,
    GuestListClosed,
    GuestListCreated,
    GuestRemoved,
    GuestStatus,
)


@dataclass(frozen=True, slots=True)
class Place:
    """One guest, as far as the rules care."""

    seats: int
    status: GuestStatus


@dataclass(frozen=True, slots=True)
class State:
    """A guest list, folded from its events."""

    name: str = ""
    capacity: int = 0
    ends_at: str = ""
    closed: bool = False
    places: Mapping[str, Place] = field(default_factory=dict)

    @property
    def taken(self) -> int:
        """Seats of all who are invited or in."""
        return sum(
            place.seats for place in self.places.values() if place.status != GuestStatus.REMOVED
        )


@dataclass(frozen=True, slots=True)
class Create:
    guest_list: str
    name: str
    capacity: int
    ends_at: str


@dataclass(frozen=True, slots=True)
class ChangeCapacity:
    guest_list: str
    capacity: int


@dataclass(frozen=True, slots=True)
class Invite:
    guest_list: str
    guest: str
    name: str
    seats: int


@dataclass(frozen=True, slots=True)
class Admit:
    guest_list: str
    guest: str


@dataclass(frozen=True, slots=True)
class Remove:
    guest_list: str
    guest: str


@dataclass(frozen=True, slots=True)
class Close:
    guest_list: str


Command = Create | ChangeCapacity | Invite | Admit | Remove | Close

INITIAL: Final = State()


def decide(state: State, command: Command) -> list[Event]:
    """What happens when this is asked. Raises Conflict, Invalid, NotFound."""
    if isinstance(command, Create):
        assert state == INITIAL, "ids are new"
        return [
            GuestListCreated(
                guest_list=command.guest_list,
                name=command.name,
                capacity=command.capacity,
                ends_at=command.ends_at,
            )
        ]
    if isinstance(command, Close):
        return [] if state.closed else [GuestListClosed(guest_list=command.guest_list)]
    if state.closed:
        raise Conflict("the guest list is closed", code="guest_list.closed")
    if isinstance(command, ChangeCapacity):
        return _change_capacity(state, command)
    if isinstance(command, Invite):
        return _invite(state, command)
    if isinstance(command, Admit):
        return _admit(state, command)
    return _remove(state, command)


def evolve(state: State, event: Event) -> State:
    """The list after an event. One that it does not know changes nothing."""
    match event:
        case GuestListCreated():
            return State(name=event.name, capacity=event.capacity, ends_at=event.ends_at)
        case CapacityChanged():
            return replace(state, capacity=event.capacity)
        case GuestInvited() | GuestAdmitted() | GuestRemoved():
            place = Place(event.seats, _STATUS_AFTER[type(event)])
            return replace(state, places={**state.places, event.guest: place})
        case GuestListClosed():
            return replace(state, closed=True)
    return state


_STATUS_AFTER: Final[Mapping[type[Event], GuestStatus]] = {
    GuestInvited: GuestStatus.INVITED,
    GuestAdmitted: GuestStatus.ADMITTED,
    GuestRemoved: GuestStatus.REMOVED,
}


GUEST_LIST: Final = Aggregate(
    "guest_list",
    events=(
        GuestListCreated,
        CapacityChanged,
        GuestInvited,
        GuestAdmitted,
        GuestRemoved,
        GuestListClosed,
    ),
    initial=INITIAL,
    evolve=evolve,
)


def _change_capacity(state: State, command: ChangeCapacity) -> list[Event]:
    if command.capacity < state.taken:
        raise Invalid.at(
            "/capacity", f"{state.taken} seats are taken already", code="guest_list.taken"
        )
    if command.capacity == state.capacity:
        return []
    return [CapacityChanged(guest_list=command.guest_list, capacity=command.capacity)]


def _invite(state: State, command: Invite) -> list[Event]:
    free = state.capacity - state.taken
    if command.seats > free:
        raise Conflict(f"the guest list has {free} seats left", code="guest_list.full")
    return [
        GuestInvited(
            guest_list=command.guest_list,
            guest=command.guest,
            name=command.name,
            seats=command.seats,
        )
    ]


def _admit(state: State, command: Admit) -> list[Event]:
    place = _place(state, command.guest)
    if place.status == GuestStatus.ADMITTED:
        raise Conflict("this guest is in already", code="guest.admitted")
    return [GuestAdmitted(guest_list=command.guest_list, guest=command.guest, seats=place.seats)]


def _remove(state: State, command: Remove) -> list[Event]:
    place = _place(state, command.guest)
    if place.status == GuestStatus.ADMITTED:
        raise Conflict("this guest is in already", code="guest.admitted")
    return [GuestRemoved(guest_list=command.guest_list, guest=command.guest, seats=place.seats)]


def _place(state: State, guest: str) -> Place:
    place = state.places.get(guest)
    if place is None or place.status == GuestStatus.REMOVED:
        raise NotFound("guest")
    return place

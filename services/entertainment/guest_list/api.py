"""What others may use of guest lists: records, inputs and events."""

from enum import StrEnum
from typing import Annotated, ClassVar

import msgspec

from services._events.event import POSITION, Event
from services._kit.record import SPACE, Input, Record, Text, entity, shaped

GuestListId = Annotated[str, entity("gls", of="GuestList")]
GuestId = Annotated[str, entity("gst", of="Guest")]
Seats = Annotated[int, msgspec.Meta(ge=1, le=20)]
Capacity = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
Email = Annotated[str, shaped(rf"^[^@{SPACE}]+@[^@{SPACE}]+$", max_length=254)]
Moment = Annotated[
    str,
    shaped(
        r"^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
        r"T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
    ),
]
"""RFC 3339, UTC, whole seconds."""


class GuestStatus(StrEnum):
    """Where a guest is."""

    INVITED = "invited"
    ADMITTED = "admitted"
    REMOVED = "removed"


class GuestList(Record):
    """A guest list. `taken` are the seats of guests who are invited or in, `arrived` of those in.

    `position` is where the change that is answered stands in the log; lists of guests take it as
    `after`. Arrivals are counted by a consumer, so they follow a moment later.
    """

    id: GuestListId
    name: str
    capacity: int
    taken: int
    arrived: int
    closed: bool
    ends_at: Moment
    version: int
    position: str = ""


class Guest(Record):
    """A guest of a list, with all who come along: `seats` counts everybody."""

    id: GuestId
    guest_list: GuestListId
    name: str
    seats: int
    status: GuestStatus
    position: str = ""


class NewGuestList(Input):
    """A guest list to be."""

    name: Text
    capacity: Capacity
    ends_at: Moment


class ChangeGuestList(Input):
    """What can be changed of a guest list."""

    capacity: Capacity


class NewGuest(Input):
    """A guest to be invited. The e-mail address is kept encrypted, and once per list."""

    name: Text
    email: Email
    seats: Seats = 1


class GuestFilter(Input):
    """Which guests to list. `after`: not before the change that answered with this position."""

    status: GuestStatus | None = None
    after: Annotated[str, shaped(f"^({POSITION})?$", max_length=64)] = ""


class GuestListCreated(Event):
    """A guest list was made."""

    TYPE: ClassVar[str] = "nexus.entertainment.guest_list.created.v1"
    KEY: ClassVar[str] = "guest_list"
    guest_list: str
    name: str
    capacity: int
    ends_at: str


class CapacityChanged(Event):
    """A list has room for more, or for fewer."""

    TYPE: ClassVar[str] = "nexus.entertainment.guest_list.capacity_changed.v1"
    KEY: ClassVar[str] = "guest_list"
    guest_list: str
    capacity: int


class GuestInvited(Event):
    """A guest is on the list. Says nothing of who it is but the name."""

    TYPE: ClassVar[str] = "nexus.entertainment.guest_list.guest_invited.v1"
    KEY: ClassVar[str] = "guest_list"
    guest_list: str
    guest: str
    name: str
    seats: int


class GuestAdmitted(Event):
    """A guest is in."""

    TYPE: ClassVar[str] = "nexus.entertainment.guest_list.guest_admitted.v1"
    KEY: ClassVar[str] = "guest_list"
    guest_list: str
    guest: str
    seats: int


class GuestRemoved(Event):
    """A guest is no longer on the list."""

    TYPE: ClassVar[str] = "nexus.entertainment.guest_list.guest_removed.v1"
    KEY: ClassVar[str] = "guest_list"
    guest_list: str
    guest: str
    seats: int


class GuestListClosed(Event):
    """Nobody is invited or admitted any more."""

    TYPE: ClassVar[str] = "nexus.entertainment.guest_list.closed.v1"
    KEY: ClassVar[str] = "guest_list"
    guest_list: str

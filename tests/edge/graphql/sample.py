"""Services for the tests of GraphQL: a guest list, the hosts it links to, one of every type."""

import base64
import datetime as dt
import decimal
import enum
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from services._kit.actor import Actor
from services._kit.errors import Conflict, Invalid, NotFound
from services._kit.paging import Slice
from services._kit.record import Input, Page, Record, Text, entity
from services._kit.service import Entity, Route, Service

GuestId = Annotated[str, entity("gst", of="Guest")]
HostId = Annotated[str, entity("hst", of="Host")]
Name = Annotated[Text, msgspec.Meta(description="As it stands on the badge.")]
OldName = Annotated[
    str, msgspec.Meta(description="The name again.", extra={"deprecated": "Use `name`."})
]
State = Literal["invited", "checked-in"]


def guest_id(number: int) -> str:
    return f"gst_eu1_01jz{number:022d}"


def host_id(number: int) -> str:
    return f"hst_eu1_01jz{number:022d}"


class Host(Record):
    """Who gives the party."""

    id: HostId
    name: Text
    deputy_id: HostId | None = None


class Phone(Record, tag="phone"):
    """By phone."""

    number: str


class Mail(Record, tag="mail"):
    """By mail."""

    address: str


class Guest(Record):
    """Somebody who may come."""

    id: GuestId
    name: Name
    label: OldName
    state: State
    host: HostId
    friends: tuple[GuestId, ...] = ()
    contact: Phone | Mail | None = None
    version: int = 1


class NewGuest(Input):
    """Whom to invite."""

    name: Name
    host: HostId
    contact: Phone | Mail | None = None
    plus: Annotated[int, msgspec.Meta(ge=0, le=5)] = 0


class GuestFilter(Input):
    """Which guests."""

    state: State | None = None
    name_prefix: str = ""


class Seen(Record):
    """What the service has of its calls: for tests of what reaches it."""

    body: str


async def guests(store: Any, query: GuestFilter, page: Slice) -> Page[Guest]:
    """The guests, by name.

    All of them, if no filter is given.
    """
    found = [
        guest
        for guest in store.guests.values()
        if query.state in (None, guest.state) and guest.name.startswith(query.name_prefix)
    ]
    return page.page(found[: page.rows], lambda guest: (guest.id,))


async def guest(store: Any, id: GuestId) -> Guest:
    """One guest."""
    found: Guest | None = store.guests.get(id)
    if found is None:
        raise NotFound("guest")
    return found


async def old_guest(store: Any, id: GuestId) -> Guest:
    """One guest.

    Deprecated: Use `guestListGuest`.
    """
    return await guest(store, id)


async def invite(store: Any, actor: Actor, body: NewGuest) -> Guest:
    """Invite somebody."""
    if body.name == "full":
        raise Conflict("the list is full", code="guest_list.full", fields={"capacity": 3})
    if body.name == "nobody":
        raise Invalid.at("/host", "nobody gives that party")
    if body.name == "bug":
        raise RuntimeError("never shown")
    assert actor.tenant
    made = Guest(
        id=guest_id(900 + len(store.guests)),
        name=body.name,
        label=body.name,
        state="invited",
        host=body.host,
        contact=body.contact,
    )
    store.guests[made.id] = made
    store.log.append(("invite", made.name))
    return made


async def rename(store: Any, id: GuestId, body: NewGuest, expected: int | None) -> Guest:
    """Rename somebody."""
    store.log.append(("rename", expected))
    return msgspec.structs.replace(await guest(store, id), name=body.name, version=2)


async def remove(store: Any, id: GuestId) -> None:
    """Take somebody off the list."""
    store.log.append(("remove", id))
    await guest(store, id)
    del store.guests[id]


async def hosts(store: Any) -> tuple[Host, ...]:
    """All hosts."""
    return tuple(store.hosts.values())


async def count(store: Any) -> int:
    """How many hosts there are."""
    return len(store.hosts)


async def many_guests(store: Any, ids: tuple[str, ...]) -> Mapping[str, Guest]:
    return {one: store.guests[one] for one in ids if one in store.guests}


async def many_hosts(store: Any, ids: tuple[str, ...]) -> Mapping[str, Host]:
    return {one: store.hosts[one] for one in ids if one in store.hosts}


GUEST_LIST = Service(
    name="guest-list",
    summary="Who may come to a party.",
    package="tests.edge.graphql",
    routes=(
        Route("GET", "/guests", guests, needs="guest-list.guest.read"),
        Route("GET", "/guests/{id}", guest, needs="guest-list.guest.read"),
        Route("GET", "/old/{id}", old_guest, needs="guest-list.guest.read"),
        Route("POST", "/guests", invite, needs="guest-list.guest.write", cost=5),
        Route(
            "PUT",
            "/guests/{id}",
            rename,
            needs="guest-list.guest.write",
            needs_match=True,
            needs_key=True,
        ),
        Route("DELETE", "/guests/{id}", remove, needs="guest-list.guest.write"),
    ),
    entities=(Entity(Guest, many_guests, "guest-list.guest.read"),),
)
HOSTS = Service(
    name="hosts",
    summary="Who gives parties.",
    package="tests.edge.graphql",
    routes=(
        Route("GET", "/hosts", hosts, access="signed_in"),
        Route("GET", "/count", count, access="public"),
    ),
    entities=(Entity(Host, many_hosts, "hosts.host.read"),),
)


class Colour(enum.Enum):
    """A colour of the house."""

    DARK_RED = "dark-red"
    BLUE = "blue"


class Circle(Record, tag="circle"):
    """A circle."""

    radius: float


class Square(Record, tag="square"):
    """A square."""

    side: int


class Nothing(Record):
    """A record without fields."""


class Twin(Record):
    """It holds more of its kind."""

    name: str
    others: tuple["Twin", ...] = ()


class Everything(Record):
    """One field of every type."""

    text: str
    flag: bool
    number: Annotated[int, msgspec.Meta(ge=0, le=100)]
    long: int
    ratio: float
    moment: dt.datetime
    day: dt.date
    time: dt.time
    length: dt.timedelta
    uuid: uuid.UUID
    amount: decimal.Decimal
    data: bytes
    colour: Colour
    level: Literal[1, 2, 3]
    mood: Literal["good", "so-so"] | None
    shape: Circle | Square
    maybe: str | None
    tags: tuple[str, ...]
    sizes: frozenset[float]
    pair: tuple[int, str]
    matrix: list[list[Colour]]
    anything: Any
    table: dict[str, int]
    nothing: Nothing
    twin: Twin
    mixed: int | str
    unset: str | msgspec.UnsetType = msgspec.UNSET


class EverythingInput(Input):
    """One field of every type that may be sent."""

    text: str
    number: Annotated[int, msgspec.Meta(ge=0, le=100)]
    long: int
    ratio: float
    moment: dt.datetime
    day: dt.date
    length: dt.timedelta
    uuid: uuid.UUID
    amount: decimal.Decimal
    data: bytes
    colour: Colour
    colours: tuple[Colour, ...]
    shape: Circle | Square
    twin: Twin
    anything: Any
    table: dict[str, int]
    flag: bool = True
    mood: Literal["good", "so-so"] = "so-so"
    maybe: str | None = None
    unset: str | msgspec.UnsetType = msgspec.UNSET
    made: list[str] = msgspec.field(default_factory=list)


async def everything(store: Any) -> Everything:
    """One of each."""
    made: Everything = store.everything
    return made


async def echo(store: Any, body: EverythingInput) -> Seen:
    """What arrived, as JSON."""
    store.log.append(("echo", body))
    return Seen(body=msgspec.json.encode(body).decode())


TYPES = Service(
    name="types",
    summary="Every type that GraphQL maps.",
    package="tests.edge.graphql",
    routes=(
        Route("GET", "/everything", everything, access="public"),
        Route("POST", "/everything:echo", echo, access="public", body_bytes_max=65_536),
    ),
)
EVERYTHING = Everything(
    text="ä",
    flag=True,
    number=7,
    long=2**40,
    ratio=0.5,
    moment=dt.datetime(2026, 1, 31, 18, tzinfo=dt.UTC),
    day=dt.date(2026, 1, 31),
    time=dt.time(18, 30),
    length=dt.timedelta(seconds=90),
    uuid=uuid.UUID(int=5),
    amount=decimal.Decimal("10.50"),
    data=b"\x00\xff",
    colour=Colour.DARK_RED,
    level=2,
    mood="so-so",
    shape=Square(side=3),
    maybe=None,
    tags=("a", "b"),
    sizes=frozenset({1.5}),
    pair=(1, "x"),
    matrix=[[Colour.BLUE], []],
    anything={"deep": [1, None]},
    table={"a": 1},
    nothing=Nothing(),
    twin=Twin(name="one", others=(Twin(name="two"),)),
    mixed="either",
)
GOOD: dict[str, Any] = {
    "text": "ä \U0001f600",
    "number": 7,
    "long": 2**40,
    "ratio": 1,
    "moment": "2026-01-31T18:00:00Z",
    "day": "2026-01-31",
    "length": "PT90S",
    "uuid": "00000000-0000-0000-0000-000000000005",
    "amount": "10.50",
    "data": base64.b64encode(b"\x00\xff").decode(),
    "colour": "DARK_RED",
    "colours": ["BLUE"],
    "shape": {"square": {"side": 3}},
    "twin": {"name": "one", "others": [{"name": "two"}]},
    "anything": {"deep": [1, None]},
    "table": {"a": 1},
}
"""What `typesEcho` takes, as variables."""
SERVICES = (GUEST_LIST, HOSTS, TYPES)

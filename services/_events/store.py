"""Event-sourced state: it is the fold of its events, which are never changed.

    GUEST_LIST = Aggregate(
        "guest_list", events=(GuestInvited, GuestRemoved), initial=GuestList(), evolve=evolve
    )
    found = await execute(session, GUEST_LIST, id, lambda state: invite(state, command), …)

`decide(state) -> events` says what a command does, or raises; `evolve(state, event) -> state`
what an event means. Both are pure. The first event makes the stream, at version 1. Events are
appended if the version is still the one that was decided upon, and published in the same
transaction.

Snapshots are a shortcut, made every `snapshot_every` events and thrown away when the state's type
has another shape: the log alone is the truth.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

import msgspec

from ops.db import Session
from ops.errors import Rejected
from services._events import outbox
from services._events.event import Codec, Event, Origin, position

S = TypeVar("S")

_LOAD: Final = """
SELECT s.version, n.version AS noted, n.state FROM stream s
LEFT JOIN snapshot n ON n.stream = s.id AND n.shape = $2 WHERE s.id = $1
"""
_EVENTS: Final = "SELECT type, data FROM event WHERE stream = $1 AND version > $2 ORDER BY version"
_CREATE: Final = """
INSERT INTO stream (tenant, id, type, version) VALUES ($1, $2, $3, $4)
ON CONFLICT DO NOTHING RETURNING version
"""
_GROW: Final = """
UPDATE stream SET version = $4 WHERE tenant = $1 AND id = $2 AND type = $3 AND version = $5
RETURNING version
"""
_APPEND: Final = """
INSERT INTO event (stream, version, tenant, id, type, data, actor, traceparent, epoch)
SELECT $1, $2 + g.place, $3, g.id, g.type, g.data::json, $4, $5, e.epoch
FROM log_epoch e, unnest($6::text[], $7::text[], $8::text[]) WITH ORDINALITY
    AS g (id, type, data, place)
ORDER BY g.place RETURNING epoch, xid, seq
"""
_SNAPSHOT: Final = """
INSERT INTO snapshot (tenant, stream, version, shape, state) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (stream) DO UPDATE SET version = $3, shape = $4, state = $5
WHERE snapshot.version < $3 OR snapshot.shape <> $4
"""


class Conflict(Rejected):
    """The state is not at the version that the caller has seen; `fields` has both."""

    code = "version.conflict"

    def __init__(self, *, expected: int, version: int | None = None) -> None:
        fields = {"expected": expected, "version": version}
        super().__init__("it has changed since", fields=fields)
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Aggregate(Generic[S]):
    """What is event-sourced: its events, and how they make its state."""

    name: str
    events: tuple[type[Event], ...]
    initial: S
    evolve: Callable[[S, Any], S]
    snapshot_every: int = 200
    codec: Codec = field(init=False)
    shape: str = field(init=False)
    """Names the state's fields and types: a snapshot of another shape is not read."""

    def __post_init__(self) -> None:
        shown = msgspec.json.encode(msgspec.json.schema(type(self.initial)), order="sorted")
        object.__setattr__(self, "codec", Codec(self.events))
        object.__setattr__(self, "shape", hashlib.sha256(shown).hexdigest()[:16])


@dataclass(frozen=True, slots=True)
class Loaded(Generic[S]):
    """The state of one stream; version 0: it has no events."""

    state: S
    version: int
    position: str = ""
    """Where the last append stands in the log, for a read model's `wait_for`."""


async def load(
    session: Session, aggregate: Aggregate[S], id: str, *, lock: bool = False
) -> Loaded[S]:
    """The state now. `lock`: nobody else appends to it until the transaction has ended."""
    head = await session.row(_LOAD + ("FOR UPDATE OF s" if lock else ""), id, aggregate.shape)
    if head is None:
        return Loaded(aggregate.initial, 0)
    state, noted = aggregate.initial, head["noted"] or 0
    if noted:
        state = msgspec.json.decode(head["state"], type=type(aggregate.initial))
    rows = await session.rows(_EVENTS, id, noted)
    for row in rows:
        event = aggregate.codec.decode(row["type"], data=row["data"])
        assert event is not None, f"{aggregate.name} does not know its own {row['type']}"
        state = aggregate.evolve(state, event)
    # Who did not lock may have read events that came after the head was read.
    return Loaded(state, noted + len(rows))


async def append(
    session: Session,
    aggregate: Aggregate[Any],
    id: str,
    events: Sequence[Event],
    *,
    expected: int,
    origin: Origin,
) -> str:
    """Appends and publishes events of one stream that is at version `expected`; their position.

    Raises Conflict, EventRefused, DatabaseFault: the transaction must be rolled back then.
    """
    assert session.in_transaction, "events are appended by writes"
    assert events
    assert all(type(event) in aggregate.events and event.key == id for event in events)
    data = outbox.encode(events)
    ids = [outbox.new_id(origin.region) for _ in events]
    names = [event.TYPE for event in events]
    version = expected + len(events)
    change = (origin.tenant, id, aggregate.name, version)
    if expected:
        held = await session.value(_GROW, *change, expected)
    else:
        held = await session.value(_CREATE, *change)
    if held is None:
        raise Conflict(
            expected=expected,
            version=await session.value("SELECT version FROM stream WHERE id = $1", id),
        )
    places = await session.rows(
        _APPEND, id, expected, origin.tenant, origin.actor, origin.trace, ids, names, data
    )
    await outbox.write(session, events, data=data, ids=ids, origin=origin)
    last = places[-1]
    return position(epoch=last["epoch"], xid=last["xid"], seq=last["seq"])


async def execute(
    session: Session,
    aggregate: Aggregate[S],
    id: str,
    decide: Callable[[S], Sequence[Event]],
    *,
    origin: Origin,
    expected: int | None = None,
) -> Loaded[S]:
    """Loads, decides, appends, snapshots; the new state. Deciding nothing changes nothing.

    expected: the version that the caller has seen; None: whatever it is.
    Raises Conflict, what `decide` raises, EventRefused, DatabaseFault.
    """
    found = await load(session, aggregate, id, lock=True)
    if expected is not None and expected != found.version:
        raise Conflict(expected=expected, version=found.version)
    events = decide(found.state)
    if not events:
        return found
    place = await append(session, aggregate, id, events, expected=found.version, origin=origin)
    state, version = found.state, found.version + len(events)
    for event in events:
        state = aggregate.evolve(state, event)
    if version // aggregate.snapshot_every > found.version // aggregate.snapshot_every:
        note = msgspec.json.encode(state).decode()
        await session.run(_SNAPSHOT, origin.tenant, id, version, aggregate.shape, note)
    return Loaded(state, version, place)

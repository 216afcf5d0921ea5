"""What an event is: a frozen struct with a type, and the CloudEvents 1.0 envelope it travels in.

    class GuestInvited(Event):
        TYPE: ClassVar[str] = "nexus.commerce.guest.invited.v1"
        KEY: ClassVar[str] = "guest"       # the field with the aggregate's id: order holds per key
        guest: GuestId
        name: str

`TYPE` is `nexus.<domain>.<aggregate>.<verb>.v<number>`; its topic `nexus.<region>.<domain>.
<aggregate>`. A changed shape is a new version; `UPCASTS` reads the older ones, each step giving the
next version's data: `{"nexus.commerce.guest.invited.v1": lambda data: data | {"plus": 0}}`.
History itself is never rewritten.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from zlib import crc32

import msgspec

from ops.frozen import Frozen

TYPE: Final = re.compile(r"nexus\.([a-z0-9_]+\.[a-z0-9_]+)\.[a-z0-9_]+\.v([1-9][0-9]*)")
PARTITIONS: Final = 64
"""Virtual partitions of every outbox and of the embedded bus: what may be relayed side by side."""
POSITION: Final = r"[0-9]{6}(?:\.0[0-8][0-9]{18}){2}"
"""The shape of a `position`. A schema's log has far fewer transactions and rows than fit in it."""

Upcast = Callable[[dict[str, Any]], dict[str, Any]]


class Event(Frozen):
    """A fact that has happened; consumers ignore fields that they do not know."""

    TYPE: ClassVar[str] = ""
    KEY: ClassVar[str] = ""
    UPCASTS: ClassVar[Mapping[str, Upcast]] = {}

    @property
    def key(self) -> str:
        """The id of the aggregate that it happened to."""
        value: str = getattr(self, self.KEY)
        return value


@dataclass(frozen=True, slots=True)
class Origin:
    """Where events come from and who caused them."""

    service: str
    region: str
    tenant: str
    actor: str
    trace: str = ""


class Envelope(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    tag="1.0",
    tag_field="specversion",
):
    """One event on its way: CloudEvents 1.0.2 attributes; `data` is the event as JSON.

    Encoded by msgspec it is CloudEvents' structured JSON (JSON event format, section 3).
    """

    id: str
    type: str
    source: str
    """`/v1/<service>/<region>`"""
    subject: str
    """The aggregate's id."""
    time: str
    """RFC 3339, UTC, with Z."""
    tenant: str
    region: str
    partitionkey: str
    sequence: str
    """`epoch.xid.seq`, zero-padded so that text order is the order of the outbox."""
    data: msgspec.Raw
    traceparent: str = ""


class Codec:
    """Reads events of these types, and of their older versions."""

    def __init__(self, events: Iterable[type[Event]]) -> None:
        """Raises ValueError: a type without name or key, twice there, or a gap in its upcasts."""
        self._readers: dict[str, tuple[type[Event], tuple[Upcast, ...]]] = {}
        for event in events:
            match = TYPE.fullmatch(event.TYPE)
            if match is None or event.KEY not in event.__struct_fields__:
                raise ValueError(f"{event.__name__}: TYPE or KEY is missing or wrong")
            known = {event.TYPE, *event.UPCASTS}
            if known & set(self._readers):
                raise ValueError(f"{event.__name__}: {event.TYPE} is known already")
            stem, last = event.TYPE.rpartition(".v")[0], int(match[2])
            for name in known:
                first = int(name.rpartition(".v")[2])
                steps = [f"{stem}.v{number}" for number in range(first, last)]
                if not name.startswith(f"{stem}.v") or set(steps) - known:
                    raise ValueError(f"{event.__name__}: its upcasts lack a step from {name}")
                self._readers[name] = (event, tuple(event.UPCASTS[step] for step in steps))

    @property
    def types(self) -> tuple[str, ...]:
        """All that it reads, older versions among them."""
        return tuple(self._readers)

    def decode(self, type: str, *, data: str | bytes | msgspec.Raw) -> Event | None:
        """The event, brought to its newest shape; None: not one of ours.

        Raises msgspec.ValidationError, msgspec.DecodeError.
        """
        if type not in self._readers:
            return None
        event, steps = self._readers[type]
        if not steps:
            return msgspec.json.decode(data, type=event)
        plain = msgspec.json.decode(data)
        for step in steps:
            plain = step(plain)
        return msgspec.convert(plain, event)


def topic(type: str, *, region: str) -> str:
    """`nexus.<region>.<domain>.<aggregate>` of an event's type."""
    match = TYPE.fullmatch(type)
    assert match is not None, type
    return f"nexus.{region}.{match[1]}"


def partition(key: str) -> int:
    """The virtual partition of a key, 0 to 63: the same in every process and release."""
    return crc32(key.encode()) % PARTITIONS


def position(*, epoch: int, xid: int, seq: int) -> str:
    """A place in a schema's order of commits, as text that sorts like it."""
    return f"{epoch:06d}.{xid:020d}.{seq:020d}"


def parse_position(text: str) -> tuple[int, int, int]:
    """Epoch, xid and seq. Raises ValueError."""
    epoch, xid, seq = text.split(".")
    return int(epoch), int(xid), int(seq)

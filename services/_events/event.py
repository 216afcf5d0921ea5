"""What an event is: a frozen struct with a type, and the CloudEvents 1.0 envelope it travels in.

    class GuestInvited(Event):
        TYPE: ClassVar[str] = "nexus.commerce.guest.invited.v1"
        KEY: ClassVar[str] = "guest"       # the field with the aggregate's id: order holds per key
        guest: GuestId
        name: str

`TYPE` is `nexus.<domain>.<aggregate>.<verb>.v<number>`; its topic `nexus.<region>.<domain>.
<aggregate>`. A changed shape is a new version, with an upcaster from the old one.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Final

import msgspec

TYPE: Final = re.compile(r"nexus\.[a-z0-9_]+\.[a-z0-9_]+\.[a-z0-9_]+\.v[1-9][0-9]*")


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A fact that has happened; consumers ignore fields that they do not know."""

    TYPE: ClassVar[str] = ""
    KEY: ClassVar[str] = ""

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


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event on its way: CloudEvents 1.0.2 attributes; `data` is the event as JSON."""

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
    traceparent: str
    data: bytes

"""A client of a list's server-sent events, written from WHATWG HTML 9.2 and docs/add-a-service.md.

It keeps the list as the events say, and notices what it is told twice.
"""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One event as EventSource would give it."""

    kind: str
    data: Any
    id: str


@dataclass
class Follower:
    """`feed` it with bytes as they come. `key` names an item."""

    key: str = "id"
    items: dict[str, Any] = field(default_factory=dict)
    last_id: str = ""
    retry_ms: int = 0
    comments: int = 0
    events: list[Event] = field(default_factory=list)
    doubled: list[Event] = field(default_factory=list)
    """Events that told what was known already."""
    ended: Any = None
    _rest: bytes = b""
    _fields: dict[str, str] = field(default_factory=dict)

    def feed(self, data: bytes) -> list[Event]:
        """The events that are whole now."""
        known = len(self.events)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line.decode())
        return self.events[known:]

    def cut(self) -> None:
        """The connection is gone: what was not whole never came."""
        self._rest, self._fields, self.ended = b"", {}, None

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def _line(self, line: str) -> None:
        if not line:
            self._dispatch()
        elif line.startswith(":"):
            self.comments += 1
        else:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            assert name in {"id", "event", "data", "retry"}, line
            assert name not in self._fields, line
            self._fields[name] = value

    def _dispatch(self) -> None:
        fields, self._fields = self._fields, {}
        self.last_id = fields.get("id", self.last_id)
        if "retry" in fields:
            self.retry_ms = int(fields["retry"])
        if "data" in fields:
            event = Event(fields["event"], json.loads(fields["data"]), self.last_id)
            self.events.append(event)
            self._apply(event)

    def _apply(self, event: Event) -> None:
        data = event.data
        match event.kind:
            case "page":
                self.items = {item[self.key]: item for item in data["data"]}
            case "created" | "updated":
                known = self.items.get(data[self.key])
                if known == data or (event.kind == "created") == (known is not None):
                    self.doubled.append(event)
                self.items[data[self.key]] = data
            case "removed":
                if self.items.pop(data[self.key], None) is None:
                    self.doubled.append(event)
            case "kept":
                left = set(data[self.key])
                self.items = {key: item for key, item in self.items.items() if key in left}
            case "end":
                self.ended = data
            case _:
                raise AssertionError(event)

"""What a client has of a list, in as many bytes as it takes to know what it lacks.

The `id:` of each event says it, so the client itself brings it back as `Last-Event-ID`: for each
item seven bytes, three of the hash of its key and four of that of its JSON, sorted, in base64url.
Any worker of any node can so go on where another ended, by comparing with the list as it is now;
nothing has to be kept for clients that may never come back, and it holds for lists that no event
tells of. A position in a log would not say what a client was shown by consumers, jobs and read
models that were behind it.

A change is overlooked if two JSONs of one item have the same four bytes: one of four thousand
million. Who forges the text is told of changes that are none.
"""

import base64
import binascii
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec

_KEY_BYTES: Final = 3
_CONTENT_BYTES: Final = 4
_ENTRY_BYTES: Final = _KEY_BYTES + _CONTENT_BYTES
ENTRIES_MAX: Final = 1_000
"""Of what somebody says to have; a page has fewer."""


class Item(NamedTuple):
    """One item of a list as it is shown."""

    body: bytes
    """Its JSON."""
    entry: bytes


class Change(NamedTuple):
    """One event of a list."""

    kind: str
    """created, updated, removed or kept."""
    body: bytes
    """The item's JSON; what names it, if it was removed; all that are left."""
    id: str
    """What the client has then."""


class Held:
    """What one client has: entries, in any order, possibly some twice."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self._entries = list(entries)

    @classmethod
    def parse(cls, text: str) -> "Held | None":
        """What `id` said; None: it is not one of ours."""
        if not text or len(text) > ENTRIES_MAX * _ENTRY_BYTES * 2 or not text.startswith("h"):
            return None
        padded = text[1:] + "=" * (-(len(text) - 1) % 4)
        try:
            data = base64.b64decode(padded, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(data) % _ENTRY_BYTES:
            return None
        return cls(data[at : at + _ENTRY_BYTES] for at in range(0, len(data), _ENTRY_BYTES))

    @property
    def id(self) -> str:
        joined = b"".join(sorted(self._entries))
        return "h" + base64.urlsafe_b64encode(joined).decode().rstrip("=")

    def changes(self, now: Mapping[str, Item], *, name: str) -> list[Change]:
        """What brings it to the list as it is now, in the list's order, for a client of whom no
        more is known than this. name: of the member that is an item's key.

        Of what is gone the keys are not known: the last event then names all that are left.
        """
        rest: dict[bytes, list[bytes]] = {}
        for entry in self._entries:
            rest.setdefault(entry[:_KEY_BYTES], []).append(entry)
        lacking: list[Item] = []
        for item in now.values():
            same = rest.get(item.entry[:_KEY_BYTES], [])
            if item.entry in same:
                same.remove(item.entry)
            else:
                lacking.append(item)
        found: list[Change] = []
        for item in lacking:
            older = rest.get(item.entry[:_KEY_BYTES])
            kind = "updated" if older else "created"
            if older:
                self._entries.remove(older.pop())
            self._entries.append(item.entry)
            found.append(Change(kind, item.body, self.id))
        gone = [entry for same in rest.values() for entry in same]
        if gone:
            for entry in gone:
                self._entries.remove(entry)
            found.append(Change("kept", named(name, list(now)), self.id))
        return found


def item(key: str, body: bytes) -> Item:
    """An item as a client will have it."""
    return Item(body, _hash(key.encode(), _KEY_BYTES) + _hash(body, _CONTENT_BYTES))


def changes(
    before: Mapping[str, Item], *, now: Mapping[str, Item], removed: Mapping[str, bytes]
) -> list[Change]:
    """What has happened between two readings, in the order: gone, then in the list's order.

    removed: what is told of those that are gone, by key.
    """
    held = {key: known.entry for key, known in before.items()}
    found: list[Change] = []
    for key in before:
        if key not in now:
            del held[key]
            found.append(Change("removed", removed[key], Held(held.values()).id))
    for key, shown in now.items():
        known = before.get(key)
        if known is None or known.entry != shown.entry:
            held[key] = shown.entry
            kind = "created" if known is None else "updated"
            found.append(Change(kind, shown.body, Held(held.values()).id))
    return found


def named(name: str, keys: Sequence[str] | str) -> bytes:
    """`{"id": …}` as JSON."""
    return msgspec.json.encode({name: keys})


def _hash(data: bytes, size: int) -> bytes:
    return blake2b(data, digest_size=size, person=b"nexus live").digest()

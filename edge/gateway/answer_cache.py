"""A shared cache of answers, as RFC 9111 has it, in one worker's memory.

An answer is kept under who may have it (its scope: everybody, a tenant's holders of a permission,
or one user), host, path and query; under that its variants by the fields that Vary names. It is
`fresh`, then `stale` (given while a new one is fetched, RFC 5861), then `expired`: good for asking
whether it still holds, and for want of anything better.

Bounded by bytes: the longest unused goes first. Answers carry surrogate keys, by which they are
purged everywhere; a write to a path that succeeds drops what this worker keeps of it. An engine:
it asks nobody and `now` is given; fetching and waiting are `gateway.py`'s.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from edge.gateway.cache_control import Keeping, directives, seconds_of, unix_of
from edge.gateway.fields import Pairs, first, joined, without
from ops import metrics

State = Literal["fresh", "stale", "expired"]

WRITES_TOLD_APART: Final = 1_024
"""Paths whose writes are counted apart; others share a count by chance, which costs a fetch."""
VARIANTS_MAX: Final = 20
"""Most variants of one answer; the oldest goes."""
SURROGATE_KEYS_MAX: Final = 64
_OVERHEAD_BYTES: Final = 500
"""What an answer takes besides its bytes."""

_bytes = metrics.gauge("nexus_gateway_cache_bytes", "Bytes of answers that are kept.")
_evicted = metrics.counter(
    "nexus_gateway_cache_evicted", "Answers dropped from the cache because it was full."
)


class Place(NamedTuple):
    """What an answer is kept under."""

    tenant: str
    scope: str
    host: str
    path: str
    query: str


@dataclass(slots=True, eq=False)
class Kept:
    """One answer."""

    place: Place
    status: int
    headers: Pairs
    body: bytes
    keeping: Keeping
    stored_at: float
    variant: tuple[str, ...]
    """Values of the request's fields that Vary names."""
    keys: frozenset[str]

    @property
    def size_bytes(self) -> int:
        headers = sum(len(name) + len(value) for name, value in self.headers)
        return _OVERHEAD_BYTES + len(self.body) + headers

    def age(self, now: float) -> float:
        """Section 4.2.3."""
        return self.keeping.age_seconds + max(0.0, now - self.stored_at)

    def validators(self) -> Pairs:
        """What asks whether it still holds; nothing: it cannot be asked."""
        found: Pairs = []
        if tag := first(self.headers, "etag"):
            found.append(("if-none-match", tag))
        if date := first(self.headers, "last-modified"):
            found.append(("if-modified-since", date))
        return found


class AnswerCache:
    """The answers that one worker keeps."""

    def __init__(self, *, bytes_max: int, answer_bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.answer_bytes_max = answer_bytes_max
        """Longer answers are not kept."""
        self._all: OrderedDict[int, Kept] = OrderedDict()
        """By identity, longest unused first."""
        self._at: dict[Place, list[Kept]] = {}
        self._places: dict[tuple[str, str], set[Place]] = {}
        """By host and path."""
        self.bytes = 0
        self._purges = 0
        self._writes = [0] * WRITES_TOLD_APART

    def __len__(self) -> int:
        return len(self._all)

    def find(
        self, place: Place, request: Mapping[str, str], *, now: float
    ) -> tuple[Kept, State] | None:
        """The answer to a GET with these fields (by lower-case name), and how good it is."""
        for kept in self._at.get(place, ()):
            wanted = tuple(_normal(request.get(name, "")) for name in kept.keeping.vary)
            if wanted == kept.variant:
                self._all.move_to_end(id(kept))
                return kept, _state(kept, request, now)
        return None

    def keep(
        self,
        place: Place,
        request: Mapping[str, str],
        keeping: Keeping,
        *,
        answer: tuple[int, Pairs, bytes],
        now: float,
    ) -> Kept | None:
        """Keeps an answer in place of the one there was; None: it is too long."""
        status, headers, body = answer
        keys = frozenset(joined(headers, "surrogate-key").split()[:SURROGATE_KEYS_MAX])
        kept = Kept(
            place=place,
            status=status,
            headers=without(headers, "surrogate-key", "age", "connection"),
            body=body,
            keeping=keeping,
            stored_at=now,
            variant=tuple(_normal(request.get(name, "")) for name in keeping.vary),
            keys=keys,
        )
        if kept.size_bytes > min(self.answer_bytes_max, self._bytes_max):
            return None
        variants = self._at.setdefault(place, [])
        for other in [one for one in variants if _is_same(one, kept)]:
            self._drop(other)
        if len(variants) >= VARIANTS_MAX:
            self._drop(variants[0])
        # Dropping the last variant has taken the list away.
        self._at.setdefault(place, variants).append(kept)
        self._places.setdefault((place.host, place.path), set()).add(place)
        self._all[id(kept)] = kept
        self.bytes += kept.size_bytes
        self._make_room()
        return kept

    def freshen(self, kept: Kept, headers: Pairs, keeping: Keeping, *, now: float) -> None:
        """It still holds (304): its fields are those of the new answer (section 3.2)."""
        names = {name for name, _ in headers} - {"content-length", "content-encoding"}
        updated = [
            *without(kept.headers, *names),
            *((name, value) for name, value in headers if name in names),
        ]
        if id(kept) in self._all:
            self.bytes -= kept.size_bytes
            kept.headers = updated
            self.bytes += kept.size_bytes
        kept.headers = updated
        kept.keeping = keeping
        kept.stored_at = now
        self._make_room()

    def moment(self, place: Place) -> tuple[int, int]:
        """Changes with each purge, and each write to the place's path: what was asked for before is
        not kept after."""
        return self._purges, self._writes[hash((place.host, place.path)) % WRITES_TOLD_APART]

    def invalidate(self, *, tenant: str, host: str, path: str) -> None:
        """Something was written to this path: what is kept of it, for anyone, goes."""
        self._writes[hash((host, path)) % WRITES_TOLD_APART] += 1
        for place in tuple(self._places.get((host, path), ())):
            if place.tenant in {tenant, ""}:
                for kept in tuple(self._at.get(place, ())):
                    self._drop(kept)

    def purge(self, *, tenant: str = "", key: str = "") -> int:
        """Drops answers of a tenant ("": of all) with this surrogate key ("": all); how many."""
        found = [
            kept
            for kept in self._all.values()
            if (not tenant or kept.place.tenant == tenant) and (not key or key in kept.keys)
        ]
        self._purges += 1
        for kept in found:
            self._drop(kept)
        _bytes.set(self.bytes)
        return len(found)

    def _make_room(self) -> None:
        while self.bytes > self._bytes_max:
            self._drop(next(iter(self._all.values())))
            _evicted.inc()
        _bytes.set(self.bytes)

    def _drop(self, kept: Kept) -> None:
        if self._all.pop(id(kept), None) is None:
            return
        self.bytes -= kept.size_bytes
        variants = self._at[kept.place]
        variants.remove(kept)
        if variants:
            return
        place = kept.place
        del self._at[place]
        others = self._places[place.host, place.path]
        others.discard(place)
        if not others:
            del self._places[place.host, place.path]


def may_look(method: str, request: Mapping[str, str]) -> bool:
    """Whether a request may be answered from the cache, or its answer kept."""
    if method not in {"GET", "HEAD"} or "range" in request:
        return False
    return "no-store" not in directives(request.get("cache-control", ""))


def only_if_cached(request: Mapping[str, str]) -> bool:
    """Whether a request wants a kept answer or none (504)."""
    return "only-if-cached" in directives(request.get("cache-control", ""))


def is_unmodified(kept: Kept, request: Mapping[str, str]) -> bool:
    """Whether a conditional request is answered 304 (RFC 9110, section 13.2.2)."""
    wanted = request.get("if-none-match")
    if wanted is not None:
        tag = first(kept.headers, "etag").removeprefix("W/")
        tags = {one.strip().removeprefix("W/") for one in wanted.split(",")}
        return bool(tag) and (tag in tags or "*" in tags)
    since = unix_of(request.get("if-modified-since", ""))
    changed = unix_of(first(kept.headers, "last-modified"))
    return since is not None and changed is not None and changed <= since


def _is_same(one: Kept, other: Kept) -> bool:
    return one.keeping.vary == other.keeping.vary and one.variant == other.variant


def _state(kept: Kept, request: Mapping[str, str], now: float) -> State:
    """How good it is for a request with these directives (section 5.2.1)."""
    text = request.get("cache-control", "")
    said = directives(text)
    age, keeping = kept.age(now), kept.keeping
    late = age - keeping.fresh_seconds
    if (
        "no-cache" in said
        or (not text and request.get("pragma", "").lower() == "no-cache")
        or ("max-age" in said and age > seconds_of(said["max-age"]))
        or (late < 0 and "min-fresh" in said and -late < seconds_of(said["min-fresh"]))
        or (late >= 0 and keeping.must_revalidate)
    ):
        return "expired"
    if late < 0:
        return "fresh"
    if "max-stale" in said and (not said["max-stale"] or late <= seconds_of(said["max-stale"])):
        return "fresh"
    return "stale" if late < keeping.stale_seconds else "expired"


def _normal(value: str) -> str:
    return ",".join(part.strip() for part in value.split(","))

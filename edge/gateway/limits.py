"""How many requests somebody may make: token buckets, and the header fields that tell of them.

A bucket holds up to `burst` tokens and gets `requests / seconds` more each second; a request takes
its route's cost from every bucket that it falls under, all or none. Buckets are a process's own:
where a limit is the node's, each of its `shares` has an equal part. What all nodes count together
is `shared_limits.py`, which falls back to these shares.

Header fields are those of draft-ietf-httpapi-ratelimit-headers-10: `RateLimit-Policy` with q (the
bucket's size) and w (seconds in which it fills), `RateLimit` with r (tokens left) and t (seconds
until one may ask again, or until it is full).
"""

import ipaddress
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import quote

from edge.gateway.identity import Principal
from ops import metrics
from services.platform.backend_api.api import Exceeded, KeyKind, Limit

REFUSALS_MAX: Final = 100
"""Limits and tenants whose refusals are counted apart until somebody asks."""
_SLACK: Final = 1e-9
"""Sums of floats: a bucket short by less than this has its token."""

_tracked = metrics.gauge("nexus_gateway_buckets", "Token buckets that are remembered.")
_forgotten = metrics.counter(
    "nexus_gateway_buckets_forgotten",
    "Token buckets forgotten before they were full again, because there were too many.",
)


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit, ready to be applied."""

    name: str
    rate: float
    """Tokens a second."""
    burst: float
    key: KeyKind
    shared: bool
    policy: str
    """Its part of RateLimit-Policy."""

    @classmethod
    def of(cls, limit: Limit) -> "Rule":
        burst = limit.burst or limit.requests
        rate = limit.requests / limit.seconds
        window = max(1, math.ceil(burst / rate))
        policy = f'"{limit.name}";q={burst};w={window}'
        return cls(limit.name, rate, float(burst), limit.key, limit.shared, policy)


class Verdict(NamedTuple):
    """What a bucket says."""

    allowed: bool
    left: float
    wait_seconds: float
    """Until the request would be allowed; 0: it is."""


class Buckets:
    """The buckets of one process, by name. The least recently used one is forgotten first."""

    def __init__(self, *, buckets_max: int) -> None:
        self._max = buckets_max
        self._all: dict[str, list[float]] = {}
        """Level and time of each."""

    def __len__(self) -> int:
        return len(self._all)

    def take(self, name: str, rule: Rule, *, cost: float, now: float, share: float = 1) -> Verdict:
        """Takes tokens, if there are enough; `share`: this process's part of the limit, up to 1."""
        burst = max(rule.burst * share, 1.0, min(cost, rule.burst))
        level = self._level(name, rule.rate * share, burst, now)
        if level + _SLACK < cost:
            self._all[name] = [level, now]
            return Verdict(False, level, (cost - level) / (rule.rate * share))  # noqa: FBT003
        left = level - cost
        self._all[name] = [left, now]
        return Verdict(True, max(left, 0.0), 0.0)  # noqa: FBT003

    def give_back(self, name: str, cost: float) -> None:
        """Returns what was taken for a request that another bucket refused."""
        held = self._all.get(name)
        if held is not None:
            held[0] += cost

    def put(self, name: str, level: float, *, now: float) -> None:
        """Says how full a bucket is: what was heard of one that others count too."""
        if name not in self._all:
            self._make_room()
        self._all[name] = [level, now]

    def peek(self, name: str, rule: Rule, *, now: float, share: float = 1) -> float | None:
        """How full a bucket is; None: nothing is known of it."""
        held = self._all.get(name)
        if held is None:
            return None
        return min(rule.burst * share, held[0] + max(0.0, now - held[1]) * rule.rate * share)

    def _level(self, name: str, rate: float, burst: float, now: float) -> float:
        held = self._all.pop(name, None)
        if held is None:
            self._make_room()
            return burst
        level, then = held
        return min(burst, level + max(0.0, now - then) * rate)

    def _make_room(self) -> None:
        if len(self._all) >= self._max:
            del self._all[next(iter(self._all))]
            _forgotten.inc()
        _tracked.set(len(self._all) + 1)


class Refusals:
    """How many requests limits have refused since somebody asked."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def __len__(self) -> int:
        return len(self._counts)

    def note(self, limit: str, *, tenant: str) -> None:
        """A request of a tenant ("": of nobody) was refused."""
        if len(self._counts) < REFUSALS_MAX or (limit, tenant) in self._counts:
            self._counts[limit, tenant] += 1

    def taken(self) -> tuple[Exceeded, ...]:
        """All of them; they are counted anew."""
        counts, self._counts = self._counts, Counter()
        return tuple(Exceeded(limit, tenant, count) for (limit, tenant), count in counts.items())


def bucket_name(rule: Rule, principal: Principal, *, address: str, route: str) -> str:
    """Which bucket of a rule a request falls under."""
    return f"{rule.name}|{counted_as(rule.key, principal, address=address, route=route)}"


def counted_as(kind: KeyKind, principal: Principal, *, address: str, route: str) -> str:
    """Whom a request counts for; two have the same text only if they are the same. Who has no name
    counts by address."""
    if kind == "route":
        return route
    if kind == "all":
        return ""
    if kind == "address" or not principal.id:
        return f"@{_network_of(address)}"
    tenant = principal.tenant
    if not tenant.isalnum():
        # Names are any text to us: one must not look like another's, or like an address.
        tenant = quote(tenant, safe="")
    if kind == "tenant":
        return tenant
    return f"{tenant}/{principal.credential if kind == 'key' else principal.id}"


@lru_cache(maxsize=4_096)
def _network_of(address: str) -> str:
    """An IPv4 address, or the /64 of an IPv6 one: who has one address there has all of them."""
    if ":" not in address:
        return address
    try:
        found = ipaddress.IPv6Address(address)
    except ValueError:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found), 64), strict=False))


def policy_field(rules: Sequence[Rule]) -> str:
    """The value of RateLimit-Policy."""
    return ", ".join(rule.policy for rule in rules)


def limit_field(rules: Sequence[Rule], verdicts: Sequence[Verdict]) -> str:
    """The value of RateLimit: a part for each rule that was asked."""
    parts = []
    for rule, verdict in zip(rules, verdicts, strict=False):
        seconds = verdict.wait_seconds or (rule.burst - verdict.left) / rule.rate
        parts.append(f'"{rule.name}";r={int(verdict.left)};t={math.ceil(max(seconds, 0))}')
    return ", ".join(parts)

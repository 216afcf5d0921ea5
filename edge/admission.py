"""What one client may take, by address and by key, and what a worker takes altogether.

    address   an IPv4 address, or the /64 of an IPv6 one: connections, requests a second, offers a
              minute, HLS requests that wait, unknown keys a minute
    key       its name, once it is known: requests a second, offers a minute, requests that wait
    node      offers a second

Rates are token buckets in one number each: the time at which the bucket will be full again. Whoever
is over gets 429 with Retry-After and a problem that names the setting; the node's own limits answer
503. A worker grants its share of a node's number: all of it with one or two workers, twice the
average with more, since the kernel spreads connections by chance and a connection stays with its
worker. So a node grants at most twice what is set, and one connection 2 / workers of a rate.

The address is the peer's. Only from `edge.trusted_proxies` is X-Forwarded-For believed, from the
right to the first address that is no such proxy; a proxy itself and `limits.exempt` are free. After
too many unknown keys an address's further keys are refused unread, so that none can be guessed;
those that have opened something from there before go on, and any key works from elsewhere.

Tables are bounded: the longest unseen is forgotten first, never one that holds something. Sessions
by address and by key are counted where they live, in media, by what the `Grant` carries
(`sessions_limited`). It decides nothing about rights: that is `edge/access.py`, wrapped by
`GuardedAccess`.
"""

import hashlib
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Final, Literal, Protocol

import msgspec

from edge.access import OPEN_SUBJECT, PUBLIC_SUBJECT, Access, Action, Caller, Pass
from edge.http_head import Fields
from edge.limit_settings import LimitSettings
from edge.problems import Refusal
from media.messages import Grant
from ops import metrics
from ops.errors import Rejected

Per = Literal["address", "key", "node"]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

BURST_SECONDS: Final = 2.0
"""How many seconds' worth of requests may come at once."""
MINUTE: Final = 60.0
GOOD_KEYS_MAX: Final = 64
"""Keys of an address that are remembered to have opened something."""
_ADDRESSES_READ: Final = 8_192
_FORWARDED_HOPS_MAX: Final = 16
_LOOK_BACK: Final = 16
"""How many of the longest unseen are looked at for one that may be forgotten."""
_ANYBODY: Final = frozenset({OPEN_SUBJECT, PUBLIC_SUBJECT, "hook"})
_PREFIX_IPV6: Final = 64

_refused = metrics.counter(
    "nexus_limits_refused", "What was refused because of a limit.", ("limit", "per")
)
_tracked = metrics.gauge("nexus_limits_tracked", "Addresses and keys remembered.", ("per",))


class Rate:
    """So many in so many seconds; 0: any number."""

    __slots__ = ("interval", "window")

    def __init__(self, count: float, seconds: float, *, burst_seconds: float) -> None:
        self.interval = seconds / count if count else 0.0
        self.window = max(burst_seconds, self.interval)

    def take(self, full_at: float, *, now: float) -> tuple[float, float]:
        """When the bucket is full again, and how long to wait first (0: taken)."""
        if not self.interval:
            return full_at, 0.0
        then = max(full_at, now) + self.interval
        late = then - now - self.window
        # Sums of floats: half an interval is between one too many and exactly as many.
        return (full_at, late) if late > self.interval / 2 else (then, 0.0)


class Limits:
    """One worker's share of the limits of an address, of a key or of the node."""

    def __init__(self, settings: LimitSettings, per: Per, workers: int) -> None:
        def share(name: str) -> int:
            number = getattr(settings, f"{per}_{name}_max", 0)
            return min(number, math.ceil(2 * number / workers))

        self.per = per
        self.connections = share("connections")
        self.blocked = share("blocked")
        self.requests = Rate(share("requests_per_second"), 1.0, burst_seconds=BURST_SECONDS)
        self.joins = Rate(share("joins_per_minute"), MINUTE, burst_seconds=MINUTE)
        self.failures = Rate(share("failures_per_minute"), MINUTE, burst_seconds=MINUTE)

    @property
    def given(self) -> bool:
        """Whether anything is limited."""
        rates = (self.requests, self.joins, self.failures)
        return bool(self.connections or self.blocked or any(rate.interval for rate in rates))


class Taker:
    """One address or one key, and what it has taken."""

    __slots__ = ("blocked", "connections", "failures", "good", "joins", "limits", "requests")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.connections = 0
        """Open now."""
        self.blocked = 0
        """Requests that wait now."""
        self.requests = self.joins = self.failures = 0.0
        """When each bucket is full again."""
        self.good: OrderedDict[bytes, None] | None = None
        """Digests of the keys that have opened something."""

    def request(self, now: float) -> None:
        """Raises: Refusal (429) when that is one request too many."""
        self.requests, wait = self.limits.requests.take(self.requests, now=now)
        if wait:
            raise _too_many("requests", "requests_per_second", self.limits.per, wait)

    def join(self, now: float) -> None:
        """Raises: Refusal (429) when that is one offer too many."""
        self.joins, wait = self.limits.joins.take(self.joins, now=now)
        if wait:
            raise _too_many("joins", "joins_per_minute", self.limits.per, wait)

    def block(self) -> Refusal | None:
        """One request more waits, or the reason why it may not."""
        if 0 < self.limits.blocked <= self.blocked:
            return _too_many("blocked", "blocked", self.limits.per, 1.0)
        self.blocked += 1
        return None

    @property
    def idle(self) -> bool:
        """Whether it holds nothing, and so may be forgotten."""
        return not self.connections and not self.blocked


class Waiter(Protocol):
    """Whoever asks for HLS: on account of an address and of a key, where these are limited."""

    taker: Taker | None
    holder: Taker | None


class Table:
    """Takers by name, at most so many; the longest unseen goes first."""

    def __init__(self, limits: Limits, *, entries_max: int) -> None:
        self._limits = limits
        self._entries_max = entries_max
        self._takers: OrderedDict[str, Taker] = OrderedDict()

    def __len__(self) -> int:
        return len(self._takers)

    def of(self, name: str) -> Taker:
        """The taker of that name, from now on the last seen."""
        found = self._takers.get(name)
        if found is None:
            if len(self._takers) >= self._entries_max:
                self._forget_one()
            found = self._takers[name] = Taker(self._limits)
        else:
            self._takers.move_to_end(name)
        return found

    def _forget_one(self) -> None:
        """What is held is bounded by the connections, so nothing is lost if none is idle."""
        for _ in range(min(_LOOK_BACK, len(self._takers))):
            name, taker = next(iter(self._takers.items()))
            if taker.idle:
                del self._takers[name]
                return
            self._takers.move_to_end(name)


class Admission:
    """The limits of one worker."""

    def __init__(
        self,
        settings: LimitSettings,
        *,
        trusted_proxies: tuple[str, ...] = (),
        workers: int = 1,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._exempt = [ipaddress.ip_network(text) for text in settings.exempt]
        self._proxies = [ipaddress.ip_network(text) for text in trusted_proxies]
        limits = {per: Limits(settings, per, workers) for per in ("address", "key")}
        self._by_address = Table(limits["address"], entries_max=settings.tracked_max)
        self._by_key = Table(limits["key"], entries_max=settings.tracked_max)
        self._limits_keys = limits["key"].given
        share = min(
            settings.joins_per_second_max, math.ceil(2 * settings.joins_per_second_max / workers)
        )
        self._joins = Rate(share, 1.0, burst_seconds=BURST_SECONDS)
        self._joins_full_at = 0.0
        self._name_of = lru_cache(_ADDRESSES_READ)(self._read_address)
        self._believed = lru_cache(_ADDRESSES_READ)(self._read_forwarded)

    def opened(self, peer: str) -> Taker | None:
        """A connection from that address; None: it is free. Raises: Refusal (429)."""
        taker = self._find(peer)
        if taker is None:
            return None
        if 0 < taker.limits.connections <= taker.connections:
            raise _too_many("connections", "connections", "address", 1.0)
        taker.connections += 1
        return taker

    def closed(self, taker: Taker | None) -> None:
        """Such a connection has ended."""
        if taker is not None:
            assert taker.connections > 0
            taker.connections -= 1

    def is_proxy(self, peer: str) -> bool:
        """Whether what this peer says of others' addresses is believed."""
        return bool(self._proxies) and self._name_of(peer) == _PROXY

    def address_of(self, peer: str, fields: Fields) -> str:
        """Who asks: the peer, or whom a trusted proxy names."""
        if fields.forwarded_for and self.is_proxy(peer):
            return self._believed(fields.forwarded_for) or peer
        return peer

    def find(self, address: str) -> Taker | None:
        """Who takes on account of that address; None: it is free."""
        return self._find(address)

    def request(self, taker: Taker | None) -> None:
        """Raises: Refusal (429) when that is one request too many."""
        if taker is not None:
            taker.request(self._clock())

    def holder(self, grant: Grant) -> Taker | None:
        """Who takes on account of a key; None when keys are free, or it is nobody's."""
        if not self._limits_keys or grant.subject in _ANYBODY:
            return None
        return self._by_key.of(grant.subject)

    def try_join(self, taker: Taker | None) -> None:
        """Before the key is looked at. Raises: Refusal (429) for one offer too many."""
        if taker is not None:
            taker.join(self._clock())

    def join(self, grant: Grant) -> None:
        """Before media is asked. Raises: Refusal (429 for a key, 503 for the node)."""
        now = self._clock()
        holder = self.holder(grant)
        if holder is not None:
            holder.join(now)
        self._joins_full_at, wait = self._joins.take(self._joins_full_at, now=now)
        if wait:
            raise _too_many("joins", "joins_per_second", "node", wait)

    def sessions_limited(self, grant: Grant, taker: Taker | None, address: str) -> Grant:
        """The grant with what media needs to count sessions by address and by key."""
        per_address = self._settings.address_sessions_max if taker is not None else 0
        per_key = 0 if grant.subject in _ANYBODY else self._settings.key_sessions_max
        return msgspec.structs.replace(
            grant,
            address=self._name_of(address) if per_address else "",
            address_sessions_max=per_address,
            subject_sessions_max=per_key,
        )

    def block(self, waiter: Waiter) -> Refusal | None:
        """One request more waits, or the reason why it may not."""
        problem = None if waiter.taker is None else waiter.taker.block()
        if problem is None and waiter.holder is not None:
            problem = waiter.holder.block()
            if problem is not None and waiter.taker is not None:
                waiter.taker.blocked -= 1
        return problem

    def unblock(self, waiter: Waiter) -> None:
        """It waits no more."""
        for taker in (waiter.taker, waiter.holder):
            if taker is not None:
                assert taker.blocked > 0
                taker.blocked -= 1

    def check_guess(self, taker: Taker | None, token: str) -> None:
        """Raises: Refusal (429) when this address has shown too many unknown keys."""
        if taker is None or not token:
            return
        _, wait = taker.limits.failures.take(taker.failures, now=self._clock())
        if wait and not (taker.good and _digest(token) in taker.good):
            raise _too_many("failures", "failures_per_minute", "address", wait)

    def failed(self, taker: Taker | None) -> None:
        """An unknown key was shown."""
        if taker is not None:
            taker.failures, _ = taker.limits.failures.take(taker.failures, now=self._clock())

    def succeeded(self, taker: Taker | None, token: str) -> None:
        """A key has opened something."""
        if taker is None or not token:
            return
        if taker.good is None:
            taker.good = OrderedDict()
        taker.good[_digest(token)] = None
        if len(taker.good) > GOOD_KEYS_MAX:
            taker.good.popitem(last=False)

    @property
    def tracked(self) -> int:
        """Addresses that are remembered."""
        return len(self._by_address)

    def count(self) -> None:
        """Shows how many are remembered."""
        _tracked.set(len(self._by_address), labels=("address",))
        _tracked.set(len(self._by_key), labels=("key",))

    def _find(self, peer: str) -> Taker | None:
        name = self._name_of(peer)
        return self._by_address.of(name) if name and name is not _PROXY else None

    def _read_address(self, text: str) -> str:
        """What an address is counted under; empty: it is free."""
        try:
            address = ipaddress.ip_address(text.partition("%")[0])
        except ValueError:
            return ""
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        address = mapped or address
        if _within(address, self._proxies):
            return _PROXY
        if _within(address, self._exempt):
            return ""
        if address.version == 4:
            return str(address)
        return str(ipaddress.ip_network((int(address), _PREFIX_IPV6), strict=False))

    def _read_forwarded(self, text: str) -> str:
        """The rightmost address in X-Forwarded-For that is no proxy of ours; empty: none."""
        hops = text.split(",")
        for hop in reversed(hops[-_FORWARDED_HOPS_MAX:]):
            address = _without_port(hop.strip())
            try:
                ipaddress.ip_address(address)
            except ValueError:
                return ""
            if self._name_of(address) != _PROXY:
                return address
        return ""


class GuardedAccess(Access):
    """Access that counts unknown keys by address, and does not look at more than may be shown."""

    def watch(self, admission: Admission) -> None:
        """Call it once, before anybody asks."""
        self._admission = admission

    def decide(self, caller: Caller, action: Action, stream: str) -> Pass | None:
        taker = self._admission.find(caller.remote)
        if taker is None:
            return super().decide(caller, action, stream)
        self._admission.check_guess(taker, caller.token)
        try:
            passed = super().decide(caller, action, stream)
        except Rejected as error:
            self._count(taker, error)
            raise
        if passed is not None:
            self._admission.succeeded(taker, caller.token)
        return passed

    async def ask(self, caller: Caller, action: Action, stream: str) -> Pass:
        decided = self.decide(caller, action, stream)
        if decided is not None:
            return decided
        taker = self._admission.find(caller.remote)
        try:
            passed = await super().ask(caller, action, stream)
        except Rejected as error:
            self._count(taker, error)
            raise
        self._admission.succeeded(taker, caller.token)
        return passed

    def _count(self, taker: Taker | None, error: Rejected) -> None:
        if error.code == "auth.invalid":
            self._admission.failed(taker)


_PROXY: Final = "proxy"
_WHAT: Final = {
    "connections": "connections",
    "requests": "requests",
    "joins": "offers",
    "blocked": "requests that wait",
    "failures": "unknown keys",
}


def _within(address: ipaddress.IPv4Address | ipaddress.IPv6Address, known: list[Network]) -> bool:
    return any(address in network for network in known)


def _without_port(hop: str) -> str:
    """The address of `192.0.2.1:443`, `[2001:db8::1]:443` or a bare one."""
    if hop.startswith("["):
        return hop[1:].partition("]")[0]
    return hop.partition(":")[0] if hop.count(":") == 1 else hop


def _digest(token: str) -> bytes:
    return hashlib.blake2b(token.encode(), digest_size=16).digest()


def _too_many(limit: str, setting: str, per: Per, wait_seconds: float) -> Refusal:
    """The answer to who is over a limit: it names the setting."""
    _refused.inc(labels=(limit, per))
    after = max(1, math.ceil(wait_seconds))
    whose = "the node takes" if per == "node" else f"one {per} may have"
    name = f"limits.{setting}_max" if per == "node" else f"limits.{per}_{setting}_max"
    return Refusal(
        503 if per == "node" else 429,
        f"these are more {_WHAT[limit]} than {whose}: try again in {after} s",
        code=f"limits.{limit}",
        headers={"Retry-After": str(after)},
        fields={"limit": name, "retry_after_seconds": after},
    )

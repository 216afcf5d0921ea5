"""Chooses one of an upstream's servers for a request, and leaves out those that keep failing.

`least_loaded` draws two by weight and takes the one with less to do: requests under way times the
moving average of its latency ("power of two choices", peak EWMA). `hash` takes the same server for
the same key as long as it is there: rendezvous hashing with weights, so that a server that leaves
moves only its own keys. A server that fails `failures_max` times in a row is left out, longer each
time, but never more than `ejected_percent_max` of all; one whose health checks fail is left out
until they do not. When none is left all are asked: rather a bad server than none.

An engine: `now` and chance are given.
"""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from services.platform.backend_api.api import Health, Outlier, Target

DECAY_SECONDS: Final = 10.0
"""In which a latency that was measured loses most of its weight."""
UNKNOWN_SECONDS: Final = 0.001
"""Latency of a server that nobody has asked yet: it is asked soon."""
EJECTIONS_MAX: Final = 10
"""How many times longer than the first time a server is left out at most."""


@dataclass(slots=True)
class Server:
    """One server, and how it does."""

    url: str
    weight: int = 1
    under_way: int = 0
    latency_seconds: float = UNKNOWN_SECONDS
    measured_at: float = 0.0
    failures: int = 0
    """In a row."""
    ejections: int = 0
    """In a row."""
    out_until: float = 0.0
    well: bool = True
    """As its health checks have it, where there are any."""
    checks: int = 0
    """That did well in a row; less than 0: that did not."""

    @property
    def load(self) -> float:
        """The less the better."""
        return (self.under_way + 1) * self.latency_seconds / self.weight


class Balancer:
    """The servers of one upstream as one worker sees them."""

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        mode: Literal["least_loaded", "hash"],
        outlier: Outlier | None,
        random: Callable[[], float],
    ) -> None:
        """random: a number from 0 to below 1."""
        self.servers = [Server(target.url, target.weight) for target in targets]
        self._mode = mode
        self._outlier = outlier
        self._random = random

    def pick(self, now: float, *, key: str = "", without: Sequence[Server] = ()) -> Server:
        """The server for a request; `without`: those that were tried already, if others are left.

        It counts as under way until `settle`.
        """
        candidates = [one for one in self.servers if one.well and one.out_until <= now]
        fresh = [one for one in candidates if one not in without]
        others = [one for one in self.servers if one not in without]
        among = fresh or candidates or others or self.servers
        if len(among) == 1:
            chosen = among[0]
        elif self._mode == "hash":
            chosen = max(among, key=lambda one: _score(one, key))
        else:
            first = self._draw(among)
            second = self._draw([one for one in among if one is not first])
            chosen = first if first.load <= second.load else second
        chosen.under_way += 1
        return chosen

    def settle(self, server: Server, *, ok: bool | None, seconds: float, now: float) -> None:
        """A request to it has ended; ok None: the client gave up, which says nothing."""
        server.under_way -= 1
        if ok is None:
            return
        age = max(0.0, now - server.measured_at)
        keep = math.exp(-age / DECAY_SECONDS) if server.measured_at else 0.0
        if seconds > server.latency_seconds:
            # A peak counts at once, and is forgotten slowly.
            server.latency_seconds = seconds
        else:
            server.latency_seconds = server.latency_seconds * keep + seconds * (1 - keep)
        server.measured_at = now
        if ok:
            server.failures = server.ejections = 0
            return
        server.failures += 1
        if self._outlier is not None and server.failures >= self._outlier.failures_max:
            self._eject(server, self._outlier, now)

    def checked(self, server: Server, *, well: bool, rule: Health) -> bool:
        """A health check has found out how a server does; whether that changes what it gets."""
        server.checks = max(server.checks, 0) + 1 if well else min(server.checks, 0) - 1
        if well == server.well:
            return False
        enough = rule.successes_min if well else rule.failures_max
        if abs(server.checks) < enough:
            return False
        server.well = well
        if well:
            server.failures, server.out_until = 0, 0.0
        return True

    def _eject(self, server: Server, rule: Outlier, now: float) -> None:
        out = sum(1 for one in self.servers if one.out_until > now and one is not server)
        if (out + 1) * 100 > len(self.servers) * rule.ejected_percent_max:
            return
        server.failures = 0
        server.ejections = min(server.ejections + 1, EJECTIONS_MAX)
        server.out_until = now + rule.eject_seconds * server.ejections

    def _draw(self, among: Sequence[Server]) -> Server:
        point = self._random() * sum(one.weight for one in among)
        for one in among:
            point -= one.weight
            if point < 0:
                return one
        return among[-1]


def _score(server: Server, key: str) -> float:
    """Rendezvous hashing with weights: -weight / ln(hash as a number between 0 and 1)."""
    digest = hashlib.blake2b(f"{server.url}\0{key}".encode(), digest_size=8).digest()
    return -server.weight / math.log((int.from_bytes(digest) + 1) / (2**64 + 2))

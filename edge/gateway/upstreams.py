"""What a worker knows of each upstream: its servers, its breaker, its budget of retries.

A new configuration keeps what was learnt of upstreams that it does not change.
"""

import asyncio
import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from edge.gateway.balancer import Balancer
from edge.gateway.breaker import CircuitBreaker, State
from edge.gateway.retries import Budget
from ops import metrics
from services.platform.backend_api.api import Upstream

_LEVEL: Final = {State.CLOSED: 0, State.HALF_OPEN: 1, State.OPEN: 2}

_state = metrics.gauge(
    "nexus_gateway_breaker",
    "Breakers: 0 closed, 1 half open, 2 open.",
    ("upstream",),
    combine="max",
)
_ejected = metrics.gauge(
    "nexus_gateway_servers_ejected", "Servers that are left out for failing.", ("upstream",)
)


@dataclass(slots=True, eq=False)
class Known:
    """One upstream as one worker sees it."""

    rule: Upstream
    balancer: Balancer
    breaker: CircuitBreaker | None
    budget: Budget
    reported: int = -1
    """The breaker's changes that the metrics tell of."""

    @classmethod
    def of(cls, rule: Upstream) -> "Known":
        balancer = Balancer(
            rule.targets,
            mode=rule.balance,
            outlier=rule.outlier,
            random=random.random,  # no secret
        )
        breaker = CircuitBreaker(rule.breaker) if rule.breaker is not None else None
        budget = Budget(rule.retry.budget_percent if rule.retry is not None else 0)
        return cls(rule, balancer, breaker, budget)

    def admit(self, now: float) -> int | None:
        """Lets a request through: what `settle` is told. None: its breaker is open."""
        return 0 if self.breaker is None else self.breaker.admit(now)

    def settle(self, ticket: int, *, ok: bool | None, seconds: float, now: float) -> None:
        """A request that was let through has ended; ok None: that says nothing of it."""
        if self.breaker is not None:
            self.breaker.settle(ticket, ok=ok, seconds=seconds, now=now)

    def report(self, now: float) -> None:
        """Shows how it does, when that has changed."""
        breaker = self.breaker
        if breaker is not None and breaker.changes != self.reported:
            self.reported = breaker.changes
            _state.set(_LEVEL[breaker.state], labels=(self.rule.name,))
        if any(one.out_until or one.checks for one in self.balancer.servers):
            out = sum(1 for one in self.balancer.servers if one.out_until > now or not one.well)
            _ejected.set(out, labels=(self.rule.name,))


class Upstreams:
    """The upstreams of one worker."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}
        self.changed = asyncio.Event()
        """Set by each configuration."""

    def configure(self, rules: Iterable[Upstream]) -> None:
        """These are the upstreams from now on."""
        known: dict[str, Known] = {}
        for rule in rules:
            before = self._known.get(rule.name)
            same = before is not None and before.rule == rule
            known[rule.name] = before if before is not None and same else Known.of(rule)
        self._known = known
        self.changed.set()

    def get(self, name: str) -> Known | None:
        """The upstream of this name; None: a request outlived its configuration."""
        return self._known.get(name)

    def all(self) -> tuple[Known, ...]:
        """All of them."""
        return tuple(self._known.values())

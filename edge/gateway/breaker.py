"""Leaves an upstream alone that answers with errors or too slowly, and tries it again.

               trip                      wait over                 probes good
    closed ───────────▶ open ───────────────────────▶ half_open ───────────────▶ closed
                          ▲                               │
                          └───────────────────────────────┘ probe bad

It trips when, of at least `requests_min` answers in the window, too many were errors or slow. While
it is half open only `probes` requests go through. An engine: `now` is given, nothing waits.
"""

from collections import deque
from enum import StrEnum
from typing import Final

from services.platform.backend_api.api import Breaker

SLICES: Final = 10
"""Into how many parts the window is divided; one is forgotten at a time."""


class State(StrEnum):
    """What the breaker does with requests."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(StrEnum):
    """What may change that."""

    TRIP = "trip"
    WAIT_OVER = "wait over"
    PROBES_GOOD = "probes good"
    PROBE_BAD = "probe bad"


TRANSITIONS: Final[dict[State, dict[Event, State]]] = {
    State.CLOSED: {Event.TRIP: State.OPEN},
    State.OPEN: {Event.WAIT_OVER: State.HALF_OPEN},
    State.HALF_OPEN: {Event.PROBES_GOOD: State.CLOSED, Event.PROBE_BAD: State.OPEN},
}


class CircuitBreaker:
    """The breaker of one upstream in one worker."""

    def __init__(self, rule: Breaker) -> None:
        self.rule = rule
        self.state = State.CLOSED
        self.changes = 0
        self._slices: deque[list[float]] = deque(maxlen=SLICES)
        """Start, answers, errors and slow ones of each part of the window."""
        self._open_until = 0.0
        self._probing = 0
        self._probed = 0
        self._era = 0
        """Grows with each change of state: what began before does not count after it."""

    def admit(self, now: float) -> int | None:
        """Lets a request through: what `settle` is told when it has ended. None: it does not."""
        if self.state is State.OPEN:
            if now < self._open_until:
                return None
            self._apply(Event.WAIT_OVER)
        if self.state is State.HALF_OPEN:
            if self._probing + self._probed >= self.rule.probes:
                return None
            self._probing += 1
        return self._era

    def settle(self, ticket: int, *, ok: bool | None, seconds: float, now: float) -> None:
        """A request that was let through has ended; ok None: it was given up by the client."""
        if ticket != self._era:
            return
        slow = bool(self.rule.slow_ms) and seconds * 1_000 >= self.rule.slow_ms
        if self.state is State.HALF_OPEN:
            self._probing -= 1
            if ok is None:
                return
            if not ok or slow:
                self._open(Event.PROBE_BAD, now)
                return
            self._probed += 1
            if self._probed >= self.rule.probes:
                self._apply(Event.PROBES_GOOD)
                self._slices.clear()
            return
        if ok is None:
            return
        self._count(now, bad=not ok, slow=slow)
        if self._too_bad(now):
            self._open(Event.TRIP, now)

    def wait_seconds(self, now: float) -> float:
        """Until a request may be let through."""
        return max(0.0, self._open_until - now) if self.state is State.OPEN else 0.0

    def _count(self, now: float, *, bad: bool, slow: bool) -> None:
        part = self.rule.window_seconds / SLICES
        if not self._slices or now - self._slices[-1][0] >= part:
            self._slices.append([now, 0, 0, 0])
        current = self._slices[-1]
        current[1] += 1
        current[2] += bad
        current[3] += slow

    def _too_bad(self, now: float) -> bool:
        since = now - self.rule.window_seconds
        recent = [part for part in self._slices if part[0] > since]
        count = sum(part[1] for part in recent)
        if count < self.rule.requests_min:
            return False
        errors = sum(part[2] for part in recent)
        slow = sum(part[3] for part in recent)
        if errors * 100 >= count * self.rule.error_percent:
            return True
        return bool(self.rule.slow_ms) and slow * 100 >= count * self.rule.slow_percent

    def _open(self, event: Event, now: float) -> None:
        self._open_until = now + self.rule.open_seconds
        self._slices.clear()
        self._apply(event)

    def _apply(self, event: Event) -> None:
        following = TRANSITIONS[self.state].get(event)
        if following is None:
            raise ValueError(f"a breaker that is {self.state} knows no {event}")
        self.state = following
        self.changes += 1
        self._era += 1
        self._probing = self._probed = 0

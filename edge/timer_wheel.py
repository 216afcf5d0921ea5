"""Deadlines of many connections on one timer: moving one costs nothing, keeping it a set entry.

A timer stands in the slot of the earliest moment it may be due; when that slot comes and its
deadline has moved on, it is put in a later one. Deadlines are met within one tick. It is no
scheduler: what it calls must be short.
"""

import asyncio
import math
from typing import Final

TICK_SECONDS: Final = 0.25
"""How late a deadline may be noticed."""
NEVER: Final = math.inf


class Timer:
    """Something with a deadline. A subclass says what happens in `on_deadline`."""

    __slots__ = ("_slot", "deadline")

    def __init__(self) -> None:
        self.deadline = NEVER
        self._slot = 0

    def on_deadline(self) -> None:
        """Called once when the deadline has passed."""
        raise AssertionError(f"{type(self).__name__} has no deadline of its own")


class TimerWheel:
    """Timers of one event loop.

    Owns: one timer of the loop, from `start` to `stop`.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._slots: dict[int, set[Timer]] = {}
        self._done = self._slot_of(loop.time())
        self._handle: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begins to turn."""
        self._done = self._slot_of(self._loop.time())
        self._handle = self._loop.call_later(TICK_SECONDS, self._tick)

    def stop(self) -> None:
        """Stops and forgets all timers."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        self._slots.clear()

    def __len__(self) -> int:
        return sum(len(timers) for timers in self._slots.values())

    def set(self, timer: Timer, deadline: float) -> None:
        """Gives a timer a new deadline, in the loop's time; `NEVER` for none."""
        if timer._slot and deadline >= timer.deadline:  # noqa: SLF001  its owner
            timer.deadline = deadline
            return
        timer.deadline = deadline
        if deadline == NEVER:
            return
        slot = max(self._slot_of(deadline), self._done + 1)
        if timer._slot:  # noqa: SLF001
            if timer._slot <= slot:  # noqa: SLF001
                return
            self._remove(timer)
        timer._slot = slot  # noqa: SLF001
        self._slots.setdefault(slot, set()).add(timer)

    def forget(self, timer: Timer) -> None:
        """The timer is not needed any more."""
        timer.deadline = NEVER
        if timer._slot:  # noqa: SLF001
            self._remove(timer)

    def _remove(self, timer: Timer) -> None:
        timers = self._slots.get(timer._slot)  # noqa: SLF001
        if timers is not None:
            timers.discard(timer)
            if not timers:
                del self._slots[timer._slot]  # noqa: SLF001
        timer._slot = 0  # noqa: SLF001

    def _tick(self) -> None:
        now = self._loop.time()
        self._handle = self._loop.call_later(TICK_SECONDS, self._tick)
        last = self._slot_of(now) - 1
        first, self._done = self._done + 1, max(last, self._done)
        for slot in range(first, last + 1):
            for timer in self._slots.pop(slot, ()):
                timer._slot = 0  # noqa: SLF001
                if timer.deadline <= now:
                    timer.deadline = NEVER
                    timer.on_deadline()
                else:
                    self.set(timer, timer.deadline)

    @staticmethod
    def _slot_of(moment: float) -> int:
        return int(moment / TICK_SECONDS)

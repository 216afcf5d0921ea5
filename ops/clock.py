"""Where the time comes from: asked for, never read behind a caller's back.

Engines take `now` as an argument; drivers hold a `Clock`. Tests hold `tests/fakes/clock.py`. It
does not sleep: waiting is the event loop's.
"""

import time
from typing import Final, Protocol


class Clock(Protocol):
    """Two times in seconds: one that people know, and one that never goes back."""

    def unix(self) -> float:
        """Seconds since 1970, UTC; may step when the machine's clock is set."""
        ...

    def monotonic(self) -> float:
        """Seconds from an unknown start; for durations and deadlines. The event loop's `time()`."""
        ...


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def unix(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


SYSTEM: Final = SystemClock()

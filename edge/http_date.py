"""The Date field's value (RFC 9110, 6.6.1), made once a second for all answers of a worker."""

import asyncio
from email.utils import formatdate

from ops.clock import Clock


class HttpDate:
    """`value` is the present date; another object as soon as it is another second.

    Owns: one timer of the loop, from `start` to `stop`.
    """

    __slots__ = ("_clock", "_handle", "_loop", "value")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Clock) -> None:
        self._loop = loop
        self._clock = clock
        self._handle: asyncio.TimerHandle | None = None
        self.value = b""

    def start(self) -> None:
        """Makes the date, and anew whenever a second has passed."""
        now = self._clock.unix()
        self.value = formatdate(int(now), usegmt=True).encode()
        self._handle = self._loop.call_later(1.0 - now % 1.0, self.start)

    def stop(self) -> None:
        """The value stays as it is."""
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

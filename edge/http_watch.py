"""Looks after a connection that aiohttp owns: ends it when its client is too slow.

aiohttp bounds how long a connection may be idle, and a handler its own body; neither a head that
comes in drops nor a client that takes no answer has a limit there. Each such connection has one
timer on the worker's wheel that looks at it now and then.
"""

import asyncio
from typing import Final, Protocol

from edge.cuts import cut
from edge.http_settings import HttpSettings
from edge.timer_wheel import TICK_SECONDS, Timer, TimerWheel

LOOKS: Final = 4
"""How often a client is looked at in the time after which it is cut."""


class Watched(Protocol):
    """The connection's protocol."""

    @property
    def busy(self) -> bool: ...


class Watch(Timer):
    """The timer of one connection. Owns: nothing; `forget` it when the connection has ended."""

    __slots__ = (
        "_head_since",
        "_loop",
        "_pause",
        "_protocol",
        "_settings",
        "_since",
        "_transport",
        "_unsent",
        "_wheel",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        protocol: Watched,
        settings: HttpSettings,
        wheel: TimerWheel,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__()
        self._transport = transport
        self._protocol = protocol
        self._settings = settings
        self._wheel = wheel
        self._loop = loop
        shortest = min(settings.head_seconds, settings.stalled_seconds)
        self._pause = max(shortest / LOOKS, TICK_SECONDS)
        self._head_since = 0.0
        """When a head began that has not ended, or was next to be read; 0: there is none."""
        self._since = 0.0
        self._unsent = 0
        """Unsent bytes at `_since`."""
        self._again()

    def received(self, *, partial: bool) -> None:
        """Something came; `partial`: it ended in the midst of a head."""
        if not partial:
            self._head_since = 0.0
        elif not self._head_since:
            self._head_since = self._loop.time()

    def forget(self) -> None:
        """The connection has ended."""
        self._wheel.forget(self)

    def on_deadline(self) -> None:
        now = self._loop.time()
        if self._head_since and self._protocol.busy:
            self._head_since = now
        if self._head_since and now - self._head_since >= self._settings.head_seconds:
            cut("head_slow")
            self._transport.abort()
        elif self._is_stalled(now):
            cut("stalled")
            self._transport.abort()
        else:
            self._again()

    def _is_stalled(self, now: float) -> bool:
        unsent = self._transport.get_write_buffer_size()
        if not unsent or not self._unsent:
            self._since, self._unsent = now, unsent
            return False
        if now - self._since < self._settings.stalled_seconds:
            return False
        if is_stalled(self._settings, before=self._unsent, unsent=unsent):
            return True
        self._since, self._unsent = now, unsent
        return False

    def _again(self) -> None:
        self._wheel.set(self, self._loop.time() + self._pause)


def is_stalled(settings: HttpSettings, *, before: int, unsent: int) -> bool:
    """Whether too few of the bytes unsent before were taken; more now: some were answered."""
    return 0 <= before - unsent < min(settings.stalled_bytes, before)

"""What one client gets of a list: server-sent events (WHATWG HTML, section 9.2), as bytes.

    retry: 2000
    id: …  event: page                          the page, as the plain list answers it
    id: …  event: created | updated | removed   one item
    id: …  event: kept                          after a pause: the keys of all that are left
    :                                           nothing has happened for a while
    event: end                                  why there is no more, as a problem's members

A client that has been away says by `Last-Event-ID` what it has, and gets the changes since instead
of the page. What waits for it is bounded: who does not read is told so and comes again.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Final

import msgspec

from ops.clock import Clock
from ops.errors import NexusError, Rejected, Unavailable
from ops.metrics import counter
from services._live.held import Change

HEARTBEAT: Final = b":\n\n"

_ended = counter("nexus_live_ended", "Streams of lists ended by the server, by why.", ("code",))
_ended.expect(("live.slow",), ("auth.expired",), ("node.stopping",))


class Stream:
    """One client's. Reading is for one task; `put` and `end` never wait."""

    def __init__(
        self,
        *,
        until_unix: float,
        heartbeat_seconds: float,
        waiting_max: int,
        clock: Clock,
        closed: Callable[["Stream"], None],
    ) -> None:
        """closed: called once, when nobody reads any more."""
        self._until_unix = until_unix
        self._heartbeat_seconds = heartbeat_seconds
        self._waiting_max = waiting_max
        self._clock = clock
        self._closed: Callable[[Stream], None] | None = closed
        self._pieces: list[bytes] = []
        self._woken = asyncio.Event()
        self._over = False

    def put(self, pieces: Iterable[bytes]) -> None:
        """Sends events. Too many that wait: none of them is sent, and the stream ends."""
        if self._over:
            return
        self._pieces.extend(pieces)
        if len(self._pieces) > self._waiting_max:
            self._pieces.clear()
            self.end(Unavailable("too much has waited for this client", code="live.slow"))
        self._woken.set()

    def end(self, why: NexusError) -> None:
        """Tells why there is no more, after what waits already."""
        if self._over:
            return
        self._over = True
        _ended.inc(labels=(why.code,))
        told = {"code": why.code, "detail": why.message, "retry": why.retryable}
        self._pieces.append(b"event: end\ndata: %s\n\n" % msgspec.json.encode(told))
        self._woken.set()

    async def read(self) -> bytes:
        """What comes next; b"" at the end."""
        if not self._pieces and not self._over:
            await self._wait()
        if self._clock.unix() >= self._until_unix:
            self.end(Rejected("the credential has expired", code="auth.expired"))
        self._woken.clear()
        if self._pieces:
            pieces, self._pieces = self._pieces, []
            return b"".join(pieces)
        return b"" if self._over else HEARTBEAT

    def close(self) -> None:
        """Nobody reads any more. Idempotent."""
        self._over = True
        self._pieces.clear()
        if self._closed is not None:
            closed, self._closed = self._closed, None
            closed(self)

    async def _wait(self) -> None:
        """Until there is something to send, or it is time for a comment or the end."""
        left = max(self._until_unix - self._clock.unix(), 0.0)
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._heartbeat_seconds, left)):
                await self._woken.wait()


def event(change: Change) -> bytes:
    """One event's bytes; no JSON of ours has a line break."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        change.id.encode(),
        change.kind.encode(),
        change.body,
    )

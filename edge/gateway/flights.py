"""One fetch for many: whoever asks for what is being fetched already waits for it.

The first to ask is the leader; the others wait until it has landed, and then look into the cache.
When it brought nothing to keep, each fetches for itself, and for a while nobody waits for that
place: so answers that cannot be kept are not fetched one after the other.
"""

import asyncio
from collections.abc import Hashable
from typing import Final

PASSING_SECONDS: Final = 5.0
"""How long nobody waits for what could not be kept."""
PASSING_MAX: Final = 10_000
"""Most places that are remembered so."""


class Flights:
    """The fetches under way in one worker."""

    def __init__(self) -> None:
        self._under_way: dict[Hashable, asyncio.Future[None]] = {}
        self._passing: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    def begin(self, place: Hashable, *, now: float) -> "asyncio.Future[None] | Hashable | None":
        """A future: somebody fetches it, wait and look again. The place itself: fetch it, and tell
        `land`. None: fetch it, nobody will wait for you."""
        until = self._passing.get(place)
        if until is not None:
            if now < until:
                return None
            del self._passing[place]
        waiting = self._under_way.get(place)
        if waiting is not None:
            return waiting
        self._under_way[place] = asyncio.get_running_loop().create_future()
        return place

    def land(self, place: Hashable, *, kept: bool | None, now: float) -> None:
        """The leader is done; kept None: it gave up, so another one leads."""
        waiting = self._under_way.pop(place)
        if kept is False:
            if len(self._passing) >= PASSING_MAX:
                del self._passing[next(iter(self._passing))]
            self._passing[place] = now + PASSING_SECONDS
        if not waiting.done():
            waiting.set_result(None)

"""Wake-ups between processes: PostgreSQL's NOTIFY, heard over one connection a process.

A wake-up is a hint, never the message itself: who waits for one also looks by itself now and then.
When the connection was lost and is there again, everybody is woken with the empty name: anything
may have happened meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, Final

import asyncpg

from ops.db import DatabaseFault

EVERYTHING: Final = ""
"""The name that stands for all names."""
CONNECT_SECONDS: Final = 2.0
NAMES_MAX: Final = 1_000
"""Names that a bell remembers; more are taken for all names."""


class Bell:
    """Names that were called out, kept until their one listener comes to look."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._event = asyncio.Event()

    def ring(self, name: str = EVERYTHING) -> None:
        """Calls out a name; wakes the listener."""
        if len(self._names) < NAMES_MAX:
            self._names.add(name)
        else:
            self._names = {EVERYTHING}
        self._event.set()

    async def wait(self, seconds: float) -> frozenset[str]:
        """The names since the last look; waits that long for one, none: nobody rang."""
        if not self._event.is_set() and seconds > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._event.wait()
        self._event.clear()
        names, self._names = frozenset(self._names), set()
        return names


class Wakes:
    """Hears the channels of NOTIFY that somebody asked for. `run` is a loop to be kept alive."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._heard: dict[str, list[Callable[[str], None]]] = {}

    def on(self, channel: str, heard: Callable[[str], None]) -> None:
        """Has `heard(payload)` called for each NOTIFY; to be called before `run`."""
        self._heard.setdefault(channel, []).append(heard)

    @property
    def channels(self) -> Iterable[str]:
        return tuple(self._heard)

    async def run(self) -> None:
        """Listens until the connection breaks. Raises DatabaseFault then."""
        ended = asyncio.Event()
        try:
            connection = await asyncpg.connect(
                self._url,
                timeout=CONNECT_SECONDS,
                server_settings={"application_name": "nexus-wakes"},
            )
            try:
                connection.add_termination_listener(lambda _: ended.set())
                for channel in self._heard:
                    await connection.add_listener(channel, self._notified)
                self._everything()
                await ended.wait()
            finally:
                connection.terminate()
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as fault:
            raise DatabaseFault("wake-ups cannot be heard", retry_after_seconds=1) from fault
        raise DatabaseFault("wake-ups are heard no more", retry_after_seconds=1)

    def _everything(self) -> None:
        for listeners in self._heard.values():
            for heard in listeners:
                heard(EVERYTHING)

    def _notified(self, _connection: Any, _pid: int, channel: str, payload: str) -> None:
        for heard in self._heard[channel]:
            heard(payload)

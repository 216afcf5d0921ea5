"""What PostgreSQL tells at once: LISTEN on one connection of a process, for all who care.

A notice is a hint that saves waiting for the next look, never the truth: those that were sent while
no connection stood are lost. So whoever subscribes is called with "" whenever a connection has been
made anew, and looks for itself.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import asyncpg

from ops.clock import SYSTEM
from ops.db import DatabaseSettings
from ops.log import get_logger
from ops.metrics import counter
from ops.tasks import Restart

CHECK_SECONDS: Final = 15.0
"""How often a silent connection is asked whether it still stands."""
PAUSE_SECONDS_MAX: Final = 1.0
"""Between tries to connect anew: what waits for a database goes on soon after it is back."""

Heard = Callable[[str], None]

_heard = counter("nexus_db_notices", "Notices heard from PostgreSQL.", ("channel",))
_connects = counter("nexus_db_notice_connects", "Connections made to hear notices.")
_log = get_logger("ops.notices")


class Notices:
    """One process's ear. Subscribe first, then keep `run` running; it owns the connection."""

    def __init__(self, url: str, settings: DatabaseSettings) -> None:
        self._url = url
        self._settings = settings
        self._heard: dict[str, list[Heard]] = {}

    def subscribe(self, channel: str, heard: Heard) -> None:
        """Calls `heard` with each payload on the channel, and with "" when some may be lost. It
        returns soon and raises nothing."""
        assert channel.isidentifier(), channel
        self._heard.setdefault(channel, []).append(heard)

    async def run(self) -> None:
        """Listens until cancelled; connects anew, with a growing pause, when it must."""
        restart = Restart(pause_seconds_first=0.1, pause_seconds_max=PAUSE_SECONDS_MAX)
        failures = 0
        while True:
            began = SYSTEM.monotonic()
            try:
                await self._listen()
            except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as fault:
                if SYSTEM.monotonic() - began >= restart.healthy_seconds:
                    failures = 0
                failures += 1
                if failures == 1:
                    _log.warning("notices are not heard", reason=type(fault).__name__)
            await asyncio.sleep(restart.pause_seconds(failures))

    async def _listen(self) -> None:
        connection = await asyncpg.connect(
            self._url,
            timeout=self._settings.connect_seconds,
            command_timeout=self._settings.statement_seconds,
            server_settings={"application_name": "nexus-notices"},
        )
        try:
            for channel in self._heard:
                await connection.add_listener(channel, self._on_notice)
            _connects.inc()
            self._call_all()
            ended = asyncio.Event()
            connection.add_termination_listener(lambda _: ended.set())
            while not ended.is_set():
                try:
                    async with asyncio.timeout(CHECK_SECONDS):
                        await ended.wait()
                except TimeoutError:
                    await connection.execute("SELECT 1")
        finally:
            connection.terminate()

    def _on_notice(self, _connection: Any, _pid: int, channel: str, payload: str) -> None:
        _heard.inc(labels=(channel,))
        for heard in self._heard[channel]:
            heard(payload)

    def _call_all(self) -> None:
        for calls in self._heard.values():
            for heard in calls:
                heard("")

"""The embedded servers of one region together: started, watched, handed on or stopped.

take the claim ──▶ both kept running ──▶ ready when both answer
     our supervisor is gone: nobody starts them again, the claim is free for `orphan_seconds`
         ├── somebody took it: they have the servers now, we leave them alone
         └── nobody did: we take it back and stop them
"""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self

from ops.clock import SYSTEM
from ops.log import get_logger
from ops.state.claim import Claim, make_folders
from ops.state.places import Settings, places
from ops.state.postgres import Postgres
from ops.state.programs import Account, Programs, account, usable
from ops.state.server import Kept, Server
from ops.state.valkey import Valkey
from ops.tasks import SupervisedGroup

_CLAIM_SECONDS: Final = 2.0
"""How long one waits beyond the time that a predecessor may take to stop its servers."""
_LOOK_SECONDS: Final = 0.1
"""How often an orphan looks whether it has a successor."""

_log = get_logger("ops.state")


class Embedded:
    """Enter it to have the servers run; leave it to have them stopped, unless they were handed on.

    Owns: the servers, and the claim to them. Entering waits for a predecessor that is stopping.
    Raises StateError: somebody else runs them; the directory, account or programs are unusable.
    """

    def __init__(
        self, settings: Settings, *, connections_max: int, on_failure: Callable[[], object]
    ) -> None:
        """connections_max: of all processes to PostgreSQL. on_failure: called when a server cannot
        be kept running at all; `failure` then says why."""
        self.places = places(settings)
        self.failure: BaseException | None = None
        """Why a server cannot be kept running."""
        self._on_failure = on_failure
        self._settings = settings
        self._connections_max = connections_max
        self._claim = Claim(self.places.servers_lock, holder="state")
        self._group = SupervisedGroup("state", on_failure=self._fail)
        self._kept: list[Kept] = []

    async def __aenter__(self) -> Self:
        make_folders(self.places)
        await self._claim.take(self._settings.state.stop_seconds * 2 + _CLAIM_SECONDS)
        try:
            runner = account(self._settings.state.account)
            programs = await asyncio.to_thread(usable, self.places.programs, runner)
        except BaseException:
            self._claim.release()
            raise
        await self._group.__aenter__()
        for server in self._servers(programs, runner):
            kept = Kept(server, runner, self._settings.state)
            self._kept.append(kept)
            self._group.start(server.name, kept.run())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._group.stop()
        if self._claim.try_take():
            # The cache first: nobody needs it to stop the truth cleanly.
            for kept in reversed(self._kept):
                await kept.stop()
            self._claim.release()
        else:
            _log.info("the servers are another node's now")

    async def ready(self) -> None:
        """Waits until all answer, which they may cease to do at any time."""
        for kept in self._kept:
            await kept.ready.wait()

    def pids(self) -> dict[str, int]:
        """By the servers' names; 0: it does not run now."""
        return {kept.server.name: kept.pid for kept in self._kept}

    async def hand_on(self) -> None:
        """Lets a successor take the servers; returns when it has, or when its time is over."""
        await self._group.stop()
        deadline = SYSTEM.monotonic() + self._settings.state.orphan_seconds
        while SYSTEM.monotonic() < deadline and self._claim.try_take():
            # The successor is patient, so it does not mind this look.
            self._claim.release()
            await asyncio.sleep(_LOOK_SECONDS)

    def _servers(self, programs: Programs, runner: Account) -> list[Server]:
        settings = self._settings
        found: list[Server] = []
        if not settings.database.url:
            idle = settings.database.idle_in_transaction_seconds
            most = self._connections_max
            found.append(Postgres(self.places, programs, runner, settings.state, most, idle))
        if not settings.redis.url:
            found.append(Valkey(self.places, programs, runner, settings.state))
        return found

    def _fail(self, _name: str, error: BaseException) -> None:
        self.failure = error
        self._on_failure()

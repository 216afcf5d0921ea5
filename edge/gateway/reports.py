"""Tells backend-api what one worker sees: breakers that open and close, limits that are exceeded.

    breakers and refusals of this worker ─▶ every second, if there is news: one transaction
      ─▶ the table of open breakers, which `GET /v1/backend-api/breakers` shows
      ─▶ events: gateway_breaker.opened, .closed, gateway_quota.exceeded

Requests wait for none of it. While the database is away nothing is told, and what is so is told
when it is back; a breaker that opened and closed meanwhile is not. A worker that dies is forgotten
after `api.BREAKER_SECONDS`.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from edge.gateway.breaker import State
from edge.gateway.limits import Refusals
from edge.gateway.upstreams import Upstreams
from ops.db import Database
from ops.errors import NexusError
from ops.ids import secret_id
from ops.log import get_logger
from services._kit.actor import Actor
from services._kit.call import Runtime
from services.platform.backend_api.api import BREAKER_SECONDS, BreakerState, Report
from services.platform.backend_api.service import SERVICE
from services.platform.backend_api.store import ConfigStore

LOOK_SECONDS: Final = 1.0
RENEW_SECONDS: Final = BREAKER_SECONDS / 3
"""How often a worker says that its breakers are still open."""
EXCEEDED_SECONDS: Final = 60.0
"""How often refusals are told of; they are counted together until then."""
CHANGES_MAX: Final = 100
"""Breakers whose change is told of at once."""

Tell = Callable[[Report], Awaitable[None]]
"""Writes a report down. Raises NexusError."""

_log = get_logger("edge.gateway.reports")


class Reports:
    """What one worker tells; `run` does until it is cancelled. Owns nothing."""

    def __init__(
        self,
        upstreams: Upstreams,
        refusals: Refusals,
        tell: Tell,
        *,
        clock: Callable[[], float],
    ) -> None:
        """clock: monotonic seconds."""
        self._upstreams = upstreams
        self._refusals = refusals
        self._tell = tell
        self._clock = clock
        self._worker = secret_id()
        self._told: dict[str, BreakerState] = {}
        self._renew_at = self._exceeded_at = 0.0
        self._fault = ""

    async def run(self) -> None:
        """Looks every `LOOK_SECONDS`, and tells what is new."""
        while True:
            try:
                await self.look()
            except NexusError as error:
                if error.code != self._fault:
                    _log.warning("what the gateway sees cannot be told", reason=error.message)
                self._fault = error.code
            else:
                self._fault = ""
            await asyncio.sleep(LOOK_SECONDS)

    async def look(self) -> None:
        """Tells what is new, if anything is. Raises NexusError: nothing was told."""
        now, found = self._clock(), self._open()
        exceeded = bool(self._refusals) and now >= self._exceeded_at
        renew = bool(found) and now >= self._renew_at
        if found == self._told and not exceeded and not renew:
            return
        refused = self._refusals.taken() if exceeded else ()
        if exceeded:
            self._exceeded_at = now + EXCEEDED_SECONDS
        # What is more comes with the next look.
        changed = set(sorted(found.keys() ^ self._told.keys())[:CHANGES_MAX])
        kept = self._told.keys() - changed | changed & found.keys()
        breakers = {name: found.get(name, "half_open") for name in sorted(kept)}
        await self._tell(
            Report(
                worker=self._worker,
                breakers=breakers,
                opened=tuple(sorted(changed & found.keys())),
                closed=tuple(sorted(changed - found.keys())),
                exceeded=refused,
            )
        )
        self._told, self._renew_at = breakers, now + RENEW_SECONDS

    def _open(self) -> dict[str, BreakerState]:
        """The breakers that are not closed."""
        return {
            known.rule.name: "open" if known.breaker.state is State.OPEN else "half_open"
            for known in self._upstreams.all()
            if known.breaker is not None and known.breaker.state is not State.CLOSED
        }


def teller(runtime: Runtime, database: Database, *, tenant: str) -> Tell:
    """Writes reports into backend-api's tables and outbox, for the operator's tenant."""
    actor = Actor(
        id=f"{SERVICE.name}.gateway",
        tenant=tenant,
        kind="service",
        permissions=frozenset({f"{SERVICE.name}.*"}),
    )

    async def tell(report: Report) -> None:
        async with (
            database.session(SERVICE.schema, tenant=tenant) as session,
            session.transaction(),
        ):
            await runtime.fence(session, tenant)
            store = runtime.store(SERVICE, session, actor)
            assert isinstance(store, ConfigStore)
            await store.note(report)

    return tell

"""Asks servers by itself how they do, where a configuration wants that: active health checks.

    each server of an upstream with `health`, every `seconds`: GET path
      ─▶ fails `failures_max` times in a row ─▶ left out (balancer.py), however its requests do
      ─▶ then does well `successes_min` times in a row ─▶ asked again

Each worker asks for itself. What requests tell of a server (`outlier`, `breaker`) counts besides.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import aiohttp
from yarl import URL

from edge.gateway.balancer import Server
from edge.gateway.upstreams import Known, Upstreams
from ops import metrics
from ops.log import get_logger
from ops.tasks import SupervisedGroup
from services.platform.backend_api.api import ITEMS_MAX, Health

AT_ONCE_MAX: Final = 64
"""Most checks that one worker has under way; others wait their turn."""
AGENT: Final = "nexus-health"

_log = get_logger("edge.gateway.health_checks")
_checked = metrics.counter(
    "nexus_gateway_health_checks", "Checks of upstreams' servers.", ("upstream", "outcome")
)


class HealthChecks:
    """The checks of one worker; `run` makes them until it is cancelled.

    Owns, while it runs: an HTTP client session, a task for each upstream with checks.
    """

    def __init__(self, upstreams: Upstreams, *, clock: Callable[[], float]) -> None:
        """clock: the event loop's."""
        self._upstreams = upstreams
        self._clock = clock
        self._turns = asyncio.Semaphore(AT_ONCE_MAX)

    async def run(self) -> None:
        """Checks what the configuration wants checked, for good."""
        running: dict[int, asyncio.Task[None]] = {}
        # Connections of its own: requests that take all of the others say nothing of a server.
        connector = aiohttp.TCPConnector(limit=AT_ONCE_MAX, force_close=True)
        async with (
            aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            ) as session,
            SupervisedGroup("health checks", tasks_max=ITEMS_MAX) as tasks,
        ):
            while True:
                self._upstreams.changed.clear()
                wanted = {id(known): known for known in self._upstreams.all() if known.rule.health}
                for gone in running.keys() - wanted.keys():
                    running.pop(gone).cancel()
                for new in wanted.keys() - running.keys():
                    known = wanted[new]
                    running[new] = tasks.start(known.rule.name, self._keep(session, known))
                await self._upstreams.changed.wait()

    async def _keep(self, session: aiohttp.ClientSession, known: Known) -> None:
        """Checks all servers of an upstream, again and again."""
        rule = known.rule.health
        assert rule is not None
        while True:
            async with asyncio.TaskGroup() as group:
                for server in known.balancer.servers:
                    group.create_task(self._check(session, known, server))
            known.report(self._clock())
            await asyncio.sleep(rule.seconds)

    async def _check(self, session: aiohttp.ClientSession, known: Known, server: Server) -> None:
        rule = known.rule.health
        assert rule is not None
        async with self._turns:
            well = await _does_well(session, server, rule)
        _checked.inc(labels=(known.rule.name, "well" if well else "ill"))
        if known.balancer.checked(server, well=well, rule=rule):
            said = (
                "a server does well again" if well else "a server does not do well: it is left out"
            )
            _log.warning(said, upstream=known.rule.name, server=server.url)


async def _does_well(session: aiohttp.ClientSession, server: Server, rule: Health) -> bool:
    try:
        async with session.get(
            URL(server.url + rule.path, encoded=True),
            allow_redirects=False,
            headers={"User-Agent": AGENT},
            timeout=aiohttp.ClientTimeout(total=rule.timeout_ms / 1_000),
        ) as answer:
            status = answer.status
    except (TimeoutError, aiohttp.ClientError, OSError):
        return False
    return status in rule.statuses if rule.statuses else 200 <= status < 400

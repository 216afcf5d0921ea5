"""Puts the gateway of one worker together, and takes it apart again.

Owns: the connections to upstreams and to Redis, the background work (configuration, refreshes,
hedges). What services run on, and their database, are the worker's.
"""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from aiohttp import web

from edge.admission import Admission
from edge.gateway.compose import Compose
from edge.gateway.dispatch import Services
from edge.gateway.gateway import Clocks, Elsewhere, Gateway
from edge.gateway.health_checks import HealthChecks
from edge.gateway.http import GatewayHttp
from edge.gateway.identity import Identities
from edge.gateway.live import Lists
from edge.gateway.portal import Portal
from edge.gateway.reports import Reports, Tell
from edge.gateway.settings import GatewaySettings
from edge.gateway.shared_limits import SharedLimits
from edge.gateway.source import ConfigSource
from edge.routes import Routed
from edge.service_openapi import openapi
from ops.db import Database
from ops.errors import Unavailable
from ops.opened import Opened
from ops.tasks import Restart, SupervisedGroup
from ops.tokens import TokenSettings, Verifier, load_keys
from services._events.asyncapi import document as asyncapi
from services._kit.call import Reply, Request
from services._kit.operation import Operation

TASKS_MAX: Final = 20_000
"""Background work of one worker's gateway: hedges are two for each request that is hedged."""
REDIS_CONNECTIONS_MAX: Final = 8
IDLE_SECONDS: Final = 4.0
"""How long a connection to an upstream is kept for the next request: shorter than servers usually
do, since what is sent on one that they are just closing is lost, and may not be sent again."""
DOCUMENT_VERSION: Final = "1"
_ALWAYS: Final = Restart(pause_seconds_first=0.5, after_return=True)


@dataclass(frozen=True, slots=True)
class Business:
    """What the gateway leads to."""

    services: Services
    operations: Sequence[Operation]
    database: Database | None = None
    database_url: str = ""
    """The same database, for a connection on which configurations are told."""
    redis_url: str = ""
    """Where limits are shared; "": every worker counts its share."""
    lists: Lists | None = None
    """Who follows lists; None: they are answered once."""
    elsewhere: Elsewhere | None = None
    """Who passes requests of other regions' tenants on; None: nobody."""
    operator_tenant: str = "system"
    tell: Tell | None = None
    """Writes down what workers see of upstreams and limits; None: nobody does."""


class NoServices:
    """A worker without business services; it has no operations to be called."""

    async def call(self, operation: Operation, request: Request) -> Reply:  # noqa: ARG002
        raise Unavailable("no services run here", code="services.away")


class GatewaySide(Opened):
    """The gateway as the HTTP side has it. `async with` it."""

    def __init__(
        self,
        settings: GatewaySettings,
        business: Business,
        *,
        tokens: TokenSettings,
        key_file: Path,
        clocks: Clocks,
        admission: Admission | None = None,
        workers: int = 1,
        body_seconds: float = 10.0,
    ) -> None:
        """key_file: where the keys of tokens are. workers: of this node."""
        self._settings = settings
        self._business = business
        self._tokens = tokens
        self._key_file = key_file
        self._clocks = clocks
        self._admission = admission
        self._workers = workers
        self._body_seconds = body_seconds

    @property
    def parts(self) -> list[Routed]:
        """Route tables of its own."""
        return [self.portal, self.compose]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers whatever no route table has."""
        return await self.http.handle(request)

    async def _start(self, stack: AsyncExitStack) -> None:
        """Raises SettingsError: the configuration's file cannot be used; Rejected: the keys."""
        settings, business, tokens = self._settings, self._business, self._tokens
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=settings.upstream_connections_max, keepalive_timeout=IDLE_SECONDS
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
            )
        )
        # aiohttp would send idempotent requests again by itself, past our budget.
        session._retry_connection = False  # noqa: SLF001
        tasks = await stack.enter_async_context(SupervisedGroup("gateway", tasks_max=TASKS_MAX))
        verifier = Verifier(
            load_keys(self._key_file),
            issuer=tokens.issuer,
            known_max=tokens.known_max,
            leeway_seconds=tokens.leeway_seconds,
        )
        unix = self._clocks.unix
        self.gateway = Gateway(
            settings,
            services=business.services,
            operations=business.operations,
            identities=Identities(verifier, known_max=settings.principals_max, clock=unix),
            session=session,
            tasks=tasks,
            clocks=self._clocks,
            admission=self._admission,
            shared=self._shared(stack, tasks),
            workers=self._workers,
        )
        self.gateway.stream(business.lists)
        self.gateway.elsewhere = business.elsewhere
        if business.tell is not None:
            reports = Reports(
                self.gateway.upstreams,
                self.gateway.refusals,
                business.tell,
                clock=self._clocks.monotonic,
            )
            tasks.keep("reports", reports.run, _ALWAYS)
        checks = HealthChecks(self.gateway.upstreams, clock=self._clocks.monotonic)
        tasks.keep("health checks", checks.run, _ALWAYS)
        self.http = GatewayHttp(self.gateway, body_seconds=self._body_seconds)
        self.compose = Compose(self.gateway, self.http)
        self.portal = Portal(self._describe, tell=self._tell)
        source = ConfigSource(
            self.gateway,
            file=settings.config_file,
            database=business.database,
            database_url=business.database_url,
            tenant=business.operator_tenant,
        )
        source.load()
        if source.changes:
            tasks.keep("configuration", source.keep, _ALWAYS)

    def _shared(self, stack: AsyncExitStack, tasks: SupervisedGroup) -> SharedLimits | None:
        settings, url = self._settings, self._business.redis_url
        if not url:
            return None
        # Imported where it is used, so that a worker without Redis starts sooner.
        from edge.gateway import redis_script  # noqa: PLC0415

        client = redis_script.client(url, connections_max=REDIS_CONNECTIONS_MAX)
        stack.push_async_callback(client.aclose)
        return SharedLimits(
            redis_script.script(client),
            shares=settings.shared_workers_max or self._workers,
            seconds_max=settings.shared_seconds_max,
            pause_seconds=settings.shared_pause_seconds,
            tasks=tasks,
            clock=self._clocks.monotonic,
            buckets_max=settings.buckets_max,
        )

    def _tell(self) -> dict[str, Any]:
        services = {one.service.name: one.service for one in self._business.operations}
        return asyncapi(services.values(), version=DOCUMENT_VERSION)

    def _describe(self) -> dict[str, Any]:
        return openapi(list(self._business.operations), version=DOCUMENT_VERSION)

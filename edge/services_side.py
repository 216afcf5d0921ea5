"""What one process runs business services on: their database, the kit's runtime, regions, GraphQL,
and the lists that clients follow.

Owns: the pool of connections, what it asks other regions with, the tasks that keep placements fresh
and tell of changes. It is made of settings alone, so that edge workers and background workers have
the same.
"""

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

from edge.gateway.reports import teller
from edge.gateway.side import Business, GatewaySide
from edge.graphql.gateway_door import GatewayDoor
from edge.graphql.routes import GraphqlApi, engine_of
from edge.regions.side import RegionSide
from edge.routes import Routed
from edge.settings import Settings
from ops.changes import CHANNEL, Changes
from ops.clock import SYSTEM, Clock
from ops.db import Database
from ops.notices import Notices
from ops.opened import Opened
from ops.sealing import KeyRing
from ops.state.places import Addresses, addresses, places
from ops.tasks import SupervisedGroup
from services._kit.call import Runtime
from services._kit.load import load_all
from services._kit.operation import operations
from services._live.lists import Lists

KEYS: Final = "keys.json"
"""Name of the file with the keys that seal fields, in the region's folder."""


def has_services(settings: Settings) -> bool:
    """Whether there is a database for services: this node's own, or yours."""
    return "state" in settings.node.roles or bool(settings.database.url)


def key_ring(settings: Settings) -> KeyRing:
    """The keys of sealed fields; made at the first start."""
    return KeyRing.from_file(places(settings).folder / KEYS)


def service_settings(settings: Settings) -> Mapping[str, Any]:
    """Settings by service name, of those that have any."""
    return {"backend-api": settings.backend_api, "placement": settings.regions}


class ServicesSide(Opened):
    """The services of one process. `async with` it."""

    def __init__(self, settings: Settings, *, clock: Clock = SYSTEM) -> None:
        self._settings = settings
        self._clock = clock
        self.addresses: Addresses = addresses(settings)
        self.services = load_all()
        self.operations = operations(self.services)

    def business(self) -> Business:
        """As the gateway takes them."""
        found, tenant = self.addresses, self._settings.backend_api.operator_tenant
        return Business(
            self.runtime,
            self.operations,
            database=self.database,
            database_url=found.database_url,
            redis_url=found.redis_url,
            operator_tenant=tenant,
            tell=teller(self.runtime, self.database, tenant=tenant),
            lists=self.lists,
            elsewhere=None if self.crossing is None else self.crossing.elsewhere,
        )

    def parts(self, gateway: GatewaySide) -> list[Routed]:
        """Route tables beside the gateway's, which says who asks and what they may still ask."""
        settings = self._settings
        make = engine_of(self.services, self.runtime, settings.graphql)
        door = GatewayDoor(gateway.gateway, gateway.http)
        seconds = settings.edge.body_seconds
        self.graphql = GraphqlApi(make, door.identify, settings.graphql, body_seconds=seconds)
        found: list[Routed] = [self.graphql]
        if self.crossing is not None:
            found += self.regions.parts
        return found

    async def _start(self, stack: AsyncExitStack) -> None:
        """Raises SettingsError: regions that cannot be."""
        settings, region = self._settings, self._settings.node.region
        self.database = await stack.enter_async_context(
            Database(self.addresses.database_url, settings.database)
        )
        self.regions = await stack.enter_async_context(
            RegionSide(self.database, settings.regions, region=region, clock=self._clock)
        )
        self.crossing = self.regions.crossing if settings.regions.peers else None
        self.runtime = Runtime(
            self.database,
            self.services,
            region=region,
            keys=key_ring(settings),
            settings=service_settings(settings),
            homes=self.regions.homes,
            clock=self._clock,
        )
        await self._follow_changes(stack)

    async def _follow_changes(self, stack: AsyncExitStack) -> None:
        """Tells other processes what is committed here, and lists what is committed anywhere."""
        settings, changes = self._settings, Changes(self.database)
        notices = Notices(self.addresses.database_url, settings.database)
        workers = settings.edge.workers or 1
        self.lists = await stack.enter_async_context(
            Lists(
                self.runtime,
                settings.live,
                # As in edge/admission.py: the kernel spreads connections by chance.
                share=min(1.0, 2.0 / workers),
                notices=notices,
                clock=self._clock,
            )
        )
        notices.subscribe(CHANNEL, changes.heard)
        changes.watch(self.lists.changed)
        tasks = await stack.enter_async_context(SupervisedGroup("changes"))
        tasks.keep("tell", changes.run)
        self.database.committed = changes.mark

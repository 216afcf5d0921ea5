"""Everything of regions that one process has, put together from its settings.

An edge worker gives `homes` to the kit's `Runtime`, `crossing` to its door and `parts` to its route
tables; a worker of jobs and events needs `homes` alone.
"""

from contextlib import AsyncExitStack

from edge.regions.crossing import Crossing
from edge.regions.forwarder import Forwarder
from edge.regions.homes import Homes
from edge.regions.peer_api import PeerApi
from edge.regions.peers import RemoteDirectory
from edge.routes import Routed
from ops.clock import SYSTEM, Clock
from ops.db import Database
from ops.opened import Opened
from ops.region_settings import RegionSettings, check_regions
from ops.tasks import SupervisedGroup


class RegionSide(Opened):
    """Homes, crossing and the peers' routes of one process. `async with` it.

    Owns: its connections to other regions, and the task that keeps its homes fresh. The database is
    the caller's.
    """

    def __init__(
        self, database: Database, settings: RegionSettings, *, region: str, clock: Clock = SYSTEM
    ) -> None:
        """region: this one. Raises SettingsError: the settings cannot be those of this region."""
        check_regions(settings, region)
        kept = settings.directory or region
        peer = settings.peer(kept)
        self._directory = (
            RemoteDirectory(
                peer, region=region, connect_seconds=settings.connect_seconds, clock=clock
            )
            if peer is not None
            else None
        )
        self._forwarder = Forwarder(settings, region=region)
        self.homes = Homes(
            database, settings, region=region, directory=self._directory, clock=clock
        )
        self.crossing = Crossing(self.homes, self._forwarder, settings)
        self.parts: list[Routed] = [PeerApi(database, settings, region=region, clock=clock)]
        self.keeps_fresh = True
        """Whether a task does; else the caller awaits `homes.pull` and `homes.look`."""

    async def _start(self, stack: AsyncExitStack) -> None:
        if self._directory is not None:
            await stack.enter_async_context(self._directory)
        await stack.enter_async_context(self._forwarder)
        tasks = await stack.enter_async_context(SupervisedGroup("regions"))
        if self.keeps_fresh:
            tasks.keep("homes", self.homes.run)

"""Regions on one machine: each has its own database, and serves notes through its gateway.

All of it is real, the tokens too, which one key file signs for all regions; there is no media.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any

import aiohttp
from yarl import URL

from edge.admission import Admission
from edge.gateway.gateway import Clocks
from edge.gateway.settings import GatewaySettings
from edge.gateway.side import Business, GatewaySide
from edge.graphql.gateway_door import GatewayDoor
from edge.graphql.routes import GraphqlApi, engine_of
from edge.graphql.settings import GraphqlSettings
from edge.http_app import HttpSide, make_app
from edge.http_settings import HttpSettings
from edge.limit_settings import LimitSettings
from edge.regions.side import RegionSide
from ops.clock import SYSTEM, Clock
from ops.db import Database, DatabaseSettings
from ops.migrate import migrate
from ops.region_settings import PeerSettings, RegionSettings
from ops.tokens import Issuer, TokenSettings, load_keys
from services._kit.call import Runtime
from services._kit.load import schemas
from services._kit.operation import operations
from services._live.lists import Lists
from services._live.settings import LiveSettings
from services.platform.placement.service import SERVICE
from tests.fakes.calls import KEYS
from tests.fakes.notes.service import NOTES
from tests.fakes.postgres import LOGIN, Postgres, PostgresServer

SERVICES = (NOTES, SERVICE)
KEY = "a key of two regions, long enough"
WAIT_SECONDS = 10.0
_TABLES = (
    "notes.note",
    "placement.placement",
    "placement.progress",
    *(
        f"{schema}.{table}"
        for schema in ("notes", "placement")
        for table in ("audit", "audit_head", "idempotency")
    ),
)
SOON = RegionSettings(look_seconds=0.05, pull_seconds=0.05, connect_seconds=0.5, answer_seconds=3)
"""Settings with which a test need not wait."""


def free_socket() -> socket.socket:
    """A listening socket on a port of its own."""
    found = socket.create_server(("127.0.0.1", 0))
    found.settimeout(0)
    return found


def url_of(sock: socket.socket) -> str:
    return f"http://127.0.0.1:{sock.getsockname()[1]}"


@dataclass
class Told:
    """An answer."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Region:
    """One region. `start` and `stop` may be repeated: its database stays."""

    def __init__(self, name: str, postgres: Postgres, settings: RegionSettings) -> None:
        self.name = name
        self.postgres = postgres
        self.settings = settings
        self.url = ""
        self.keeps_fresh = True
        """Whether it copies the directory by itself; else tests do."""
        self.clock: Clock = SYSTEM
        self.key_file = Path()
        self._tokens: dict[str, str] = {}
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Serves on its port."""
        stack = self._stack = AsyncExitStack()
        host, port = self.url.removeprefix("http://").split(":")
        settings, database_settings = self.settings, DatabaseSettings(connections_max=12)
        database = Database(self.postgres.url, database_settings)
        self.database = await stack.enter_async_context(database)
        side = RegionSide(self.database, settings, region=self.name, clock=self.clock)
        side.keeps_fresh = self.keeps_fresh
        await stack.enter_async_context(side)
        self.homes = side.homes
        self.runtime = Runtime(
            self.database,
            SERVICES,
            region=self.name,
            keys=KEYS,
            settings={"placement": settings},
            homes=self.homes,
        )
        lists = await stack.enter_async_context(Lists(self.runtime, LiveSettings()))
        self.database.committed = lists.changed
        gateway = await stack.enter_async_context(self._gateway(side, lists))
        admission = Admission(
            LimitSettings(), trusted_proxies=(), workers=1, clock=SYSTEM.monotonic
        )
        parts = [*side.parts, *gateway.parts, self._graphql(gateway)]
        http = HttpSide(
            make_app(HttpSettings(), parts, admission, gateway=gateway.handle), HttpSettings()
        )
        await http.start()
        stack.push_async_callback(http.stop)
        loop = asyncio.get_running_loop()
        server = await loop.create_server(http.protocol, host, int(port), reuse_port=True)
        stack.callback(server.close)

    async def stop(self) -> None:
        """Is away."""
        await self._stack.aclose()

    async def ask(
        self, method: str, path: str, *, tenant: str, body: Any = None, **headers: str
    ) -> Told:
        """One request of somebody in a tenant. headers: with _ for -."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        sent["Authorization"] = f"Bearer {self.token(tenant)}"
        if isinstance(body, dict):
            sent["Content-Type"] = "application/json"
            body = json.dumps(body)
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                method, URL(self.url + path, encoded=True), headers=sent, data=body
            ) as answer,
        ):
            return Told(answer.status, answer.headers, await answer.read())

    def token(self, tenant: str) -> str:
        """A token of somebody who may do everything in a tenant."""
        if tenant not in self._tokens:
            issuer = Issuer(load_keys(self.key_file), issuer="nexus")
            self._tokens[tenant] = issuer.issue(
                "usr_1", tenant=tenant, permissions=["*"], seconds=3_600, now=SYSTEM.unix()
            )
        return self._tokens[tenant]

    async def add(self, title: str, *, tenant: str, **headers: str) -> Told:
        """Adds a note."""
        body = {"title": title}
        return await self.ask("POST", "/v1/notes/notes", tenant=tenant, body=body, **headers)

    async def titles(self, tenant: str) -> list[str]:
        """What this door tells of a tenant's notes."""
        told = await self.ask("GET", "/v1/notes/notes", tenant=tenant)
        assert told.status == 200, told
        return [note["title"] for note in told.json["data"]]

    def kept(self, tenant: str) -> list[str]:
        """The titles that really are in this region's database."""
        found = self.postgres.run(
            "SELECT array_agg(title ORDER BY title) FROM notes.note WHERE tenant = $1", tenant
        )
        return list(found or ())

    def epoch(self, tenant: str) -> int:
        """The epoch that this region's table knows; 0: none."""
        found = self.postgres.run("SELECT epoch FROM placement.placement WHERE name = $1", tenant)
        return int(found or 0)

    def _gateway(self, side: RegionSide, lists: Lists) -> GatewaySide:
        business = Business(
            self.runtime,
            operations(SERVICES),
            lists=lists,
            elsewhere=side.crossing.elsewhere,
        )
        loop = asyncio.get_running_loop()
        return GatewaySide(
            GatewaySettings(user_requests_per_second_max=0),
            business,
            tokens=TokenSettings(),
            key_file=self.key_file,
            clocks=Clocks(loop.time, SYSTEM.unix),
        )

    def _graphql(self, gateway: GatewaySide) -> GraphqlApi:
        door = GatewayDoor(gateway.gateway, gateway.http)
        make = engine_of(SERVICES, self.runtime, GraphqlSettings())
        return GraphqlApi(make, door.identify, GraphqlSettings())


@dataclass
class World:
    """Some regions; the first keeps the directory."""

    regions: dict[str, Region] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Region:
        return self.regions[name]


@asynccontextmanager
async def world(
    server: PostgresServer,
    *,
    names: Sequence[str] = ("eu1", "us1"),
    settings: RegionSettings = SOON,
    start: bool = True,
) -> AsyncIterator[World]:
    """Regions that know each other, each with an empty database."""
    sockets = {name: free_socket() for name in names}
    urls = {name: url_of(sock) for name, sock in sockets.items()}
    made, folder = World(), mkdtemp()
    try:
        databases = await _emptied(server, len(names))
        for name, database in zip(names, databases, strict=True):
            peers = tuple(
                PeerSettings(region=other, url=urls[other], key=KEY)
                for other in names
                if other != name
            )
            said = replace(settings, peers=peers, directory=names[0])
            made.regions[name] = Region(name, database, said)
            made[name].url = urls[name]
            made[name].key_file = Path(folder) / "token-keys.json"
        for sock in sockets.values():
            sock.close()
        if start:
            for region in made.regions.values():
                await region.start()
            await until(_all_copied(made))
        yield made
    finally:
        for region in made.regions.values():
            await region.stop()
        rmtree(folder)


_databases: dict[PostgresServer, list[Postgres]] = {}


async def _emptied(server: PostgresServer, count: int) -> list[Postgres]:
    """Databases with their schemas made and nothing in them: making them takes seconds."""
    made = _databases.setdefault(server, [])
    while len(made) < count:
        fresh = server.database()
        await migrate(fresh.admin_url, schemas(SERVICES), logins=(LOGIN,))
        made.append(fresh)
    for database in made[:count]:
        database.run(";".join(("BEGIN", *(f"DELETE FROM {name}" for name in _TABLES), "COMMIT")))
    return made[:count]


async def until(true: Any) -> None:
    """Waits until `true()` is, a coroutine function or a function."""
    deadline = SYSTEM.monotonic() + WAIT_SECONDS
    while True:
        found = true()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return
        assert SYSTEM.monotonic() < deadline, "it does not happen"
        await asyncio.sleep(0.01)


def _all_copied(made: World) -> Any:
    async def copied() -> bool:
        return all(
            not region.keeps_fresh
            or region.settings.directory == region.name
            or region.postgres.run("SELECT count(*) FROM placement.progress") == 1
            for region in made.regions.values()
        )

    return copied

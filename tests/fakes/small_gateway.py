"""The gateway on loopback behind the real HTTP side, without media: for tests of what it does."""

import asyncio
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp

from edge.admission import Admission
from edge.gateway.gateway import Clocks
from edge.gateway.settings import GatewaySettings
from edge.gateway.side import Business, GatewaySide
from edge.http_app import HttpSide, make_app
from edge.http_settings import HttpSettings
from edge.limit_settings import LimitSettings
from edge.routes import Routed
from ops.db import Database
from ops.tokens import Issuer, TokenSettings, load_keys
from services.platform.backend_api.logic.reading import from_plain
from tests.fakes.clock import FakeClock
from tests.fakes.stall import OPERATIONS, Stall


class SmallGateway:
    """`async with` it. `clock` stands still until it is told to go on."""

    def __init__(
        self,
        folder: Path,
        *,
        settings: GatewaySettings | None = None,
        operations: Sequence[Any] = OPERATIONS,
        services: Any = None,
        database: Database | None = None,
        database_url: str = "",
        redis_url: str = "",
        real_time: bool = True,
        workers: int = 1,
        **business: Any,
    ) -> None:
        """business: further members of `Business`."""
        self.stall = Stall()
        self.clock = FakeClock()
        self._business = Business(
            services or self.stall,
            operations,
            database=database,
            database_url=database_url,
            redis_url=redis_url,
            **business,
        )
        self._settings = settings or GatewaySettings()
        self._key_file = folder / "token-keys.json"
        self._real_time = real_time
        self._workers = workers
        self._stack = AsyncExitStack()
        self.port = 0

    async def __aenter__(self) -> Self:
        stack, loop = self._stack, asyncio.get_running_loop()
        monotonic = loop.time if self._real_time else self.clock.monotonic
        self.admission = Admission(LimitSettings(), trusted_proxies=(), workers=1, clock=loop.time)
        self.side = await stack.enter_async_context(
            GatewaySide(
                self._settings,
                self._business,
                tokens=TokenSettings(),
                key_file=self._key_file,
                clocks=Clocks(monotonic, self.clock.unix),
                admission=self.admission,
                workers=self._workers,
            )
        )
        self.gateway = self.side.gateway
        app = make_app(HttpSettings(), self.parts(), self.admission, gateway=self.side.handle)
        http = HttpSide(app, HttpSettings())
        await http.start()
        stack.push_async_callback(http.stop)
        server = await loop.create_server(http.protocol, "127.0.0.1", 0)
        stack.callback(server.close)
        self.port = int(server.sockets[0].getsockname()[1])
        self.client = await stack.enter_async_context(
            aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", auto_decompress=False)
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def parts(self) -> list[Routed]:
        """The route tables beside what the gateway answers."""
        return self.side.parts

    def configure(self, **sections: Any) -> None:
        """This configuration holds from now on."""
        self.gateway.configure(from_plain(sections))

    def token(
        self, *permissions: str, subject: str = "ada", tenant: str = "acme", **more: Any
    ) -> str:
        """A token for an hour."""
        issuer = Issuer(load_keys(self._key_file), issuer="nexus")
        return issuer.issue(
            subject,
            tenant=tenant,
            permissions=permissions or ("*",),
            seconds=3_600,
            now=self.clock.unix(),
            **more,
        )

    def bearer(self, *permissions: str, **more: Any) -> dict[str, str]:
        """A header field with such a token."""
        return {"Authorization": f"Bearer {self.token(*permissions, **more)}"}

    async def ask(self, method: str, path: str, **options: Any) -> "Said":
        """What it answers, read to the end."""
        options["headers"] = {"Accept-Encoding": "identity", **options.get("headers", {})}
        async with self.client.request(method, path, allow_redirects=False, **options) as reply:
            return Said(reply.status, reply.headers, await reply.read())

    async def get(self, path: str, **options: Any) -> "Said":
        return await self.ask("GET", path, **options)


class Said:
    """An answer."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)

    def __repr__(self) -> str:
        return f"{self.status} {dict(self.headers)} {self.body[:500]!r}"


def to(upstream: Any, **members: Any) -> dict[str, Any]:
    """An upstream of the configuration that leads to servers of tests."""
    servers = upstream if isinstance(upstream, list | tuple) else [upstream]
    return {"name": "up", "targets": [{"url": one.url} for one in servers], **members}


def route(path: str = "/shop/{rest...}", **members: Any) -> dict[str, Any]:
    """A route of the configuration to the upstream `up`, for anybody."""
    return {
        "name": "shop",
        "path": path,
        "to": [{"upstream": "up"}],
        "access": "public",
        **members,
    }

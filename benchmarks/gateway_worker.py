"""An edge worker of `nexus bench gateway`: the real one, with a service of the benchmark's own.

    python -m benchmarks.gateway_worker '{"slot": 0, "port": 8080, ...}'

Its routes add one layer after the other: nothing, who asks, a row of the database. `bare` is what
aiohttp alone costs on this machine: one handler, no rules.
"""

import gc
import socket
import sys
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from edge.gateway.side import Business
from edge.roles import configure_log, run_stoppable
from edge.services_side import key_ring
from edge.settings import Settings
from edge.worker import Worker
from ops import metrics
from ops.db import Database
from ops.inherited import Inherited
from ops.log import LogSettings
from services._kit.call import Runtime
from services._kit.errors import NotFound
from services._kit.operation import operations
from services._kit.record import Record
from services._kit.service import Route, Service
from services._kit.store import Store

BACKLOG: Final = 1_024
NAME: Final = "bench"
BARE: Final = "/bare"


class Orders(msgspec.Struct, frozen=True):
    """What the benchmark wants of a worker."""

    slot: int
    workers: int
    port: int
    bare_port: int
    run_dir: str
    data_dir: str
    database_url: str
    requests_per_second_max: int
    """Of one user; 0: no limit."""


class Item(Record):
    """A row."""

    id: str
    name: str
    version: int


class Shelf(Store):
    """Where rows are."""

    async def item(self, id: str) -> Item:
        row = await self.db.row("SELECT id, name, version FROM item WHERE id = $1", id)
        if row is None:
            raise NotFound("item")
        return Item(id=row["id"], name=row["name"], version=row["version"])


async def open_to_all() -> Item:
    """Answers whoever asks."""
    return Item(id="open", name="for everybody", version=1)


async def signed_in() -> Item:
    """Answers whoever is signed in."""
    return Item(id="hello", name="for somebody", version=1)


async def item(store: Shelf, id: str) -> Item:
    """One row."""
    return await store.item(id)


BENCH: Final = Service(
    name=NAME,
    summary="What the benchmark asks for.",
    package="benchmarks",
    store=Shelf,
    routes=(
        Route("GET", "/open", open_to_all, access="public"),
        Route("GET", "/hello", signed_in, access="signed_in"),
        Route("GET", "/items/{id}", item, needs="bench.item.read"),
    ),
)


def settings_of(orders: Orders) -> Settings:
    """As a node with embedded state has them."""
    base = Settings()
    return replace(
        base,
        node=replace(base.node, run_dir=Path(orders.run_dir), roles=("edge", "state")),
        edge=replace(base.edge, listen=(f"127.0.0.1:{orders.port}",), workers=orders.workers),
        state=replace(base.state, data_dir=Path(orders.data_dir)),
        gateway=replace(base.gateway, user_requests_per_second_max=orders.requests_per_second_max),
        log=LogSettings(level="error"),
    )


async def serve(orders: Orders, settings: Settings) -> None:
    """Answers until it is stopped."""
    bare = web.Application()
    bare.router.add_get(BARE, _bare)
    runner = web.AppRunner(bare, access_log=None)
    await runner.setup()
    await web.SockSite(runner, _listening(orders.bare_port)).start()
    inherited = Inherited(http=[_listening(orders.port)], slot=orders.slot)
    async with Database(orders.database_url, settings.database) as database:
        region, keys = settings.node.region, key_ring(settings)
        runtime = Runtime(database, (BENCH,), region=region, keys=keys)
        business = Business(runtime, operations((BENCH,)))
        async with Worker(settings, inherited, business=business) as worker:
            print("ready", flush=True)
            await worker.serve()


async def _bare(_request: web.Request) -> web.Response:
    made = Item(id="open", name="for everybody", version=1)
    return web.Response(body=msgspec.json.encode(made), content_type="application/json")


def _listening(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    made.listen(BACKLOG)
    made.settimeout(0)
    return made


def main(words: list[str]) -> int:
    """Runs one worker as a child of the family would be; its exit code."""
    orders = msgspec.json.decode(words[0], type=Orders)
    settings = settings_of(orders)
    configure_log(settings, "edge", orders.slot)
    metrics.start(settings.node.run_dir / "metrics", f"edge-{orders.slot}")

    def begin() -> Coroutine[Any, Any, None]:
        metrics.touch()
        gc.collect()
        gc.freeze()
        return serve(orders, settings)

    return run_stoppable(begin)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

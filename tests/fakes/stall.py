"""A service to be reached through the gateway, without a database: it tells what it was asked."""

import asyncio
import json
from dataclasses import dataclass, field
from typing import Any

from services._kit.call import Reply, Request
from services._kit.errors import Malformed
from services._kit.operation import Operation, operations
from services._kit.record import Input, Record
from services._kit.service import Route, Service


class Item(Record):
    """A thing for sale."""

    id: str
    version: int


class NewItem(Input):
    """A thing to be sold."""

    name: str


async def item(id: str) -> Item:
    """One item."""
    return Item(id=id, version=1)


async def price(id: str) -> Item:
    """What an item costs, which may be kept."""
    return Item(id=id, version=1)


async def add(body: NewItem) -> Item:
    """Adds an item."""
    return Item(id=body.name, version=1)


async def opening() -> Item:
    """When the stall is open."""
    return Item(id="open", version=1)


async def greeting() -> Item:
    """Says hello to whoever is signed in."""
    return Item(id="hello", version=1)


STALL = Service(
    name="stall",
    summary="Things for sale.",
    package="tests.fakes.stall",
    routes=(
        Route("GET", "/items/{id}", item, needs="stall.item.read"),
        Route("GET", "/items/{id}:price", price, needs="stall.item.read", cache_seconds=60),
        Route("POST", "/items", add, needs="stall.item.write", body_bytes_max=1_000, cost=5),
        Route("GET", "/open", opening, access="public"),
        Route("GET", "/hello", greeting, access="signed_in"),
    ),
)
OPERATIONS = operations([STALL])


@dataclass
class Stall:
    """Answers for the service. `hold` keeps answers back until it is set."""

    calls: list[tuple[str, Request]] = field(default_factory=list)
    hold: asyncio.Event | None = None
    fails: BaseException | None = None
    more: dict[str, Any] = field(default_factory=dict)
    """Further members of every answer."""
    headers: dict[str, str] = field(default_factory=dict)

    async def call(self, operation: Operation, request: Request) -> Reply:
        self.calls.append((operation.name, request))
        count = len(self.calls)
        if self.hold is not None:
            await self.hold.wait()
        if self.fails is not None:
            raise self.fails
        try:
            body = json.loads(request.body) if request.body else None
        except ValueError:
            raise Malformed("the body is not JSON") from None
        said = {
            "operation": operation.name,
            "path": dict(request.path),
            "query": request.query,
            "tenant": request.actor.tenant,
            "who": request.actor.id,
            "body": body,
            "key": request.idempotency_key,
            "count": count,
            **self.more,
        }
        headers = {"Content-Type": "application/json", "ETag": '"1"', **self.headers}
        return Reply(201 if operation.creates else 200, json.dumps(said).encode(), headers)

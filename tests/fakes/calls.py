"""Calls services as HTTP would, without HTTP, on a real database of their own."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from ops.db import Database, DatabaseSettings
from ops.migrate import migrate
from ops.sealing import KeyRing
from services._kit.actor import Actor
from services._kit.call import Reply, Request, Runtime
from services._kit.load import schemas
from services._kit.operation import Operation, operations
from services._kit.service import Service
from tests.fakes.postgres import LOGIN, Postgres

KEYS = KeyRing({1: bytes(32)})


def actor(tenant: str = "acme", *permissions: str, user: str = "usr_1") -> Actor:
    """Somebody who may do everything in a tenant, or only what is said."""
    return Actor(id=user, tenant=tenant, permissions=frozenset(permissions or ("*",)))


class Calls:
    """The services under test."""

    def __init__(self, database: Database, services: tuple[Service, ...]) -> None:
        self.database = database
        self.runtime = Runtime(database, services, region="eu1", keys=KEYS)
        self.operations = {operation.name: operation for operation in operations(services)}
        self._only = services[0].name if len(services) == 1 else ""

    def operation(self, name: str) -> Operation:
        """By whole name, `notes.add`, or by the handler's where there is one service."""
        return self.operations[name if "." in name else f"{self._only}.{name}"]

    async def call(self, name: str, who: Actor | None = None, **asked: Any) -> Reply:
        """asked: fields of `Request`; a body is text, or data that becomes JSON."""
        if "body" in asked:
            body = asked["body"]
            text = body if isinstance(body, str) else json.dumps(body)
            asked = {"content_type": "application/json", **asked, "body": text.encode()}
        request = Request(actor=who or actor(), **asked)
        return await self.runtime.call(self.operation(name), request)

    async def told(self, name: str, who: Actor | None = None, **asked: Any) -> Any:
        """The body of a successful answer."""
        reply = await self.call(name, who, **asked)
        assert 200 <= reply.status < 300, reply
        return json.loads(reply.body) if reply.body else None


@asynccontextmanager
async def served(
    postgres: Postgres, *services: Service, connections_max: int = 8
) -> AsyncIterator[Calls]:
    """Services with their schemas made."""
    await migrate(postgres.admin_url, schemas(services), logins=(LOGIN,))
    settings = DatabaseSettings(connections_max=connections_max)
    async with Database(postgres.url, settings) as database:
        yield Calls(database, services)

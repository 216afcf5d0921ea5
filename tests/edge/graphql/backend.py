"""A backend without a database: the samples' data in memory, every call counted."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edge.graphql.backend import Charge, free
from edge.graphql.engine import Engine
from edge.graphql.http_request import Ask
from edge.graphql.settings import GraphqlSettings
from services._kit.actor import Actor
from services._kit.call import check_access
from services._kit.operation import Operation, operations
from services._kit.paging import slice_of
from services._kit.service import Entity, Service
from tests.edge.graphql.sample import EVERYTHING, SERVICES, Guest, Host, guest_id, host_id

ACTOR = Actor(
    id="usr_eu1_1",
    tenant="acme",
    permissions=frozenset({"guest-list.*", "hosts.*"}),
    trace="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
)
STRANGER = Actor(id="usr_eu1_2", tenant="acme")


@dataclass
class Data:
    """What the samples' handlers take as their store."""

    guests: dict[str, Guest] = field(default_factory=dict)
    hosts: dict[str, Host] = field(default_factory=dict)
    everything: Any = EVERYTHING
    log: list[Any] = field(default_factory=list)


class MemoryBackend:
    """`Runtime` without a database. `hold`: calls wait for it; `most` is how many ever did."""

    def __init__(self, *, guests: int = 3, hosts: int = 2) -> None:
        self.fill(guests, hosts)
        self.hold: asyncio.Event | None = None
        self.running = self.most = 0

    def fill(self, guests: int = 3, hosts: int = 2) -> None:
        """As if it was new."""
        self.store = Data()
        for number in range(hosts):
            self.store.hosts[host_id(number)] = Host(
                id=host_id(number), name=f"host {number}", deputy_id=host_id((number + 1) % hosts)
            )
        for number in range(guests):
            self.store.guests[guest_id(number)] = Guest(
                id=guest_id(number),
                name=f"guest {number}",
                label=f"guest {number}",
                state="invited" if number % 2 else "checked-in",
                host=host_id(number % hosts),
                friends=(guest_id((number + 1) % guests), guest_id((number + 2) % guests)),
            )
        self.invoked: list[tuple[str, Mapping[str, Any], str]] = []
        self.fetched: list[tuple[str, tuple[str, ...]]] = []

    async def invoke(
        self,
        operation: Operation,
        actor: Actor,
        arguments: Mapping[str, Any],
        *,
        idempotency_key: str = "",
    ) -> Any:
        check_access(operation, actor)
        self.invoked.append((operation.name, arguments, idempotency_key))
        await self._held()
        given = dict(arguments)
        if operation.paged:
            limit, cursor = given.pop("limit"), given.pop("cursor")
            given["page"] = slice_of(limit, cursor, context=b"", secret=b"secret")
        if "actor" in operation.takes:
            given["actor"] = actor
        return await operation.route.handler(store=self.store, **given)

    async def many(
        self, service: Service, entity: Entity, actor: Actor, ids: tuple[str, ...]
    ) -> Mapping[str, Any]:
        assert any(one is entity for one in service.entities)
        actor.check(entity.needs)
        self.fetched.append((entity.record.__name__, ids))
        await self._held()
        return await entity.many(self.store, ids)

    async def _held(self) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await (self.hold.wait() if self.hold is not None else asyncio.sleep(0))
        finally:
            self.running -= 1


def make_engine(backend: MemoryBackend, settings: GraphqlSettings | None = None) -> Engine:
    return Engine(SERVICES, operations(SERVICES), backend, settings or GraphqlSettings())


class Client:
    """Asks an engine, without HTTP."""

    def __init__(
        self,
        backend: MemoryBackend,
        settings: GraphqlSettings | None = None,
        *,
        charge: Charge = free,
    ) -> None:
        self.backend = backend
        self.engine = make_engine(backend, settings)
        self._charge = charge

    async def ask(
        self, query: str, variables: Mapping[str, Any] | None = None, *, actor: Actor = ACTOR
    ) -> dict[str, Any]:
        ask = Ask(query, None, variables or {})
        return await self.engine.answer(ask, actor, reads_only=False, charge=self._charge)

    async def data(self, query: str, variables: Mapping[str, Any] | None = None) -> Any:
        """The data of an answer without errors."""
        answer = await self.ask(query, variables)
        assert "errors" not in answer, answer["errors"]
        return answer["data"]

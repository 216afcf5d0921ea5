"""`nexus bench graphql`: CPU time of GraphQL queries, ours beside graphql-core's own executor.

Everything but network and database: the document is remembered, the service answers from memory,
the answer is encoded. Both run the same schema, documents and service, in this process, in turns.
What links cost is not compared, since graphql-core alone does not fetch them together.
"""

import argparse
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec
from graphql import ExecutionResult, GraphQLResolveInfo, execute, parse

from benchmarks.progress import Progress
from benchmarks.results import Row
from edge.graphql.arguments import bind
from edge.graphql.engine import Engine
from edge.graphql.http_request import Ask
from edge.graphql.outputs import SOURCE
from edge.graphql.refused import encode
from edge.graphql.schema import ROOT
from edge.graphql.settings import GraphqlSettings
from services._kit.actor import Actor
from services._kit.operation import Operation, operations
from services._kit.paging import Slice, slice_of
from services._kit.record import Page
from services._kit.service import Entity, Route, Service

ROWS: Final = 200
SECONDS: Final = 1.0
"""How long each query is repeated, each turn."""
ACTOR: Final = Actor(id="usr_1", tenant="acme")


class Item(msgspec.Struct, frozen=True):
    """A row."""

    id: str
    name: str
    state: Literal["new", "sold-out"]
    price: int
    weight: float
    visible: bool
    note: str | None
    version: int


ITEMS: Final = tuple(
    Item(
        id=f"itm_{number}",
        name=f"item {number}",
        state="new",
        price=number,
        weight=0.5,
        visible=True,
        note=None,
        version=1,
    )
    for number in range(ROWS)
)


async def items(page: Slice) -> Page[Item]:
    """All items."""
    return page.page(ITEMS[: page.limit], lambda item: (item.id,))


async def item(id: str) -> Item:
    """One item."""
    return ITEMS[int(id)]


SHOP: Final = Service(
    name="shop",
    summary="Items.",
    package="benchmarks",
    routes=(
        Route("GET", "/items", items, access="signed_in"),
        Route("GET", "/items/{id}", item, access="signed_in"),
    ),
)
_FIELDS: Final = "id name state price weight visible note version"
QUERIES: Final[Mapping[str, str]] = {
    "one record": f'{{ shopItem(id: "7") {{ {_FIELDS} }} }}',
    f"{ROWS} records": f"{{ shopItems(limit: {ROWS}) {{ data {{ {_FIELDS} }} nextCursor }} }}",
}


class Memory:
    """The service without a database."""

    async def invoke(
        self,
        operation: Operation,
        _actor: Actor,
        arguments: Mapping[str, Any],
        *,
        idempotency_key: str = "",  # noqa: ARG002  of the interface
    ) -> Any:
        given = dict(arguments)
        if operation.paged:
            limit, cursor = given.pop("limit"), given.pop("cursor")
            given["page"] = slice_of(limit, cursor, context=b"", secret=b"secret")
        return await operation.route.handler(**given)

    async def many(
        self, service: Service, entity: Entity, actor: Actor, ids: tuple[str, ...]
    ) -> Mapping[str, Any]:
        """There are no links."""
        raise LookupError(service, entity, actor, ids)


@dataclass(frozen=True, slots=True)
class Contender:
    """Somebody who answers queries."""

    who: str
    answer: Callable[[str], Awaitable[bytes]]


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """It has none of its own."""


async def run(chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    """A row for each query, contender and repeat."""
    engine = Engine((SHOP,), operations((SHOP,)), Memory(), GraphqlSettings())
    contenders = (Contender("nexus", _ours(engine)), Contender("graphql-core", _theirs(engine)))
    rows = []
    for turn in range(chosen.repeat):
        for name, query in QUERIES.items():
            for contender in contenders:
                progress.say(f"{contender.who}: {name}, turn {turn + 1}")
                cpu_us, count = await _measured(contender, query)
                rows.append(
                    Row(
                        bench="graphql.query",
                        who=contender.who,
                        clients=1,
                        unit=f"query of {name}",
                        cpu_us=cpu_us,
                        note=chosen.note,
                        more={"queries": count},
                    )
                )
    return rows


async def _measured(contender: Contender, query: str) -> tuple[float, int]:
    await contender.answer(query)
    count, began = 0, time.process_time()
    while (spent := time.process_time() - began) < SECONDS:
        await contender.answer(query)
        count += 1
    return spent / count * 1e6, count


def _ours(engine: Engine) -> Callable[[str], Awaitable[bytes]]:
    async def answer(query: str) -> bytes:
        return encode(await engine.answer(Ask(query), ACTOR, reads_only=False))

    return answer


def _theirs(engine: Engine) -> Callable[[str], Awaitable[bytes]]:
    documents = {query: parse(query, no_location=True) for query in QUERIES.values()}
    backend = Memory()

    async def call(root: Any, arguments: Mapping[str, Any]) -> Any:
        bound = bind(root, arguments, ACTOR)
        return await backend.invoke(root.operation, ACTOR, bound.arguments)

    def resolve(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
        field = info.parent_type.fields[info.field_name]
        root = field.extensions.get(ROOT)
        if root is not None:
            return call(root, arguments)
        return getattr(source, field.extensions[SOURCE].attribute)

    async def answer(query: str) -> bytes:
        found = execute(engine.schema, documents[query], field_resolver=resolve)
        result = found if isinstance(found, ExecutionResult) else await found
        assert not result.errors, result.errors
        return msgspec.json.encode({"data": result.data})

    return answer

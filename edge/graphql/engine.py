"""One GraphQL request, from what it asks for to the answer; knows no HTTP.

document ─▶ operation ─▶ variables ─▶ plan ─▶ cost ─▶ charged ─▶ executed
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from graphql import GraphQLSchema, OperationType

from edge.graphql.answers import executed
from edge.graphql.backend import Backend, Charge, free
from edge.graphql.documents import Documents
from edge.graphql.execute import Executor, calls, tokens
from edge.graphql.http_request import Ask
from edge.graphql.refused import Refused
from edge.graphql.schema import make_schema
from edge.graphql.settings import GraphqlSettings
from ops import metrics, tracing
from services._kit.actor import Actor
from services._kit.operation import Operation
from services._kit.service import Service

T = TypeVar("T")

_operations = metrics.counter(
    "nexus_graphql_requests", "GraphQL operations executed.", ("kind", "outcome")
)
_operations.expect(*((kind, how) for kind in ("query", "mutation") for how in ("ok", "errors")))
_refused = metrics.counter(
    "nexus_graphql_refused", "GraphQL requests that were not executed, by code.", ("code",)
)
_cost = metrics.histogram(
    "nexus_graphql_cost",
    "Tokens that operations cost, those refused for it too.",
    buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 10_000),
)
_seconds = metrics.histogram(
    "nexus_graphql_seconds",
    "From the request until its answer is made.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)
_ERRORS: Final = "errors"


class Engine:
    """GraphQL of some services. Owns: the documents that it remembers."""

    def __init__(
        self,
        services: Sequence[Service],
        operations: Sequence[Operation],
        backend: Backend,
        settings: GraphqlSettings,
    ) -> None:
        """Raises ValueError: the services' names cannot be told apart."""
        self.schema: GraphQLSchema = make_schema(services, operations)
        self._documents = Documents(self.schema, settings)
        self._executor = Executor(backend, settings)
        self._settings = settings

    async def answer(
        self, ask: Ask, actor: Actor, *, reads_only: bool, charge: Charge = free
    ) -> dict[str, Any]:
        """The answer to a request. reads_only: mutations are refused. charge: for what it costs.

        Raises Refused, and what `charge` raises.
        """
        began = time.monotonic()
        try:
            return await self._answer(ask, actor, charge, reads_only=reads_only)
        except Refused as refused:
            _refused.inc(labels=(refused.code,))
            raise
        finally:
            _seconds.observe(time.monotonic() - began)

    async def _answer(
        self, ask: Ask, actor: Actor, charge: Charge, *, reads_only: bool
    ) -> dict[str, Any]:
        document = await self._documents.find(ask.query, sha256=ask.sha256)
        name, operation = document.operation(ask.operation)
        if reads_only and operation.operation is not OperationType.QUERY:
            raise Refused(
                "GET is for queries: send mutations by POST",
                code="http.method_not_allowed",
                status=405,
                always=True,
                headers={"Allow": "POST"},
            )
        variables = await self._work(ask, self._documents.variables, operation, ask.variables)
        plan = self._documents.plan(document, name, variables)
        asked = await self._work(ask, calls, plan, variables)
        cost = tokens(asked)
        _cost.observe(cost)
        most = self._settings.cost_max
        if cost > most:
            raise Refused(
                f"the operation costs {cost} tokens, and {most} is the most",
                code="query_cost",
                always=True,
                fields={"cost": cost, "cost_max": most},
            )
        await charge(cost)
        kind = "query" if plan.is_query else "mutation"
        with tracing.span(f"graphql {kind}", operation=name, cost=cost):
            found = await self._executor.run(plan, asked, actor, in_thread=ask.is_large)
        answer = executed(found, actor, errors_max=self._settings.errors_max)
        _operations.inc(labels=(kind, _ERRORS if _ERRORS in answer else "ok"))
        return answer

    async def _work(self, ask: Ask, do: Callable[..., T], *arguments: Any) -> T:
        """Does it here, or in a thread when the request is large."""
        return await asyncio.to_thread(do, *arguments) if ask.is_large else do(*arguments)

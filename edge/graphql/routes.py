"""The HTTP route of GraphQL: reads the request, picks the status, sends the answer.

Statuses as graphql-over-http has them: whatever was executed is 200, errors among its fields or
not; a document that is wrong is 400 with application/graphql-response+json and 200 with
application/json; what is no GraphQL request, what HTTP itself says no to (media types, methods,
sizes), and our limits are 4xx with both. Who asks is known before: `identify` raises for a
credential that is wrong.

The engine is made when it is first asked for, in a thread, or by `warm`: reading all services'
types takes about a millisecond an operation, and graphql-core a tenth of a second to load.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Protocol

from aiohttp import web

from edge.gateway.plan import GRAPHQL, path_of
from edge.graphql.backend import Backend, Caller, Charge
from edge.graphql.http_request import (
    JSON_TYPE,
    LARGE_BYTES,
    RESPONSE_TYPE,
    Ask,
    from_body,
    from_query,
    response_type,
)
from edge.graphql.refused import Refused, encode, refusal, trace_of
from edge.graphql.settings import GraphqlSettings
from edge.problems import Refusal
from edge.request_body import read_body
from edge.routes import Answer, Route
from ops import metrics
from services._kit.actor import Actor
from services._kit.errors import Malformed
from services._kit.operation import operations
from services._kit.service import Service
from services._kit.wire import pairs_once

PATH: Final = path_of(GRAPHQL)
_ANSWERS: Final = {
    200: Answer("Data, and errors of fields.", media_type=RESPONSE_TYPE),
    400: Answer("The request was not executed: `errors` say why.", media_type=RESPONSE_TYPE),
    405: Answer("A mutation by GET."),
    406: Answer("Accept allows neither media type."),
    413: Answer("The body is too long."),
    415: Answer("The body is not JSON."),
}

Identify = Callable[[web.Request], Awaitable[Caller | web.StreamResponse]]
"""Who asks; or an answer that somebody else gave, such as the tenant's home in another region."""


class Answering(Protocol):
    """`edge/graphql/engine.py` has the one."""

    async def answer(
        self, ask: Ask, actor: Actor, *, reads_only: bool, charge: Charge
    ) -> dict[str, Any]:
        """The answer to a request. Raises Refused, NexusError."""


def engine_of(
    services: Sequence[Service], backend: Backend, settings: GraphqlSettings
) -> Callable[[], Answering]:
    """Makes the engine of these services when it is called."""

    def make() -> Answering:
        from edge.graphql.engine import Engine  # noqa: PLC0415  graphql-core is slow to load

        return Engine(services, operations(services), backend, settings)

    return make


class GraphqlApi:
    """The routes of GraphQL."""

    routes: Final = (
        Route(
            "POST",
            PATH,
            "post",
            "Run a GraphQL operation",
            _ANSWERS,
            request_type=JSON_TYPE,
            tag="graphql",
        ),
        Route(
            "GET",
            PATH,
            "get",
            "Run a GraphQL query",
            _ANSWERS,
            query={
                "query": "The document.",
                "operationName": "Which of its operations.",
                "variables": "A JSON object.",
                "extensions": "A JSON object; `persistedQuery` names a document by its hash.",
            },
            tag="graphql",
        ),
    )

    def __init__(
        self,
        make: Callable[[], Answering],
        identify: Identify,
        settings: GraphqlSettings,
        *,
        body_seconds: float = 10.0,
    ) -> None:
        """make: the engine, as `engine_of` gives it. identify: who asks; raises NexusError for a
        wrong credential."""
        self._make = make
        self._made: Answering | None = None
        self._making = asyncio.Lock()
        self._identify = identify
        self._settings = settings
        self._body_seconds = body_seconds

    async def warm(self) -> None:
        """Makes the engine before somebody asks. Raises ValueError: names cannot be told apart."""
        await self._engine()

    async def post(self, request: web.Request) -> web.StreamResponse:
        caller = await self._identify(request)
        if isinstance(caller, web.StreamResponse):
            return caller
        body = await self._body(request)
        content_type = request.headers.get("Content-Type", "")

        async def read() -> Ask:
            if len(body) > LARGE_BYTES:
                return await asyncio.to_thread(from_body, content_type, body)
            return from_body(content_type, body)

        return await self._answer(request, caller, read)

    async def get(self, request: web.Request) -> web.StreamResponse:
        caller = await self._identify(request)
        if isinstance(caller, web.StreamResponse):
            return caller

        async def read() -> Ask:
            return from_query(_query(request))

        return await self._answer(request, caller, read)

    async def _answer(
        self, request: web.Request, caller: Caller, read: Callable[[], Awaitable[Ask]]
    ) -> web.Response:
        media_type = JSON_TYPE
        try:
            media_type = response_type(", ".join(request.headers.getall("Accept", ())))
            ask = await read()
            engine = await self._engine()
            answer = await engine.answer(
                ask, caller.actor, reads_only=request.method != "POST", charge=caller.charge
            )
        except Refused as refused:
            status = refused.status if refused.always or media_type == RESPONSE_TYPE else 200
            sent = _response(refusal(refused, trace=trace_of(caller.actor)), media_type, status)
            sent.headers.update(refused.headers)
        else:
            sent = _response(answer, media_type, 200)
        sent.headers.update(caller.headers)
        return sent

    async def _engine(self) -> Answering:
        if self._made is None:
            async with self._making:
                if self._made is None:
                    self._made = await asyncio.to_thread(self._make)
                    metrics.touch()
        return self._made

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._body_seconds):
                return await read_body(request, self._settings.body_bytes_max)
        except TimeoutError:
            raise Refusal(
                408,
                "the body took too long",
                code="http.body_too_slow",
                headers={"Connection": "close"},
            ) from None


def _query(request: web.Request) -> dict[str, str]:
    try:
        return pairs_once(request.rel_url.raw_query_string, what="the query")
    except Malformed as fault:
        raise Refused(fault.message, code=fault.code, always=True) from None


def _response(answer: dict[str, object], media_type: str, status: int) -> web.Response:
    return web.Response(
        status=status,
        body=encode(answer),
        headers={
            "Content-Type": f"{media_type}; charset=utf-8",
            "Cache-Control": "private, no-store",
            "Vary": "Accept",
        },
    )

"""The GraphQL routes on a loopback socket, in the application that edge workers serve."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from edge.admission import Admission
from edge.graphql.backend import Caller
from edge.graphql.routes import PATH, GraphqlApi, engine_of
from edge.graphql.settings import GraphqlSettings
from edge.http_app import make_app
from edge.http_settings import HttpSettings
from edge.limit_settings import LimitSettings
from services._kit.errors import SignedOut
from tests.edge.graphql.backend import ACTOR, MemoryBackend
from tests.edge.graphql.sample import SERVICES


async def identify(request: web.Request) -> Caller:
    """Everybody is the same actor, but for one credential that is wrong."""
    if request.headers.get("Authorization") == "Bearer wrong":
        raise SignedOut("this token is not ours")
    return Caller(ACTOR)


@asynccontextmanager
async def serving(
    backend: MemoryBackend,
    settings: GraphqlSettings | None = None,
    *,
    body_seconds: float = 10.0,
) -> AsyncIterator[str]:
    """Serves; gives the address of the route."""
    chosen = settings or GraphqlSettings()
    make = engine_of(SERVICES, backend, chosen)
    api = GraphqlApi(make, identify, chosen, body_seconds=body_seconds)
    clock = asyncio.get_running_loop().time
    app = make_app(HttpSettings(), [api], Admission(LimitSettings(), clock=clock))
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}{PATH}"
    finally:
        await runner.cleanup()

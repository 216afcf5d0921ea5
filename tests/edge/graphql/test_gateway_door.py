"""GraphQL behind the gateway: tokens say who asks, limits are charged what operations cost."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from edge.gateway.settings import GatewaySettings
from edge.graphql.gateway_door import GatewayDoor
from edge.graphql.routes import PATH, GraphqlApi, engine_of
from edge.graphql.settings import GraphqlSettings
from edge.routes import Routed
from services._kit.operation import operations
from tests.edge.graphql.backend import MemoryBackend
from tests.edge.graphql.sample import SERVICES, guest_id
from tests.fakes.small_gateway import SmallGateway

QUERY = f'{{ guestListGuest(id: "{guest_id(0)}") {{ name }} }}'
GUEST = {"data": {"guestListGuest": {"name": "guest 0"}}}
READ = "guest-list.guest.read"


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


class WithGraphql(SmallGateway):
    """A gateway with GraphQL beside it, as edge workers have it."""

    def __init__(self, folder: Path, backend: MemoryBackend, **options: Any) -> None:
        super().__init__(folder, operations=operations(SERVICES), real_time=False, **options)
        self._backend = backend

    def parts(self) -> list[Routed]:
        door = GatewayDoor(self.side.gateway, self.side.http)
        make = engine_of(SERVICES, self._backend, GraphqlSettings())
        return [*super().parts(), GraphqlApi(make, door.identify, GraphqlSettings())]


async def test_a_token_says_who_asks(tmp_path: Path, backend: MemoryBackend) -> None:
    async with WithGraphql(tmp_path, backend) as gateway:
        ask: Callable[..., Awaitable[Any]] = gateway.ask
        reader = await ask("POST", PATH, json={"query": QUERY}, headers=gateway.bearer(READ))
        assert (reader.status, reader.json) == (200, GUEST)
        other = await ask("POST", PATH, json={"query": QUERY}, headers=gateway.bearer("a.b.c"))
        assert other.json["errors"][0]["extensions"]["code"] == "auth.forbidden"
        nobody = await ask("POST", PATH, json={"query": QUERY})
        assert nobody.json["errors"][0]["extensions"]["code"] == "auth.missing"
        anybody = await ask("POST", PATH, json={"query": "{ hostsCount }"})
        assert anybody.json == {"data": {"hostsCount": 2}}
        wrong = {"Authorization": "Bearer a.b.c"}
        refused = await ask("POST", PATH, json={"query": QUERY}, headers=wrong)
        assert refused.status == 401


async def test_pages_of_other_sites_ask_only_where_it_is_configured(
    tmp_path: Path, backend: MemoryBackend
) -> None:
    shop = "https://shop.example"
    asks = {
        "Origin": shop,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    async with WithGraphql(tmp_path, backend) as gateway:
        before = await gateway.ask("OPTIONS", PATH, headers=asks)
        assert "Access-Control-Allow-Origin" not in before.headers
        gateway.configure(
            cors=[{"name": "web", "origins": [shop]}],
            overrides=[{"operations": "backend-api.graphql", "cors": "web"}],
        )
        after = await gateway.ask("OPTIONS", PATH, headers=asks)
        assert (after.status, after.headers["Access-Control-Allow-Origin"]) == (204, shop)
        for credential, status in ((gateway.bearer(READ), 200), ({"X-Api-Key": "no"}, 401)):
            headers = {**credential, "Origin": shop}
            said = await gateway.ask("POST", PATH, json={"query": QUERY}, headers=headers)
            assert said.status == status
            assert said.headers.getall("Access-Control-Allow-Origin") == [shop]
            assert "Origin" in ", ".join(said.headers.getall("Vary"))
        evil = {**gateway.bearer(READ), "Origin": "https://evil.test"}
        said = await gateway.ask("POST", PATH, json={"query": QUERY}, headers=evil)
        assert "Access-Control-Allow-Origin" not in said.headers


async def test_what_it_costs_is_taken_from_the_callers_limit(
    tmp_path: Path, backend: MemoryBackend
) -> None:
    """Ten requests a second, two seconds' worth at once: twenty tokens."""
    settings = GatewaySettings(user_requests_per_second_max=10)
    query = "{ guestListGuests(limit: 200) { data { friends { name } } } }"  # 23 tokens
    cheap = "{ a: hostsCount b: hostsCount c: hostsCount }"
    async with WithGraphql(tmp_path, backend, settings=settings) as gateway:
        headers = gateway.bearer(READ)
        for left in (17, 14, 11, 8, 5, 2):
            answer = await gateway.ask("POST", PATH, json={"query": cheap}, headers=headers)
            assert answer.status == 200
            assert f"r={left}" in answer.headers["RateLimit"]
        refused = await gateway.ask("POST", PATH, json={"query": cheap}, headers=headers)
        assert refused.status == 429
        assert int(refused.headers["Retry-After"]) >= 1
        calls = len(backend.invoked)
        other = gateway.bearer(READ, subject="bob")
        answer = await gateway.ask("POST", PATH, json={"query": query}, headers=other)
        assert answer.status == 200
        assert "r=0" in answer.headers["RateLimit"]
        assert len(backend.invoked) == calls + 1


async def test_a_tenant_of_another_region_is_answered_from_there(
    tmp_path: Path, backend: MemoryBackend
) -> None:
    async def elsewhere(request: web.Request, *, tenant: str) -> web.StreamResponse | None:
        if tenant != "far":
            return None
        response = web.Response(text="from afar")
        await response.prepare(request)
        await response.write_eof()
        return response

    async with WithGraphql(tmp_path, backend, elsewhere=elsewhere) as gateway:
        for headers, expected in (
            (gateway.bearer(READ, tenant="far"), b"from afar"),
            (gateway.bearer(READ), b'{"data":{"guestListGuest":{"name":"guest 0"}}}'),
        ):
            said = await gateway.ask("POST", PATH, json={"query": QUERY}, headers=headers)
            assert said.body == expected
    assert len(backend.invoked) == 1

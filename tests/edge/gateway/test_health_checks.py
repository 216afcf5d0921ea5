"""Servers are asked how they do, and those that do not do well get no requests."""

from aiohttp import web

from ops import metrics
from tests.edge.conftest import eventually
from tests.fakes.fault_upstream import Act, FaultUpstream
from tests.fakes.small_gateway import SmallGateway, route, to

HEALTH = {"path": "/health?deep=1", "seconds": 1, "failures_max": 1, "successes_min": 1}


class Patient:
    """What servers say of themselves."""

    def __init__(self, *servers: FaultUpstream) -> None:
        self.ill: set[str] = set()
        for server in servers:
            server.always = self._act(server.name)

    def _act(self, name: str) -> Act:
        async def act(request: web.Request) -> web.StreamResponse:
            if request.path == "/health":
                return web.Response(status=503 if name in self.ill else 204)
            return web.json_response({"by": name})

        return act


async def asked(gateway: SmallGateway) -> set[str]:
    return {(await gateway.get("/shop/x")).json["by"] for _ in range(20)}


async def test_a_server_that_is_ill_gets_no_requests_until_it_is_well_again(
    gateway: SmallGateway, upstream: FaultUpstream, second: FaultUpstream
) -> None:
    patient = Patient(upstream, second)
    patient.ill.add("up")
    gateway.configure(upstreams=[to([upstream, second], health=HEALTH)], routes=[route()])
    (known,) = gateway.gateway.upstreams.all()
    first, other = known.balancer.servers
    await eventually(lambda: not first.well)
    assert await asked(gateway) == {"second"}
    assert {one.path for one in upstream.seen} == {"/health?deep=1"}
    text = metrics.render().decode()
    assert 'nexus_gateway_health_checks_total{outcome="ill",upstream="up"}' in text
    patient.ill = {"second"}
    await eventually(lambda: first.well and not other.well)
    assert await asked(gateway) == {"up"}


async def test_a_server_that_is_not_there_is_found_before_anybody_asks_for_it(
    gateway: SmallGateway, second: FaultUpstream
) -> None:
    nobody = FaultUpstream()
    nobody.port = 1
    gateway.configure(upstreams=[to([nobody, second], health=HEALTH)], routes=[route()])
    (known,) = gateway.gateway.upstreams.all()
    await eventually(lambda: not known.balancer.servers[0].well)
    assert await asked(gateway) == {"second"}


async def test_without_health_nobody_is_asked_and_another_configuration_ends_it(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    Patient(upstream)
    gateway.configure(upstreams=[to(upstream, health=HEALTH)], routes=[route()])
    await eventually(lambda: upstream.seen)
    gateway.configure(upstreams=[to(upstream)], routes=[route()])
    (known,) = gateway.gateway.upstreams.all()
    before = len(upstream.seen)
    await gateway.get("/shop/x")
    await gateway.get("/shop/x")
    assert len(upstream.seen) <= before + 3, "two requests, and at most a check under way"
    assert known.balancer.servers[0].checks == 0

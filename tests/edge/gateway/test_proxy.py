"""Requests passed on to servers: what they see, what is repeated, and what their faults become."""

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from edge.gateway.proxy import Proxy, _Outcome
from edge.gateway.settings import GatewaySettings
from edge.gateway.upstreams import Known
from ops.tasks import SupervisedGroup
from services.platform.backend_api.api import Target, Upstream
from tests.edge.conftest import eventually
from tests.edge.gateway.conftest import Made
from tests.fakes.fault_upstream import FaultUpstream
from tests.fakes.small_gateway import SmallGateway, route, to


def single(gateway: SmallGateway, upstream: Any, *, about: Any = None, **members: Any) -> None:
    """One route to this upstream."""
    gateway.configure(upstreams=[to(upstream, **(about or {}))], routes=[route(**members)])


async def test_a_request_arrives_as_it_was_sent(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream, methods=["GET", "POST"], access="signed_in")
    headers = {
        **gateway.bearer(),
        "X-Nexus-Tenant": "other",
        "X-Forwarded-For": "1.2.3.4",
        "X-Custom": "kept",
        "Cookie": "a=b",
    }
    said = await gateway.ask("POST", "/shop/a%20b/c?q=%2F&q=2", data=b"\x00body", headers=headers)
    assert said.status == 200
    (seen,) = upstream.seen
    assert (seen.method, seen.body) == ("POST", b"\x00body")
    assert seen.path.startswith("/shop/a%20b/c?q=")
    assert seen.headers["x-custom"] == "kept"
    assert seen.headers["cookie"] == "a=b"
    assert seen.headers["x-nexus-tenant"] == "acme"
    assert seen.headers["x-nexus-subject"] == "ada"
    assert seen.headers["x-forwarded-for"] == "127.0.0.1"
    assert seen.headers["x-forwarded-host"] == f"127.0.0.1:{gateway.port}"
    assert seen.headers["via"] == "1.1 nexus"
    assert 0 < int(seen.headers["x-nexus-timeout-ms"]) <= 15_000
    assert "authorization" not in seen.headers
    assert seen.headers["host"] == f"127.0.0.1:{upstream.port}"


async def test_the_answer_comes_back_as_it_was_given(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream)
    upstream.script = [upstream.status(404, "no such", X_Inner="1", X_Nexus_Secret="2")]
    said = await gateway.get("/shop/x")
    assert (said.status, said.body) == (404, b"no such")
    assert said.headers["X-Inner"] == "1"
    assert "X-Nexus-Secret" not in said.headers
    assert "Server" not in said.headers
    upstream.script = [upstream.status(302, "", Location="https://elsewhere.test/")]
    said = await gateway.get("/shop/x")
    assert (said.status, said.headers["Location"]) == (302, "https://elsewhere.test/")


async def test_paths_and_fields_are_changed(gateway: SmallGateway, upstream: FaultUpstream) -> None:
    single(
        gateway,
        upstream,
        path="/shop/{id}/x",
        request={"path": "/v2/items/{id}", "headers": {"set": {"x-set": "1"}}},
        response={"headers": {"remove": ["x-inner"]}, "json": {"keep": ["/path"]}},
    )
    said = await gateway.get("/shop/a%20b/x?q=1")
    assert said.json == {"path": "/v2/items/a%20b?q=1"}
    assert upstream.seen[0].headers["x-set"] == "1"


async def test_an_answer_too_long_to_be_changed_does_not_pass_unchanged(
    made: Made, upstream: FaultUpstream
) -> None:
    gateway = await made(settings=GatewaySettings(changed_bytes_max=2_000))
    single(gateway, upstream, response={"json": {"remove": ["/secret"]}})
    upstream.always = upstream.json({"secret": "x", "long": "y" * 5_000})
    said = await gateway.get("/shop/x")
    assert (said.status, said.json["code"]) == (502, "gateway.answer_too_long")
    assert b"secret" not in said.body


async def test_a_read_is_repeated_on_another_server(
    gateway: SmallGateway, upstream: FaultUpstream, second: FaultUpstream
) -> None:
    single(gateway, [upstream, second])
    upstream.always = upstream.cut
    said = [await gateway.get("/shop/x") for _ in range(8)]
    assert [one.status for one in said] == [200] * 8
    assert {one.json["by"] for one in said} == {"second"}


@pytest.mark.parametrize(
    ("method", "headers", "times"),
    [
        ("GET", {}, 2),
        ("PUT", {}, 2),
        ("DELETE", {}, 2),
        ("POST", {}, 1),
        ("PATCH", {}, 1),
        ("POST", {"Idempotency-Key": "k"}, 2),
    ],
)
async def test_only_what_may_be_repeated_is(
    gateway: SmallGateway,
    upstream: FaultUpstream,
    method: str,
    headers: dict[str, str],
    times: int,
) -> None:
    single(gateway, upstream, methods=["GET", "PUT", "DELETE", "POST", "PATCH"])
    upstream.always = upstream.cut
    said = await gateway.ask(method, "/shop/x", data=b"body", headers=headers)
    assert said.status == 502
    assert said.headers["Proxy-Status"] == "nexus; error=connection_terminated"
    assert len(upstream.seen) == times
    assert all(seen.body == b"body" for seen in upstream.seen)


async def test_a_status_that_says_try_again_is_tried_again(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream)
    upstream.script = [upstream.status(503)]
    assert (await gateway.get("/shop/x")).json["count"] == 2
    upstream.script = [upstream.status(500, "broken")]
    said = await gateway.get("/shop/x")
    assert (said.status, said.body) == (500, b"broken")


async def test_a_budget_bounds_retries(gateway: SmallGateway, upstream: FaultUpstream) -> None:
    about = {"breaker": None, "outlier": None, "retry": {"budget_percent": 10, "pause_ms": 0}}
    single(gateway, upstream, about=about)
    upstream.always = upstream.status(503)
    for _ in range(100):
        assert (await gateway.get("/shop/x")).status == 503
    assert 110 <= len(upstream.seen) <= 116, "a tenth more, and the few to begin with"


async def test_a_long_body_streams_and_is_sent_once(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream, methods=["PUT"])
    said = await gateway.ask("PUT", "/shop/x", data=b"z" * 900_000)
    assert said.status == 200
    assert len(upstream.seen[0].body) == 900_000
    assert upstream.seen[0].headers["content-length"] == "900000"

    async def pieces() -> Any:
        for _ in range(10):
            yield b"z" * 10_000

    said = await gateway.ask("PUT", "/shop/x", data=pieces())
    assert len(upstream.seen[1].body) == 100_000
    upstream.always = upstream.cut
    said = await gateway.ask("PUT", "/shop/x", data=b"z" * 900_000)
    assert said.status == 502
    assert len(upstream.seen) == 3


async def test_a_body_that_grows_too_long_ends_and_is_not_the_upstreams_fault(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream, methods=["PUT"], body_bytes_max=50_000)

    async def pieces() -> Any:
        for _ in range(20):
            yield b"z" * 10_000

    said = await gateway.ask("PUT", "/shop/x", data=pieces())
    assert said.status == 413
    assert gateway.gateway.upstreams.all()[0].balancer.servers[0].failures == 0


async def test_a_client_that_is_slow_is_not_the_upstreams_fault(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream, methods=["PUT"], timeout_ms=200)
    go_on = asyncio.Event()

    async def pieces() -> Any:
        yield b"z" * 70_000
        await go_on.wait()

    said = await gateway.ask("PUT", "/shop/x", data=pieces())
    go_on.set()
    assert (said.status, said.json["code"]) == (408, "http.body_too_slow")
    assert gateway.gateway.upstreams.all()[0].balancer.servers[0].failures == 0


async def test_a_server_that_is_not_there(gateway: SmallGateway) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    nobody = FaultUpstream()
    nobody.port = port
    single(gateway, nobody)
    said = await gateway.get("/shop/x")
    assert (said.status, said.json["code"]) == (502, "gateway.connection_refused")
    assert said.headers["Proxy-Status"] == "nexus; error=connection_refused"


async def test_a_server_that_says_nothing_in_time(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream, timeout_ms=100)
    upstream.always = upstream.hang
    said = await gateway.get("/shop/x")
    assert (said.status, said.json["code"]) == (504, "gateway.http_response_timeout")
    assert said.headers["Proxy-Status"] == "nexus; error=http_response_timeout"


async def test_an_answer_that_breaks_off_is_seen_to(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream)
    upstream.always = upstream.half
    with pytest.raises(aiohttp.ClientError):
        await gateway.get("/shop/x")


async def test_an_answer_that_stands_still_is_given_up(made: Made, upstream: FaultUpstream) -> None:
    gateway = await made(settings=GatewaySettings(stream_idle_seconds=0.2))
    single(gateway, upstream)
    upstream.always = upstream.events
    with pytest.raises(aiohttp.ClientError):
        await gateway.get("/shop/x")
    assert not upstream.release.is_set()


async def test_a_breaker_opens_and_closes_again(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    about = {
        "breaker": {"requests_min": 5, "open_seconds": 1, "probes": 1},
        "retry": None,
        "outlier": None,
    }
    single(gateway, upstream, about=about)
    upstream.always = upstream.status(500)
    for _ in range(5):
        assert (await gateway.get("/shop/x")).status == 500
    said = await gateway.get("/shop/x")
    assert (said.status, said.json["code"]) == (503, "gateway.breaker_open")
    assert int(said.headers["Retry-After"]) >= 1
    assert said.headers["Proxy-Status"].startswith("nexus; error=destination_unavailable")
    assert len(upstream.seen) == 5, "it is left alone"
    upstream.always = None
    known = gateway.gateway.upstreams.all()[0]
    assert known.breaker is not None
    await eventually(lambda: known.breaker.wait_seconds(asyncio.get_running_loop().time()) == 0)
    assert (await gateway.get("/shop/x")).status == 200
    assert (await gateway.get("/shop/x")).status == 200


async def test_a_fallback_is_given_when_nobody_can_be_asked(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream, fallback={"status": 200, "body": '{"items": []}'})
    upstream.always = upstream.cut
    said = await gateway.get("/shop/x")
    assert (said.status, said.json) == (200, {"items": []})
    assert said.headers["Proxy-Status"] == "nexus; error=connection_terminated"


async def test_a_hedge_answers_while_the_first_server_hangs(
    gateway: SmallGateway, upstream: FaultUpstream, second: FaultUpstream
) -> None:
    single(gateway, [upstream, second], about={"hedge_ms": 30, "retry": {"budget_percent": 100}})
    upstream.always = upstream.hang
    async with asyncio.timeout(10):
        # Which server is asked first is chance.
        while not upstream.seen:
            said = await gateway.get("/shop/x")
            assert (said.status, said.json["by"]) == (200, "second")
    servers = gateway.gateway.upstreams.all()[0].balancer.servers
    await eventually(lambda: all(server.under_way == 0 for server in servers))
    assert gateway.gateway.config.upstreams[0].hedge_ms == 30


class _Head:
    """The head of an answer that nobody has read."""

    status = 200
    closed = False

    def close(self) -> None:
        self.closed = True


async def test_of_two_answers_that_come_at_once_one_is_closed() -> None:
    go, heads = asyncio.Event(), (_Head(), _Head())
    started: list[Any] = []

    class Both(Proxy):
        async def _one(self, *_asked: Any) -> Any:
            started.append(heads[len(started)])
            response = started[-1]
            await go.wait()
            return _Outcome(None, response=response)

    targets = (Target(url="http://a.test"), Target(url="http://b.test"))
    rule = Upstream(name="up", targets=targets, hedge_ms=1)
    async with SupervisedGroup("hedges") as tasks:
        nothing: Any = None
        clock = asyncio.get_running_loop().time
        proxy = Both(nothing, tasks=tasks, clock=clock, idle_seconds=1)
        asked = tasks.start("asked", proxy._hedged(Known.of(rule), nothing, []))
        await eventually(lambda: len(started) == 2)
        go.set()
        given = (await asked).response
        await eventually(lambda: any(head.closed for head in heads))
        assert [one.closed for one in started if one is given] == [False]
        assert [one.closed for one in started if one is not given] == [True]


async def test_a_write_is_never_hedged(
    gateway: SmallGateway, upstream: FaultUpstream, second: FaultUpstream
) -> None:
    about = {"hedge_ms": 5, "retry": {"budget_percent": 100}}
    single(gateway, [upstream, second], about=about, methods=["POST"], timeout_ms=200)
    upstream.always = second.always = upstream.hang
    said = await gateway.ask("POST", "/shop/x", data=b"1", headers={"Idempotency-Key": "k"})
    assert said.status == 504
    assert len(upstream.seen) + len(second.seen) <= 2


async def test_a_split_sends_its_part_to_each(
    gateway: SmallGateway, upstream: FaultUpstream, second: FaultUpstream
) -> None:
    gateway.configure(
        upstreams=[to(upstream), {**to(second), "name": "canary"}],
        routes=[
            route(
                access="signed_in",
                sticky=True,
                to=[{"upstream": "up", "weight": 80}, {"upstream": "canary", "weight": 20}],
            )
        ],
    )
    first: dict[str, str] = {}
    for _ in range(2):
        for number in range(60):
            headers = gateway.bearer(subject=f"user{number}")
            by = (await gateway.get("/shop/x", headers=headers)).json["by"]
            assert first.setdefault(f"user{number}", by) == by, "it is sticky"
    canary = sum(by == "second" for by in first.values())
    assert 3 <= canary <= 25


async def test_a_client_that_goes_away_ends_the_upstreams_request(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream)
    upstream.always = upstream.hang
    with pytest.raises(TimeoutError):
        await gateway.get("/shop/x", timeout=aiohttp.ClientTimeout(total=0.2))
    (server,) = gateway.gateway.upstreams.all()[0].balancer.servers
    await eventually(lambda: server.under_way == 0)
    assert server.failures == 0, "that says nothing of the server"


async def test_events_pass_as_they_come(gateway: SmallGateway, upstream: FaultUpstream) -> None:
    single(gateway, upstream)
    upstream.always = upstream.events
    headers = {"Accept-Encoding": "gzip"}
    async with gateway.client.get("/shop/events", headers=headers) as reply:
        assert reply.headers["Content-Type"] == "text/event-stream"
        assert "Content-Encoding" not in reply.headers
        assert await reply.content.readuntil(b"\n\n") == b"data: one\n\n"
        upstream.release.set()
        assert await reply.content.read() == b"data: two\n\n"


async def test_a_stream_is_compressed_as_it_comes(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream)
    upstream.always = upstream.json({"long": "y" * 100_000})
    async with aiohttp.ClientSession() as client:
        headers = {"Accept-Encoding": "gzip"}
        async with client.get(f"http://127.0.0.1:{gateway.port}/shop/x", headers=headers) as reply:
            assert reply.headers["Content-Encoding"] == "gzip"
            assert (await reply.json())["long"] == "y" * 100_000


async def test_a_request_that_goes_round_in_circles_ends(gateway: SmallGateway) -> None:
    ourselves = FaultUpstream()
    ourselves.port = gateway.port
    single(gateway, ourselves, about={"retry": None})
    said = await gateway.get("/shop/x")
    assert said.status == 502
    assert "proxy_loop_detected" in said.body.decode() + str(said.headers)


async def test_all_whom_it_has_come_through_are_told(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream)
    headers = [("Via", "1.1 one"), ("Via", "1.1 two")]
    async with gateway.client.get("/shop/x", headers=headers) as reply:
        assert reply.status == 200
    assert upstream.seen[0].headers["via"] == "1.1 one, 1.1 two, 1.1 nexus"


async def test_a_new_configuration_keeps_what_was_learnt_of_an_upstream(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream)
    await gateway.get("/shop/x")
    before = gateway.gateway.upstreams.get("up")
    single(gateway, upstream, path="/other/{rest...}")
    assert gateway.gateway.upstreams.get("up") is before
    single(gateway, upstream, about={"hedge_ms": 9})
    assert gateway.gateway.upstreams.get("up") is not before


async def test_a_configured_route_takes_an_operations_place(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    single(gateway, upstream, path="/v1/stall/items/{id}")
    assert (await gateway.get("/v1/stall/items/7")).json["by"] == "up"
    assert (await gateway.get("/v1/stall/open")).json["operation"] == "stall.opening"

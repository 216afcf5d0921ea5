"""What the gateway does before and after a service answers, over HTTP."""

import asyncio
import hashlib
import zlib

import pytest
from aiohttp import web

from edge.gateway.identity import Principal
from edge.gateway.settings import GatewaySettings
from edge.problems import Refusal
from ops import metrics
from ops.errors import Unavailable
from services._kit.errors import Invalid, NotFound, Problem
from services._kit.operation import operations
from services._kit.service import Route, Service
from services._kit.wire import WireRequest, WireResponse
from tests.edge.conftest import eventually
from tests.edge.gateway.conftest import Made
from tests.fakes.fault_upstream import FaultUpstream
from tests.fakes.small_gateway import SmallGateway, route, to

ITEM = "/v1/stall/items/7"


async def test_a_service_is_served_without_any_configuration(gateway: SmallGateway) -> None:
    said = await gateway.get(f"{ITEM}?a=b", headers=gateway.bearer("stall.item.read"))
    assert said.status == 200
    assert said.json["path"] == {"id": "7"}
    assert (said.json["tenant"], said.json["who"], said.json["query"]) == ("acme", "ada", "a=b")
    assert said.headers["Cache-Control"] == "private, no-cache"
    assert said.headers["X-Content-Type-Options"] == "nosniff"
    assert said.headers["RateLimit-Policy"] == '"default";q=2000;w=2'
    assert said.headers["RateLimit"].startswith('"default";r=1999;t=')


@pytest.mark.parametrize(
    ("asked", "permissions", "refused"),
    [
        (("GET", ITEM), None, (401, "auth.missing")),
        (("GET", ITEM), ("stall.item.write",), (403, "auth.forbidden")),
        (("GET", "/v1/stall/hello"), None, (401, "auth.missing")),
        (("GET", "/v1/stall/nothing"), ("*",), (404, "http.not_found")),
        (("GET", "/v1/elsewhere"), None, (404, "http.not_found")),
        (("GET", "/nowhere"), None, (404, "http.not_found")),
        (("DELETE", ITEM), ("*",), (405, "http.method_not_allowed")),
        (("PURGE", ITEM), ("*",), (405, "http.method_not_allowed")),
    ],
)
async def test_what_is_refused(
    gateway: SmallGateway,
    asked: tuple[str, str],
    permissions: tuple[str, ...] | None,
    refused: tuple[int, str],
) -> None:
    headers = gateway.bearer(*permissions) if permissions else {}
    said = await gateway.ask(*asked, headers=headers)
    status, _ = refused
    assert (said.status, said.json["code"]) == refused
    assert said.headers["Content-Type"] == "application/problem+json"
    assert ("WWW-Authenticate" in said.headers) == (status == 401)
    if status == 405:
        assert said.headers["Allow"] == "GET, HEAD, OPTIONS"
    assert not gateway.stall.calls


async def submit(request: WireRequest) -> WireResponse:
    """Takes a form."""
    return WireResponse(body=request.body)


async def test_a_foreign_protocol_sees_no_word_of_who_forwards(made: Made) -> None:
    form = Route("POST", "/submit", submit, access="public", wire="form")
    forms = Service("forms", "Takes forms.", (form,), package="tests.fakes.stall")
    gateway = await made(operations=operations([forms]))
    headers = {
        "Forwarded": "for=6.6.6.6",
        "Via": "1.1 made-up",
        "X-Real-IP": "6.6.6.6",
        "X-Forwarded-For": "6.6.6.6",
        "X-Nexus-Tenant": "other",
        "X-Kept": "1",
    }
    said = await gateway.ask("POST", "/v1/forms/submit", headers=headers, data=b"{}")
    assert said.status == 200, said
    ((_, request),) = gateway.stall.calls
    named = dict(request.wire.headers)
    assert named["x-kept"] == "1"
    lower = {name.lower() for name in headers} - {"x-kept"}
    assert not lower & named.keys()


async def test_who_is_signed_in_or_anybody(gateway: SmallGateway) -> None:
    assert (await gateway.get("/v1/stall/open")).status == 200
    assert (await gateway.get("/v1/stall/hello", headers=gateway.bearer("x.y.z"))).status == 200


async def test_a_broken_credential_is_refused_even_where_none_is_needed(
    gateway: SmallGateway,
) -> None:
    for headers in (
        {"Authorization": "Bearer a.b.c"},
        {"Authorization": "Basic YTpi"},
        {"X-Api-Key": "unknown"},
        {**gateway.bearer(), "X-Api-Key": "unknown"},
    ):
        said = await gateway.get("/v1/stall/open", headers=headers)
        assert said.status == 401
        assert 'error="invalid_token"' in said.headers["WWW-Authenticate"]
    assert not gateway.stall.calls


async def test_an_expired_token_is_refused_though_it_was_known(gateway: SmallGateway) -> None:
    headers = gateway.bearer()
    assert (await gateway.get(ITEM, headers=headers)).status == 200
    gateway.clock.advance(3_700)
    said = await gateway.get(ITEM, headers=headers)
    assert (said.status, said.json["code"]) == (401, "auth.expired")


async def test_api_keys_are_of_the_configuration(gateway: SmallGateway) -> None:
    key = {"X-Api-Key": "nxk_till"}
    assert (await gateway.get(ITEM, headers=key)).status == 401
    consumer = {
        "name": "till",
        "tenant": "acme",
        "key_sha256": hashlib.sha256(b"nxk_till").hexdigest(),
        "permissions": ["stall.item.read"],
    }
    gateway.configure(consumers=[consumer])
    said = await gateway.get(ITEM, headers=key)
    assert (said.status, said.json["who"]) == (200, "key:till")
    gateway.configure(consumers=[{**consumer, "disabled": True}])
    assert (await gateway.get(ITEM, headers=key)).status == 401


async def test_the_request_arrives_whole(gateway: SmallGateway) -> None:
    headers = {**gateway.bearer(), "Idempotency-Key": '"k1"', "If-Match": 'W/"3"'}
    said = await gateway.ask("POST", "/v1/stall/items", json={"name": "tea"}, headers=headers)
    assert said.status == 201
    ((name, request),) = gateway.stall.calls
    assert name == "stall.add"
    assert (request.content_type, request.idempotency_key) == ("application/json", '"k1"')
    assert request.if_match == '"3"', "we weakened it ourselves, when we compressed"
    assert request.actor.address == "127.0.0.1"


async def test_the_path_is_decoded_and_the_query_is_not(gateway: SmallGateway) -> None:
    said = await gateway.get("/v1/stall/items/a%20%C3%A9?q=%2F", headers=gateway.bearer())
    assert said.status == 200
    assert said.json["path"] == {"id": "a é"}
    assert said.json["query"] in {"q=%2F", "q=/"}


async def test_head_has_the_fields_of_get_and_no_body(gateway: SmallGateway) -> None:
    said = await gateway.ask("HEAD", ITEM, headers=gateway.bearer())
    assert (said.status, said.body) == (200, b"")
    assert int(said.headers["Content-Length"]) > 10
    said = await gateway.ask("OPTIONS", ITEM)
    assert (said.status, said.headers["Allow"]) == (204, "GET, HEAD, OPTIONS")


@pytest.mark.parametrize(
    ("fails", "status", "code"),
    [
        (NotFound("item"), 404, "not_found"),
        (Unavailable("away", retry_after_seconds=2), 503, "unavailable"),
        (
            Invalid("no", problems=[Problem(pointer="/name", code="x", message="Wrong.")]),
            422,
            "request.invalid",
        ),
    ],
)
async def test_a_services_refusal_is_a_problem_with_the_limits_fields(
    gateway: SmallGateway, fails: Exception, status: int, code: str
) -> None:
    gateway.stall.fails = fails
    said = await gateway.get(ITEM, headers=gateway.bearer())
    assert (said.status, said.json["code"]) == (status, code)
    assert "RateLimit" in said.headers
    assert ("Retry-After" in said.headers) == (status == 503)
    if status == 422:
        assert said.json["errors"][0]["pointer"] == "/name"


async def test_a_bug_of_a_service_is_a_500_that_says_nothing(gateway: SmallGateway) -> None:
    gateway.stall.fails = RuntimeError("secret")
    said = await gateway.get(ITEM, headers=gateway.bearer())
    assert said.status == 500
    assert b"secret" not in said.body


LIMIT = {"name": "few", "requests": 6, "seconds": 60}


async def test_a_limit_counts_cost_and_says_when_to_come_back(made: Made) -> None:
    gateway = await made(real_time=False)
    gateway.configure(limits=[LIMIT], overrides=[{"operations": "*", "limits": ["few"]}])
    headers = gateway.bearer()
    said = await gateway.ask("POST", "/v1/stall/items", json={"name": "x"}, headers=headers)
    assert said.headers["RateLimit-Policy"] == '"few";q=6;w=60'
    assert said.headers["RateLimit"] == '"few";r=1;t=50'
    said = await gateway.ask("POST", "/v1/stall/items", json={"name": "x"}, headers=headers)
    assert (said.status, said.json["code"]) == (429, "gateway.limited")
    assert (said.json["limit"], said.headers["Retry-After"]) == ("few", "40")
    assert said.headers["RateLimit"] == '"few";r=1;t=40'
    assert (await gateway.get(ITEM, headers=headers)).status == 200, "that costs one"
    assert (await gateway.get(ITEM, headers=headers)).status == 429
    other = gateway.bearer(subject="bob")
    assert (await gateway.get(ITEM, headers=other)).status == 200, "another user's bucket"
    gateway.clock.advance(10)
    assert (await gateway.get(ITEM, headers=headers)).status == 200


async def test_a_plan_adds_its_limits_and_what_one_refuses_costs_the_others_nothing(
    made: Made,
) -> None:
    gateway = await made(real_time=False)
    gateway.configure(
        limits=[{**LIMIT, "key": "tenant"}, {"name": "gold", "requests": 2, "seconds": 60}],
        plans=[{"name": "gold", "limits": ["gold"]}],
        overrides=[{"operations": "stall.*", "limits": ["few"]}],
    )
    gold = gateway.bearer(plan="gold")
    said = [await gateway.get(ITEM, headers=gold) for _ in range(5)]
    assert [one.status for one in said] == [200, 200, 429, 429, 429]
    assert said[0].headers["RateLimit"] == '"few";r=5;t=10, "gold";r=1;t=30'
    plain = gateway.bearer(subject="bob")
    said = [await gateway.get(ITEM, headers=plain) for _ in range(5)]
    assert [one.status for one in said] == [200] * 4 + [429]


async def test_overrides_apply_in_their_order(gateway: SmallGateway) -> None:
    gateway.configure(
        overrides=[
            {"operations": "*", "response": {"headers": {"set": {"x-a": "1"}}}},
            {"operations": "stall.*", "limits": []},
            {"operations": "stall.item", "response": {"headers": {"set": {"x-a": "2"}}}},
        ]
    )
    said = await gateway.get(ITEM, headers=gateway.bearer())
    assert said.headers["X-A"] == "2"
    assert "RateLimit" not in said.headers
    assert (await gateway.get("/v1/stall/open")).headers["X-A"] == "1"


async def test_bodies_are_bounded_whether_or_not_they_say_how_long_they_are(
    gateway: SmallGateway,
) -> None:
    async def pieces() -> object:
        for _ in range(20):
            yield b"x" * 100

    headers = {**gateway.bearer(), "Content-Type": "application/json"}
    for data in (b"x" * 1_001, pieces()):
        said = await gateway.ask("POST", "/v1/stall/items", data=data, headers=headers)
        assert (said.status, said.json["bytes_max"]) == (413, 1_000)
    assert not gateway.stall.calls


async def test_long_answers_are_compressed_and_short_ones_are_not(gateway: SmallGateway) -> None:
    headers = {**gateway.bearer(), "Accept-Encoding": "gzip"}
    assert "Content-Encoding" not in (await gateway.get(ITEM, headers=headers)).headers
    for size in (3_000, 200_000):
        gateway.stall.more = {"text": "ha" * size}
        said = await gateway.get(ITEM, headers=headers)
        assert said.headers["Content-Encoding"] == "gzip"
        assert said.headers["Vary"] == "Accept-Encoding"
        assert said.headers["ETag"] == 'W/"1"'
        assert b"haha" * (size // 2) in zlib.decompress(said.body, 31)
    plain = await gateway.get(ITEM, headers={**headers, "Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    assert plain.headers["Vary"] == "Accept-Encoding"


async def test_a_client_that_waits_only_so_long_is_answered_then(gateway: SmallGateway) -> None:
    gateway.configure(overrides=[{"operations": "stall.item", "timeout_ms": 30}])
    gateway.stall.hold = asyncio.Event()
    said = await gateway.get(ITEM, headers=gateway.bearer())
    assert (said.status, said.json["code"]) == (504, "timeout")


async def test_pages_of_other_sites_ask_only_where_it_is_configured(gateway: SmallGateway) -> None:
    shop = "https://shop.example"
    asks = {
        "Origin": shop,
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }
    before = await gateway.ask("OPTIONS", ITEM, headers=asks)
    assert "Access-Control-Allow-Origin" not in before.headers
    gateway.configure(
        cors=[{"name": "web", "origins": [shop]}],
        overrides=[{"operations": "*", "cors": "web"}],
    )
    after = await gateway.ask("OPTIONS", ITEM, headers=asks)
    assert (after.status, after.headers["Access-Control-Allow-Origin"]) == (204, shop)
    assert "authorization" in after.headers["Access-Control-Allow-Headers"]
    said = await gateway.get(ITEM, headers={"Origin": shop})
    assert said.status == 401
    assert said.headers["Access-Control-Allow-Origin"] == shop, "so that the page can read it"
    said = await gateway.get(ITEM, headers={"Origin": "https://evil.test"})
    assert "Access-Control-Allow-Origin" not in said.headers


async def test_pages_may_ask_for_a_version_too(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    shop = "https://shop.example"
    names = ["authorization", "api-version"]
    gateway.configure(
        cors=[{"name": "web", "origins": [shop], "headers": names}],
        upstreams=[to(upstream)],
        routes=[route(version="2", cors="web")],
    )
    asks = {"Origin": shop, "Access-Control-Request-Method": "GET"}
    said = await gateway.ask("OPTIONS", "/shop/x", headers=asks)
    assert said.status == 404, "nothing without a version"
    asks["Access-Control-Request-Headers"] = "api-version"
    said = await gateway.ask("OPTIONS", "/shop/x", headers=asks)
    assert (said.status, said.headers["Access-Control-Allow-Origin"]) == (204, shop)


async def test_an_upstreams_own_word_on_origins_is_replaced_by_the_routes(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    shop = "https://shop.example"
    gateway.configure(
        cors=[{"name": "web", "origins": [shop]}],
        upstreams=[to(upstream)],
        routes=[route(cors="web")],
    )
    upstream.always = upstream.json({}, Access_Control_Allow_Origin="*")
    said = await gateway.get("/shop/x", headers={"Origin": shop})
    assert said.headers.getall("Access-Control-Allow-Origin") == [shop]
    said = await gateway.get("/shop/x", headers={"Origin": "https://evil.test"})
    assert "Access-Control-Allow-Origin" not in said.headers


async def test_json_of_requests_and_answers_is_changed(gateway: SmallGateway) -> None:
    gateway.configure(
        overrides=[
            {
                "operations": "stall.add",
                "request": {"json": {"rename": {"/title": "/name"}, "set": {"/via": "gw"}}},
                "response": {"json": {"keep": ["/body", "/who"]}},
            }
        ]
    )
    said = await gateway.ask(
        "POST", "/v1/stall/items", json={"title": "tea"}, headers=gateway.bearer()
    )
    assert said.json == {"body": {"name": "tea", "via": "gw"}, "who": "ada"}
    assert "ETag" not in said.headers, "it is another body"


async def test_a_configuration_that_changes_drops_no_request(gateway: SmallGateway) -> None:
    gateway.stall.hold = asyncio.Event()
    headers = gateway.bearer()
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(gateway.get(ITEM, headers=headers)) for _ in range(20)]
        await eventually(lambda: len(gateway.stall.calls) == 20)
        for number in range(10):
            gateway.configure(limits=[{"name": f"l{number}", "requests": 1}])
        gateway.stall.hold.set()
    assert [one.result().status for one in asked] == [200] * 20


async def test_unknown_tokens_cost_the_address_not_the_key(made: Made) -> None:
    gateway = await made(settings=GatewaySettings(principals_max=16))
    tokens = [gateway.bearer(subject=f"u{n}") for n in range(40)]
    said = [await gateway.get(ITEM, headers=one) for one in (*tokens, *tokens)]
    assert {one.status for one in said} == {200}, "good ones are never refused"


async def test_the_metrics_tell_of_it(gateway: SmallGateway) -> None:
    await gateway.get(ITEM, headers=gateway.bearer())
    text = metrics.render().decode()
    assert 'nexus_gateway_requests_total{route="stall.item",status="200"}' in text


async def test_a_tenant_of_another_region_is_answered_from_there(made: Made) -> None:
    asked: list[tuple[str, str]] = []

    async def elsewhere(request: web.Request, *, tenant: str) -> web.StreamResponse | None:
        asked.append((request.path, tenant))
        if tenant != "far":
            return None
        response = web.Response(text="from afar")
        await response.prepare(request)
        await response.write_eof()
        return response

    gateway = await made(elsewhere=elsewhere)
    here, far = gateway.bearer(), gateway.bearer(tenant="far")
    assert (await gateway.get(ITEM, headers=here)).json["tenant"] == "acme"
    assert (await gateway.get(ITEM, headers=far)).body == b"from afar"
    calls = {"calls": [{"id": "a", "path": ITEM}]}
    said = await gateway.ask("POST", "/v1/backend-api/compose", json=calls, headers=far)
    assert said.body == b"from afar"
    assert (await gateway.get("/v1/stall/open")).status == 200
    assert len(gateway.stall.calls) == 2
    assert [tenant for _, tenant in asked] == ["acme", "far", "far"]


async def test_graphql_is_charged_by_its_cost(gateway: SmallGateway) -> None:
    gateway.configure(
        limits=[{"name": "few", "requests": 10, "seconds": 3_600}],
        overrides=[{"operations": "backend-api.graphql", "limits": ["few"]}],
    )
    ada = Principal("ada", "acme")
    await gateway.gateway.charge(ada, "", 7)
    with pytest.raises(Refusal) as caught:
        await gateway.gateway.charge(ada, "", 7)
    assert caught.value.status == 429
    said = dict(await gateway.gateway.charge(ada, "", 2))
    assert said["ratelimit"].startswith('"few";r=1')
    await gateway.gateway.charge(Principal("bob", "acme"), "", 7)

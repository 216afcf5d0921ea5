"""Several calls in one request, each by all rules."""

import asyncio
from typing import Any

import pytest

from edge.gateway.settings import GatewaySettings
from services._kit.errors import NotFound
from tests.edge.conftest import eventually
from tests.edge.gateway.conftest import Made
from tests.fakes.fault_upstream import FaultUpstream
from tests.fakes.small_gateway import Said, SmallGateway, route, to

PATH = "/v1/backend-api/compose"


async def compose(gateway: SmallGateway, *calls: dict[str, Any], **headers: str) -> Said:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return await gateway.ask(
        "POST", PATH, json={"calls": calls}, headers={**gateway.bearer(), **named}
    )


async def test_calls_use_what_others_answered(gateway: SmallGateway) -> None:
    said = await compose(
        gateway,
        {"id": "tea", "path": "/v1/stall/items/tea"},
        {"id": "next", "path": "/v1/stall/items/{tea:/who}?q={tea:/count}"},
        {
            "id": "made",
            "method": "POST",
            "path": "/v1/stall/items",
            "body": {"name": {"$from": "next", "pointer": "/path/id"}},
        },
        idempotency_key="k1",
    )
    assert said.status == 200
    assert said.json["complete"] is True
    results = said.json["results"]
    assert list(results) == ["tea", "next", "made"]
    assert results["next"]["body"]["path"] == {"id": "ada"}
    assert results["next"]["body"]["query"] == "q=1"
    assert results["made"]["status"] == 201
    assert results["made"]["body"]["body"] == {"name": "ada"}
    assert results["made"]["body"]["key"] == '"k1.made"', "its own, so that it happens once"
    assert results["tea"]["etag"] == '"1"'


async def test_what_does_not_depend_runs_at_once(gateway: SmallGateway) -> None:
    gateway.stall.hold = asyncio.Event()
    calls = [{"id": f"c{n}", "path": f"/v1/stall/items/{n}"} for n in range(5)]
    asked = asyncio.ensure_future(compose(gateway, *calls))
    await eventually(lambda: len(gateway.stall.calls) == 5)
    gateway.stall.hold.set()
    assert (await asked).json["complete"] is True


async def test_a_failure_leaves_undone_what_refers_to_it_and_nothing_else(
    gateway: SmallGateway,
) -> None:
    said = await compose(
        gateway,
        {"id": "gone", "path": "/v1/stall/nothing"},
        {"id": "uses", "path": "/v1/stall/items/{gone:/id}"},
        {"id": "after", "path": "/v1/stall/items/7", "after": ["gone"]},
        {"id": "wrong", "path": "/v1/stall/items/{after:/none}"},
    )
    results = said.json["results"]
    assert said.json["complete"] is False
    assert {name: result["status"] for name, result in results.items()} == {
        "gone": 404,
        "uses": 424,
        "after": 200,
        "wrong": 424,
    }
    assert results["gone"]["body"]["code"] == "http.not_found"


async def test_every_call_is_checked_as_if_it_came_alone(gateway: SmallGateway) -> None:
    gateway.configure(
        limits=[{"name": "few", "requests": 2, "seconds": 3_600}],
        overrides=[{"operations": "*", "limits": ["few"]}],
    )
    calls = [{"id": f"c{n}", "path": "/v1/stall/items/7"} for n in range(3)]
    headers = gateway.bearer("stall.item.read")
    write = {"id": "w", "method": "POST", "path": "/v1/stall/items", "body": {"name": "x"}}
    said = await gateway.ask("POST", PATH, json={"calls": [write]}, headers=headers)
    assert said.json["results"]["w"]["status"] == 403
    said = await gateway.ask("POST", PATH, json={"calls": calls}, headers=headers)
    assert sorted(one["status"] for one in said.json["results"].values()) == [200, 200, 429]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"calls": [{"id": "a", "path": "/x", "body": ' + b"[" * 100_000, 400),
        (b"{}", 422),
        (b'{"calls": []}', 422),
        (b'{"calls": [{"id": "a", "path": "/x", "more": 1}]}', 422),
        (b'{"calls": [{"id": "a", "path": "x"}]}', 422),
        (b'{"calls": [{"id": "a", "path": "/x", "after": ["a"]}]}', 422),
        (b'{"calls": [{"id": "a", "path": "/x", "method": "TRACE"}]}', 422),
        (b" " * 300_000, 413),
    ],
)
async def test_what_cannot_be_composed(gateway: SmallGateway, body: bytes, status: int) -> None:
    headers = {**gateway.bearer(), "Content-Type": "application/json"}
    said = await gateway.ask("POST", PATH, data=body, headers=headers)
    assert said.status == status
    assert said.headers["Content-Type"] == "application/problem+json"
    assert not gateway.stall.calls


async def test_who_composes_is_signed_in_and_sends_json(gateway: SmallGateway) -> None:
    assert (await gateway.ask("POST", PATH, json={"calls": []})).status == 401
    headers = {**gateway.bearer(), "Content-Type": "text/plain"}
    assert (await gateway.ask("POST", PATH, data=b"{}", headers=headers)).status == 415


@pytest.mark.parametrize(
    "path",
    [
        PATH,
        "/v1/stall/../x",
        "/v1/stall/items/%2e%2e/x",
        "//v1/stall/items/7",
        "/v1/a%2fb",
        "/v1/%ff",
    ],
)
async def test_paths_that_are_no_calls(gateway: SmallGateway, path: str) -> None:
    said = await compose(gateway, {"id": "a", "path": path, "method": "POST"})
    assert 400 <= said.json["results"]["a"]["status"] < 500
    assert not gateway.stall.calls


@pytest.mark.parametrize("sign", ["\u00e9", "%", "%0", "<"])
async def test_a_call_is_what_a_request_line_can_say(
    gateway: SmallGateway, upstream: FaultUpstream, sign: str
) -> None:
    gateway.configure(upstreams=[to(upstream)], routes=[route()])
    said = await compose(gateway, {"id": "a", "path": f"/shop/x{sign}"})
    assert said.json["results"]["a"]["status"] == 400, said
    assert not upstream.seen


@pytest.mark.parametrize(
    "call",
    [
        {"path": "/v1/stall/items/7\n"},
        {"path": "/v1/stall/items/7\x01"},
        {"path": "/v1/stall/items/7\x7f"},
        {"path": "/v1/stall/items/7", "if_match": '"1"\n'},
    ],
)
async def test_a_call_is_one_line(gateway: SmallGateway, call: dict[str, str]) -> None:
    said = await compose(gateway, {"id": "a", **call})
    assert said.status == 422
    assert not gateway.stall.calls


async def test_an_answer_that_is_no_json_after_all(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    gateway.configure(upstreams=[to(upstream)], routes=[route()])
    for text in ('{"a": ', "[" * 100_000):
        upstream.script.append(upstream.status(200, text, content_type="application/json"))
    calls = [{"id": "one", "path": "/shop/1"}, {"id": "two", "path": "/shop/2"}]
    said = await compose(gateway, *calls, {"id": "good", "path": "/v1/stall/items/7"})
    assert said.status == 200, said
    found = {name: one["status"] for name, one in said.json["results"].items()}
    assert found == {"one": 502, "two": 502, "good": 200}


async def test_pages_of_other_sites_compose_only_where_it_is_configured(
    gateway: SmallGateway,
) -> None:
    shop = "https://shop.example"
    asks = {
        "Origin": shop,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    before = await gateway.ask("OPTIONS", PATH, headers=asks)
    assert "Access-Control-Allow-Origin" not in before.headers
    gateway.configure(
        cors=[{"name": "web", "origins": [shop]}],
        overrides=[{"operations": "backend-api.compose", "cors": "web"}],
    )
    after = await gateway.ask("OPTIONS", PATH, headers=asks)
    assert (after.status, after.headers["Access-Control-Allow-Origin"]) == (204, shop)
    for headers, status in ((gateway.bearer(), 422), ({}, 401)):
        named = {**headers, "Origin": shop}
        said = await gateway.ask("POST", PATH, json={"calls": []}, headers=named)
        assert said.status == status
        assert said.headers["Access-Control-Allow-Origin"] == shop, "a refusal can be read too"


async def test_compositions_are_bounded(made: Made, upstream: FaultUpstream) -> None:
    gateway = await made(
        settings=GatewaySettings(compose_calls_max=3, compose_bytes_max=4_000, compose_seconds=0.3)
    )
    gateway.configure(upstreams=[to(upstream)], routes=[route()])
    calls = [{"id": f"c{n}", "path": "/shop/x"} for n in range(4)]
    assert (await compose(gateway, *calls)).status == 422
    upstream.always = upstream.json({"long": "x" * 3_000})
    said = await compose(gateway, *calls[:2])
    assert sorted(one["status"] for one in said.json["results"].values()) == [200, 502]
    upstream.always = upstream.hang
    said = await compose(gateway, calls[0], {"id": "ok", "path": "/v1/stall/items/7"})
    results = said.json["results"]
    assert (results["c0"]["status"], results["ok"]["status"]) == (504, 200)


async def test_a_service_that_has_no_such_thing_says_so(gateway: SmallGateway) -> None:
    gateway.stall.fails = NotFound("item")
    said = await compose(gateway, {"id": "a", "path": "/v1/stall/items/7"})
    assert said.json["results"]["a"]["body"]["code"] == "not_found"

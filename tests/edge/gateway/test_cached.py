"""Answers from the cache over HTTP: one fetch for many, stale ones, errors, and never another's."""

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web
from multidict import CIMultiDict

from edge.gateway.exchange import Inbound
from tests.edge.conftest import eventually
from tests.edge.gateway.conftest import Made
from tests.fakes.fault_upstream import FaultUpstream
from tests.fakes.small_gateway import SmallGateway, route, to

PRICE = "/v1/stall/items/7:price"


def cached(gateway: SmallGateway, upstream: FaultUpstream, **members: Any) -> None:
    rule = {"seconds": 60, **members.pop("cache", {})}
    about = {"retry": None, "breaker": None}
    gateway.configure(
        upstreams=[to(upstream, **about)],
        routes=[route(cache=rule, methods=["GET", "POST"], **members)],
    )


async def test_an_operation_that_may_be_kept_is_asked_once_a_tenant_and_permission(
    gateway: SmallGateway,
) -> None:
    ada, bob = gateway.bearer("stall.item.read"), gateway.bearer("stall.*", subject="bob")
    first = await gateway.get(PRICE, headers=ada)
    again = await gateway.get(PRICE, headers=bob)
    assert again.json == first.json
    assert again.headers["Cache-Status"] == "nexus; hit"
    assert again.headers["Age"] == "0"
    assert len(gateway.stall.calls) == 1
    stranger = await gateway.get(PRICE, headers=gateway.bearer(tenant="other"))
    assert stranger.json["tenant"] == "other"
    refused = await gateway.get(PRICE, headers=gateway.bearer("stall.item.write"))
    assert refused.status == 403
    assert (await gateway.get(PRICE)).status == 401


async def told_who(request: web.Request) -> web.Response:
    """Depends on a field that the gateway writes, and says so."""
    said = {
        "who": request.headers["X-Nexus-Subject"],
        "proto": request.headers["X-Forwarded-Proto"],
    }
    varies = "X-Nexus-Subject" if request.path == "/shop/who" else "X-Forwarded-Proto"
    headers = {"Cache-Control": "public, max-age=60", "Vary": varies}
    return web.json_response(said, headers=headers)


async def test_an_answer_that_depends_on_who_asks_is_not_given_to_others(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    cached(gateway, upstream, access="signed_in")
    upstream.always = told_who
    for subject in ("ada", "bob", "ada"):
        said = await gateway.get("/shop/who", headers=gateway.bearer(subject=subject))
        assert said.json["who"] == subject
    for _ in range(2):
        await gateway.get("/shop/other", headers=gateway.bearer())
    assert len(upstream.seen) == 4, "and what does not is kept"


async def test_an_answer_for_http_is_not_given_by_https(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    cached(gateway, upstream, access="signed_in")
    upstream.always = told_who
    for scheme in ("http", "https", "https"):
        headers = CIMultiDict(gateway.bearer())
        inbound = Inbound("GET", "/shop/p", "/shop/p", "", headers, host="a.test", scheme=scheme)
        answer = await gateway.gateway.answer(inbound)
        assert json.loads(answer.body)["proto"] == scheme
    assert len(upstream.seen) == 2


async def test_an_answer_that_depends_on_a_renamed_field_is_not_kept(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    change = {"headers": {"rename": {"x-lang": "x-language"}}}
    cached(gateway, upstream, request=change)
    upstream.always = upstream.json({}, Cache_Control="max-age=60", Vary="X-Language")
    for lang in ("de", "fr"):
        await gateway.get("/shop/x", headers={"X-Lang": lang})
    assert [seen.headers["x-language"] for seen in upstream.seen] == ["de", "fr"]


async def test_a_known_tag_is_answered_304(gateway: SmallGateway) -> None:
    ada = gateway.bearer()
    first = await gateway.get(PRICE, headers=ada)
    for tag in (first.headers["ETag"], "W/" + first.headers["ETag"], '"0", "1"'):
        said = await gateway.get(PRICE, headers={**ada, "If-None-Match": tag})
        assert (said.status, said.body) == (304, b"")
        assert said.headers["ETag"] == '"1"'
    assert len(gateway.stall.calls) == 1


async def test_many_who_ask_at_once_are_one_request(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    cached(gateway, upstream)
    upstream.script = [upstream.hang]
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(gateway.get("/shop/x")) for _ in range(30)]
        await eventually(lambda: len(upstream.seen) == 1)
        upstream.release.set()
    assert {one.result().status for one in asked} == {200}
    assert len(upstream.seen) == 1


async def test_what_cannot_be_kept_is_not_waited_for_one_after_the_other(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    cached(gateway, upstream)
    upstream.always = upstream.json({}, Cache_Control="no-store")
    await gateway.get("/shop/x")
    upstream.always = upstream.hang
    async with asyncio.TaskGroup() as group:
        for _ in range(10):
            group.create_task(gateway.get("/shop/x"))
        await eventually(lambda: len(upstream.seen) == 11)
        upstream.release.set()


async def test_a_leader_that_goes_away_is_followed_by_another(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    cached(gateway, upstream)
    upstream.script = [upstream.hang]
    leader = asyncio.ensure_future(gateway.get("/shop/x"))
    await eventually(lambda: len(upstream.seen) == 1)
    follower = asyncio.ensure_future(gateway.get("/shop/x"))
    leader.cancel()
    assert (await follower).status == 200
    assert len(upstream.seen) == 2


async def test_stale_answers_are_given_while_one_new_one_is_fetched(
    made: Made, upstream: FaultUpstream
) -> None:
    gateway = await made(real_time=False)
    cached(gateway, upstream, cache={"stale_seconds": 30})
    first = await gateway.get("/shop/x")
    gateway.clock.advance(70)
    said = [await gateway.get("/shop/x") for _ in range(3)]
    assert said[0].json == first.json
    assert said[0].headers["Cache-Status"] == "nexus; hit; detail=stale"
    assert said[0].headers["Age"] == "70"
    await eventually(lambda: len(upstream.seen) == 2)

    await eventually(lambda: not gateway.gateway._answers._refreshing)
    assert (await gateway.get("/shop/x")).json["count"] == 2
    assert len(upstream.seen) == 2


async def test_an_expired_answer_is_asked_whether_it_still_holds(
    made: Made, upstream: FaultUpstream
) -> None:
    gateway = await made(real_time=False)
    cached(gateway, upstream)
    upstream.script = [
        upstream.json({"n": 1}, ETag='"a"'),
        upstream.status(304, "", ETag='"a"', X_New="1"),
    ]
    assert (await gateway.get("/shop/x")).json == {"n": 1}
    gateway.clock.advance(70)
    said = await gateway.get("/shop/x")
    assert (said.status, said.json) == (200, {"n": 1})
    assert said.headers["X-New"] == "1"
    assert upstream.seen[1].headers["if-none-match"] == '"a"'
    said = await gateway.get("/shop/x")
    assert said.headers["Cache-Status"] == "nexus; hit"
    assert len(upstream.seen) == 2


async def test_errors_are_covered_by_what_there_was(made: Made, upstream: FaultUpstream) -> None:
    gateway = await made(real_time=False)
    cached(gateway, upstream, cache={"stale_if_error_seconds": 100})
    first = await gateway.get("/shop/x")
    gateway.clock.advance(70)
    for always in (upstream.cut, upstream.status(500)):
        upstream.always = always
        said = await gateway.get("/shop/x")
        assert (said.status, said.json) == (200, first.json)
        assert said.headers["Cache-Status"] == "nexus; hit; detail=stale-if-error"
    gateway.clock.advance(100)
    assert (await gateway.get("/shop/x")).status == 500


async def test_a_write_drops_what_was_kept(gateway: SmallGateway, upstream: FaultUpstream) -> None:
    cached(gateway, upstream)
    assert (await gateway.get("/shop/x")).json["count"] == 1
    assert (await gateway.get("/shop/x")).json["count"] == 1
    await gateway.ask("POST", "/shop/x", data=b"1")
    assert (await gateway.get("/shop/x")).json["count"] == 3
    upstream.script = [upstream.status(400)]
    await gateway.ask("POST", "/shop/x", data=b"1")
    assert (await gateway.get("/shop/x")).json["count"] == 3


async def test_a_stream_of_events_is_passed_on_and_not_kept(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    cached(gateway, upstream)
    upstream.always = upstream.events
    async with asyncio.timeout(5), gateway.client.get("/shop/events") as reply:
        assert await reply.content.readuntil(b"\n\n") == b"data: one\n\n"
        upstream.release.set()
        assert await reply.content.read() == b"data: two\n\n"


@pytest.mark.parametrize("change", ["write", "purge"])
async def test_what_was_asked_for_before_a_change_is_not_kept_after(
    gateway: SmallGateway, upstream: FaultUpstream, change: str
) -> None:
    cached(gateway, upstream)
    upstream.script = [upstream.hang]
    asked = asyncio.ensure_future(gateway.get("/shop/x"))
    await eventually(lambda: len(upstream.seen) == 1)
    if change == "write":
        await gateway.ask("POST", "/shop/x", data=b"1")
    else:
        gateway.gateway.purge()
    upstream.release.set()
    assert (await asked).json["late"]
    said = await gateway.get("/shop/x")
    assert "late" not in said.json, "it tells of what was before"


async def test_what_a_client_says_of_caching_is_heard(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    cached(gateway, upstream)

    async def count(**headers: str) -> Any:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        said = await gateway.get("/shop/x", headers=named)
        return said.json["count"] if said.status == 200 else said.status

    assert await count(Cache_Control="only-if-cached") == 504
    assert [await count(), await count()] == [1, 1]
    assert await count(Cache_Control="no-cache") == 2
    assert await count() == 2
    assert await count(Cache_Control="no-store") == 3
    assert await count(Range="bytes=0-1") == 4
    assert await count(Cache_Control="only-if-cached") == 2


async def test_answers_for_one_user_are_not_anothers(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    cached(gateway, upstream, access="signed_in", cache={"share": "user"})

    async def count(subject: str) -> Any:
        return (await gateway.get("/shop/x", headers=gateway.bearer(subject=subject))).json["count"]

    assert [await count("ada"), await count("bob"), await count("ada")] == [1, 2, 1]


async def test_a_foreign_answer_is_shared_only_if_it_says_so(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    cached(gateway, upstream, access="signed_in")
    headers = gateway.bearer()
    counts = [(await gateway.get("/shop/x", headers=headers)).json["count"] for _ in range(2)]
    assert counts == [1, 2]
    upstream.always = upstream.json({"n": 1}, Cache_Control="public, max-age=60")
    for _ in range(3):
        await gateway.get("/shop/y", headers=headers)
    assert len(upstream.seen) == 3


async def test_variants_and_purges(gateway: SmallGateway, upstream: FaultUpstream) -> None:
    cached(gateway, upstream)
    upstream.always = upstream.json({}, Vary="Accept-Language", Surrogate_Key="items")
    for language in ("de", "en", "de", "en"):
        said = await gateway.get("/shop/x", headers={"Accept-Language": language})
        assert "Surrogate-Key" not in said.headers
    assert len(upstream.seen) == 2
    assert gateway.gateway.purge(key="others") == 0
    assert gateway.gateway.purge(key="items") == 2
    await gateway.get("/shop/x", headers={"Accept-Language": "de"})
    assert len(upstream.seen) == 3

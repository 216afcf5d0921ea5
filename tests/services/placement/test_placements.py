"""The API of placements: operators see and change all, a tenant sees its own."""

from collections.abc import AsyncIterator

import pytest

from ops.ids import IdMaker
from services._kit.actor import Forbidden
from services._kit.errors import NoMatch, NotFound, Stale
from services.platform.placement.service import SERVICE
from tests.fakes.calls import Calls, actor, served
from tests.fakes.postgres import Postgres

OPERATOR = actor("system")
BORN = IdMaker("us1").new("ten")


@pytest.fixture
async def calls(postgres: Postgres) -> AsyncIterator[Calls]:
    async with served(postgres, SERVICE) as serving:
        yield serving


async def place(calls: Calls, tenant: str, *, epoch: int = 0, **body: object) -> dict[str, object]:
    told: dict[str, object] = await calls.told(
        "place",
        OPERATOR,
        path={"tenant": tenant},
        body={"home": "eu1", **body},
        if_match=f'"{epoch}"',
    )
    return told


async def test_an_operator_places_a_tenant(calls: Calls) -> None:
    assert await place(calls, "acme", residency="sealed", regions=["eu1"]) == {
        "tenant": "acme",
        "home": "eu1",
        "state": "settled",
        "previous": "",
        "regions": ["eu1"],
        "residency": "sealed",
        "version": 1,
    }
    seen = await calls.call("placement", actor("acme"), path={"tenant": "acme"})
    assert seen.headers["ETag"] == '"1"'
    with pytest.raises(Stale):
        await place(calls, "acme")
    assert (await place(calls, "acme", epoch=1))["residency"] == "bound"


async def test_who_was_never_placed_lives_where_it_was_born(calls: Calls) -> None:
    seen = await calls.told("placement", actor(BORN), path={"tenant": BORN})
    assert (seen["home"], seen["version"]) == ("us1", 0)
    with pytest.raises(NotFound):
        await calls.call("placement", OPERATOR, path={"tenant": "nobody"})


async def test_lists_by_tenant(calls: Calls) -> None:
    for tenant in ("c", "a", "b"):
        await place(calls, tenant)
    first = await calls.told("placements", OPERATOR, query="limit=2")
    assert [one["tenant"] for one in first["data"]] == ["a", "b"]
    last = await calls.told("placements", OPERATOR, query=f"cursor={first['next_cursor']}")
    assert [one["tenant"] for one in last["data"]] == ["c"]
    own = await calls.told("placements", actor("b"))
    assert [one["tenant"] for one in own["data"]] == ["b"]
    assert (await calls.told("placements", actor("d")))["data"] == []


async def test_nobody_else_changes_anything(calls: Calls) -> None:
    await place(calls, "acme")
    change = {"path": {"tenant": "acme"}, "body": {"home": "eu1"}, "if_match": '"1"'}
    with pytest.raises(Forbidden):
        await calls.call("place", actor("acme"), **change)
    with pytest.raises(NotFound):
        await calls.call("place", actor("other"), **change)
    with pytest.raises(Forbidden):
        await calls.call("place", actor("system", "placement.placement.read"), **change)
    with pytest.raises(NoMatch):
        await calls.call("place", OPERATOR, **{**change, "if_match": ""})
    with pytest.raises(Forbidden):
        await calls.call("place", OPERATOR, **{**change, "path": {"tenant": "system"}})

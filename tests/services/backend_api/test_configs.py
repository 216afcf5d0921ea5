"""Versions of the configuration: kept, activated, rolled back, told to every worker."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from services._kit.actor import Forbidden
from services._kit.errors import Conflict, Invalid, NotFound, Stale
from services.platform.backend_api.api import CHANNEL
from services.platform.backend_api.service import SERVICE
from services.platform.backend_api.store import SCHEMA, read_active
from tests.fakes.calls import Calls, actor, served
from tests.fakes.postgres import Postgres

OPERATOR = actor("system")
FREE = {"limits": [{"name": "free", "requests": 10}]}
BUSY = {"limits": [{"name": "busy", "requests": 99}]}


@pytest.fixture
async def calls(postgres: Postgres) -> AsyncIterator[Calls]:
    async with served(postgres, SERVICE) as serving:
        yield serving


async def created(calls: Calls, config: dict[str, Any], who: Any = OPERATOR) -> Any:
    return await calls.told("create_config", who, body={"config": config, "note": "why"})


async def activated(calls: Calls, made: Any) -> Any:
    return await calls.told("activate", OPERATOR, path={"id": made["id"]})


async def active(calls: Calls) -> Any:
    async with calls.database.session(SCHEMA, tenant="system") as session:
        return await read_active(session)


async def test_a_draft_changes_nothing_until_it_is_activated(calls: Calls) -> None:
    made = await created(calls, FREE)
    assert (made["number"], made["state"], made["note"]) == (1, "draft", "why")
    assert await active(calls) is None
    with pytest.raises(NotFound):
        await calls.call("active_config", OPERATOR)
    now = await activated(calls, made)
    assert (now["state"], now["version"]) == ("active", 2)
    assert now["activated_at"]
    document = await calls.told("active_config", OPERATOR)
    assert document["config"]["limits"][0]["name"] == "free"
    found = await active(calls)
    assert found is not None
    assert found.config.limits[0].requests == 10


async def test_one_version_is_active_and_the_others_are_listed(calls: Calls) -> None:
    first, second = await created(calls, FREE), await created(calls, BUSY)
    await activated(calls, first)
    await activated(calls, second)
    listed = await calls.told("configs", OPERATOR)
    assert [(one["number"], one["state"]) for one in listed["data"]] == [
        (2, "active"),
        (1, "retired"),
    ]
    page = await calls.told("configs", OPERATOR, query="limit=1")
    rest = await calls.told("configs", OPERATOR, query=f"limit=1&cursor={page['next_cursor']}")
    assert [one["number"] for one in page["data"] + rest["data"]] == [2, 1]


async def test_rolling_back_goes_step_by_step(calls: Calls) -> None:
    made = [await created(calls, {"limits": [{"name": f"l{n}", "requests": 1}]}) for n in range(3)]
    for one in made:
        await activated(calls, one)
    for wanted in (1, 0):
        back = await calls.told("rollback", OPERATOR)
        assert back["id"] == made[wanted]["id"]
        found = await active(calls)
        assert found is not None
        assert found.id == made[wanted]["id"]
    with pytest.raises(Conflict) as caught:
        await calls.call("rollback", OPERATOR)
    assert caught.value.code == "backend_api.nothing_before"
    found = await active(calls)
    assert found is not None
    assert found.id == made[0]["id"]


async def test_a_bad_configuration_is_refused_with_a_pointer_to_each_fault(calls: Calls) -> None:
    bad = {"limits": [{"name": "x", "requests": 0}], "plans": [{"name": "P"}]}
    said = await calls.told("validate", OPERATOR, body={"config": bad})
    assert said["valid"] is False
    assert {fault["pointer"] for fault in said["errors"]} == {
        "/limits/0/requests",
        "/plans/0/name",
    }
    with pytest.raises(Invalid) as caught:
        await created(calls, bad)
    assert {problem.pointer for problem in caught.value.problems} == {
        "/config/limits/0/requests",
        "/config/plans/0/name",
    }
    assert (await calls.told("configs", OPERATOR))["data"] == []
    said = await calls.told("validate", OPERATOR, body={"config": FREE})
    assert said["valid"] is True
    assert (await created(calls, FREE))["checksum"] == said["checksum"]


async def test_a_change_that_somebody_else_made_first_is_seen(calls: Calls) -> None:
    made = await created(calls, FREE)
    await activated(calls, made)
    with pytest.raises(Stale):
        await calls.call("activate", OPERATOR, path={"id": made["id"]}, if_match='"1"')


async def test_another_tenant_drafts_and_activates_nothing(calls: Calls) -> None:
    stranger = actor("other")
    mine = await created(calls, FREE)
    theirs = await created(calls, FREE, stranger)
    assert theirs["number"] == 1
    with pytest.raises(NotFound):
        await calls.call("activate", stranger, path={"id": mine["id"]})
    for name, asked in (
        ("activate", {"path": {"id": theirs["id"]}}),
        ("rollback", {}),
        ("purge", {"body": {}}),
        ("flush", {}),
    ):
        with pytest.raises(Forbidden):
            await calls.call(name, stranger, **asked)
    assert await active(calls) is None


async def test_workers_are_told_when_it_is_so_and_not_before(
    calls: Calls, postgres: Postgres
) -> None:
    heard: asyncio.Queue[Any] = asyncio.Queue(100)
    listener = await asyncpg.connect(postgres.url)
    try:
        await listener.add_listener(CHANNEL, lambda *said: heard.put_nowait(json.loads(said[3])))
        with pytest.raises(NotFound):
            await calls.call("activate", OPERATOR, path={"id": "cfg_eu1_" + "0" * 26})
        made = await created(calls, FREE)
        await activated(calls, made)
        await calls.told("purge", OPERATOR, body={"key": "list", "tenant": "acme"})
        await calls.told("flush", OPERATOR)
        async with asyncio.timeout(10):
            said = [await heard.get() for _ in range(3)]
    finally:
        await listener.close()
    assert said == [
        {"kind": "config"},
        {"kind": "purge", "tenant": "acme", "key": "list"},
        {"kind": "flush"},
    ]


async def test_many_who_activate_at_once_leave_one_active(calls: Calls, postgres: Postgres) -> None:
    made = [await created(calls, FREE) for _ in range(6)]
    await asyncio.gather(*(activated(calls, one) for one in made))
    sql = "SELECT count(*) FROM backend_api.config_version WHERE state = 'active'"
    assert postgres.run(sql) == 1

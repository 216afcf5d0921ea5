"""Where a configuration comes from, and how another one takes effect under load."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from edge.gateway.settings import GatewaySettings
from ops.db_faults import DatabaseFault
from ops.settings import SettingsError
from services.platform.backend_api.service import SERVICE
from tests.edge.conftest import eventually
from tests.edge.gateway.conftest import Made
from tests.fakes.calls import Calls, actor, served
from tests.fakes.fault_upstream import FaultUpstream
from tests.fakes.postgres import Postgres
from tests.fakes.small_gateway import SmallGateway, route, to

OPERATOR = actor("system")


def limit(name: str) -> dict[str, Any]:
    return {
        "limits": [{"name": name, "requests": 1_000_000}],
        "overrides": [{"operations": "*", "limits": [name]}],
    }


def names(gateway: SmallGateway) -> list[str]:
    return [one.name for one in gateway.gateway.config.limits]


@pytest.fixture
async def calls(postgres: Postgres) -> AsyncIterator[Calls]:
    async with served(postgres, SERVICE) as serving:
        yield serving


async def activate(calls: Calls, config: dict[str, Any]) -> Any:
    made = await calls.told("create_config", OPERATOR, body={"config": config})
    return await calls.told("activate", OPERATOR, path={"id": made["id"]})


async def test_a_file_is_read_at_the_start_and_when_it_changes(made: Made, tmp_path: Path) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps(limit("one")))
    gateway = await made(settings=GatewaySettings(config_file=path, reload_seconds=0.1))
    assert names(gateway) == ["one"]
    path.write_text(json.dumps(limit("two")))
    await eventually(lambda: names(gateway) == ["two"])
    path.write_text("{")
    before = gateway.gateway.checksum
    text = json.dumps(limit("three"))
    await asyncio.sleep(0)
    assert gateway.gateway.checksum == before, "a bad one changes nothing"
    path.write_text(text)
    await eventually(lambda: names(gateway) == ["three"])


@pytest.mark.parametrize("text", ["{", '{"limits": [{"name": "X"}]}', None])
async def test_a_file_that_cannot_be_used_stops_the_start(
    made: Made, tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "gateway.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SettingsError, match=r"gateway\.config_file"):
        await made(settings=GatewaySettings(config_file=path))


async def test_what_is_activated_takes_effect_at_once_in_every_worker(
    made: Made, calls: Calls, postgres: Postgres
) -> None:
    slow = GatewaySettings(reload_seconds=3_600)
    workers = [
        await made(settings=slow, database=calls.database, database_url=postgres.url)
        for _ in range(3)
    ]
    await activate(calls, limit("one"))
    await eventually(lambda: [names(one) for one in workers] == [["one"]] * 3)
    await activate(calls, limit("two"))
    await eventually(lambda: [names(one) for one in workers] == [["two"]] * 3)
    await calls.told("rollback", OPERATOR)
    await eventually(lambda: [names(one) for one in workers] == [["one"]] * 3)


async def test_another_tenants_configuration_is_not_executed(
    made: Made, calls: Calls, postgres: Postgres
) -> None:
    stranger = actor("other")
    made_by_them = await calls.told("create_config", stranger, body={"config": limit("theirs")})
    postgres.run(
        "UPDATE backend_api.config_version SET state = 'active' WHERE id = $1", made_by_them["id"]
    )
    gateway = await made(
        settings=GatewaySettings(reload_seconds=0.1),
        database=calls.database,
        database_url=postgres.url,
    )
    await activate(calls, limit("ours"))
    await eventually(lambda: names(gateway) == ["ours"])


async def test_the_database_comes_before_the_file(
    made: Made, calls: Calls, postgres: Postgres, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.json"
    path.write_text(json.dumps(limit("file")))
    await activate(calls, limit("database"))
    gateway = await made(
        settings=GatewaySettings(config_file=path, reload_seconds=0.1),
        database=calls.database,
        database_url=postgres.url,
    )
    await eventually(lambda: names(gateway) == ["database"])


async def test_without_a_database_it_goes_on_with_what_it_has(
    made: Made, calls: Calls, postgres: Postgres
) -> None:
    gateway = await made(
        settings=GatewaySettings(reload_seconds=0.1),
        database=calls.database,
        database_url=postgres.url,
    )
    await activate(calls, limit("one"))
    await eventually(lambda: names(gateway) == ["one"])
    postgres.server.admin(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{postgres.name}'"
    )
    assert (await gateway.get("/v1/stall/open")).status == 200
    assert names(gateway) == ["one"]
    async with asyncio.timeout(10):
        while names(gateway) != ["two"]:
            # What still has the old connection is answered 503.
            with contextlib.suppress(DatabaseFault):
                await activate(calls, limit("two"))
            await asyncio.sleep(0.01)


async def test_purges_and_flushes_reach_every_worker(
    made: Made, calls: Calls, postgres: Postgres
) -> None:
    gateway = await made(
        settings=GatewaySettings(reload_seconds=3_600),
        database=calls.database,
        database_url=postgres.url,
    )
    await activate(calls, limit("one"))
    await eventually(lambda: names(gateway) == ["one"])
    headers = gateway.bearer()
    await gateway.get("/v1/stall/items/7:price", headers=headers)
    cache = gateway.gateway._answers.cache
    assert len(cache) == 1
    await calls.told("purge", OPERATOR, body={"tenant": "acme"})
    await eventually(lambda: len(cache) == 0)
    shown = headers["Authorization"]
    identities = gateway.gateway.identities
    assert identities.known(authorization=shown, api_key="") is not None
    await calls.told("flush", OPERATOR)
    await eventually(lambda: identities.known(authorization=shown, api_key="") is None)


async def test_reloads_under_load_drop_no_request(
    gateway: SmallGateway, upstream: FaultUpstream, second: FaultUpstream
) -> None:
    ended = asyncio.Event()
    statuses: list[int] = []
    by: set[str] = set()

    async def ask() -> None:
        while not ended.is_set():
            said = await gateway.get("/shop/x")
            statuses.append(said.status)
            by.add(said.json.get("by", ""))

    def take(number: int) -> None:
        leads_to = (upstream, second)[number % 2]
        gateway.configure(
            upstreams=[to(leads_to, name=f"u{number}")],
            routes=[route(to=[{"upstream": f"u{number}"}])],
        )

    take(0)
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(ask())
        for number in range(1, 60):
            take(number)
            seen = len(statuses)
            await eventually(lambda seen=seen: len(statuses) >= seen + 4)  # type: ignore[misc]
        ended.set()
    assert set(statuses) == {200}
    assert by == {"up", "second"}
    assert len(statuses) > 200

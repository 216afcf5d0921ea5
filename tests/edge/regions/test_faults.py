"""Regions that go and come back while tenants are written and moved: what was acknowledged is there
once, what was refused is nowhere."""

import asyncio
import os
import random

import aiohttp

from ops.ids import IdMaker
from tests.fakes.postgres import PostgresServer
from tests.fakes.regions import Region, World, until, world

ROUNDS = 80 if os.environ.get("NEXUS_PROVE") == "1" else 8
UNKNOWN = {502, 504}
"""Answers after which nobody can know whether it was written."""


class History:
    """Every write that was tried, and what came of it."""

    def __init__(self) -> None:
        self.acknowledged: list[tuple[str, str]] = []
        self.refused: list[tuple[str, str]] = []
        self.number = 0

    async def write(self, region: Region, tenant: str) -> None:
        self.number += 1
        title = f"w{self.number}"
        try:
            told = await region.add(title, tenant=tenant)
        except aiohttp.ClientConnectorError:
            self.refused.append((tenant, title))
            return
        except aiohttp.ClientError:
            return
        if told.status == 201:
            self.acknowledged.append((tenant, title))
        elif told.status not in UNKNOWN:
            assert told.status in {409, 421, 503}, told
            self.refused.append((tenant, title))


async def test_regions_that_come_and_go(postgres_server: PostgresServer) -> None:
    chance = random.Random(5)
    tenants = [IdMaker("eu1").new("ten"), IdMaker("us1").new("ten"), "acme", "umbrella"]
    history, over = History(), asyncio.Event()
    async with world(postgres_server) as made:

        async def writer(region: Region, number: int) -> None:
            while not over.is_set():
                await history.write(region, tenants[number % len(tenants)])
                number += 1
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as group:
            for number, region in enumerate((*made.regions.values(), *made.regions.values())):
                group.create_task(writer(region, number))
            for _ in range(ROUNDS):
                await _something_happens(made, chance, tenants)
                count = history.number
                await until(lambda count=count: history.number > count + 20)
            over.set()
        await until(lambda: _settled(made))
        kept = [
            (tenant, title)
            for tenant in tenants
            for region in made.regions.values()
            for title in region.kept(tenant)
        ]
        assert len(set(kept)) == len(kept), "written twice"
        assert not set(history.acknowledged) - set(kept), "acknowledged and lost"
        assert not set(history.refused) & set(kept), "refused and written"
        assert len(history.acknowledged) > ROUNDS
        for tenant in tenants:
            # In the end both doors lead to one home.
            await until(lambda tenant=tenant: _writes_everywhere(made, tenant))


async def _something_happens(made: World, chance: random.Random, tenants: list[str]) -> None:
    region = chance.choice(list(made.regions.values()))
    if chance.random() < 0.4:
        await region.stop()
        await asyncio.sleep(chance.random() * 0.2)
        await region.start()
        return
    tenant = chance.choice(tenants)
    path = f"/v1/placement/placements/{tenant}"
    known = await region.ask("GET", path, tenant="system")
    if known.status != 200:
        return
    home = "us1" if known.json["home"] == "eu1" else "eu1"
    told = await region.ask(
        "PUT",
        path,
        tenant="system",
        body={"home": home},
        if_match=known.headers["ETag"],
    )
    assert told.status in {200, 409, 412, 502, 503}, told


def _settled(made: World) -> bool:
    sql = "SELECT count(*) FROM placement.placement WHERE state <> 'settled'"
    return all(region.postgres.run(sql) == 0 for region in made.regions.values())


async def _writes_everywhere(made: World, tenant: str) -> bool:
    told = [
        await region.add(f"last {region.name}", tenant=tenant) for region in made.regions.values()
    ]
    # A title that is there already was written by an earlier try.
    return all(one.status == 201 or one.json["code"] == "db.duplicate" for one in told)

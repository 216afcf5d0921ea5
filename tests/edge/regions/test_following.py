"""A list is followed through the wrong region as through the right one."""

import asyncio

import aiohttp

from ops.ids import IdMaker
from tests.fakes.follower import Follower
from tests.fakes.regions import WAIT_SECONDS, World

EU_BORN = IdMaker("eu1").new("ten")


async def test_the_wrong_region_passes_changes_on_as_they_come(two: World) -> None:
    eu, us = two["eu1"], two["us1"]
    await us.add("before", tenant=EU_BORN)
    headers = {"Authorization": f"Bearer {us.token(EU_BORN)}", "Accept": "text/event-stream"}
    seen = Follower()
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{us.url}/v1/notes/notes", headers=headers) as answer,
        asyncio.timeout(WAIT_SECONDS),
    ):
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert answer.headers["Proxy-Status"] == "nexus-us1; next-hop=eu1"
        while not seen.events:
            seen.feed(await answer.content.readany())
        for number, region in enumerate((us, eu), start=2):
            await region.add(f"by {region.name}", tenant=EU_BORN)
            while len(seen.items) < number:
                seen.feed(await answer.content.readany())
    assert seen.kinds == ["page", "created", "created"]
    again = {"Last-Event-ID": seen.last_id, **headers}
    await eu.add("meanwhile", tenant=EU_BORN)
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{eu.url}/v1/notes/notes", headers=again) as answer,
        asyncio.timeout(WAIT_SECONDS),
    ):
        while len(seen.items) < 4:
            seen.feed(await answer.content.readany())
    assert (seen.kinds[-1], seen.doubled) == ("created", [])

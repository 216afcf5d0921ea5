"""A tenant whose name says nothing lives where it was claimed first: never in two regions."""

import asyncio
from dataclasses import replace
from typing import Any, cast

from edge.regions.directory import Directory
from edge.regions.homes import CLAIMS_MAX
from ops.ids import IdMaker
from ops.placement import Placement
from tests.fakes.postgres import PostgresServer
from tests.fakes.regions import SOON, World, until, world

US_BORN = IdMaker("us1").new("ten")
TENANTS = 12
WRITES = 4
"""First writes of each tenant at each door, all at once."""


async def test_the_first_write_claims(two: World) -> None:
    eu, us = two["eu1"], two["us1"]
    assert (await us.add("first", tenant="acme")).json["id"].startswith("note_us1_")
    assert (await eu.add("second", tenant="acme")).json["id"].startswith("note_us1_")
    assert (eu.kept("acme"), us.kept("acme")) == ([], ["first", "second"])
    assert eu.epoch("acme") == us.epoch("acme") == 1


async def test_a_read_claims_nothing(two: World) -> None:
    assert await two["us1"].titles("nobody") == await two["eu1"].titles("nobody") == []
    assert two["eu1"].epoch("nobody") == two["us1"].epoch("nobody") == 0
    assert (await two["eu1"].add("mine", tenant="nobody")).status == 201
    assert two["eu1"].kept("nobody") == ["mine"]


async def test_claims_that_are_given_up_leave_nothing_behind(two: World) -> None:
    homes = two["us1"].homes
    kept, homes.directory = homes.directory, cast("Directory", Slow(homes.directory))
    try:
        asked = [
            asyncio.ensure_future(homes.find(f"given-up-{number}", claim=True))
            for number in range(CLAIMS_MAX + 4)
        ]
        await until(lambda: len(homes._claiming) == len(asked))
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    finally:
        homes.directory = kept
    assert not homes._claiming


class Slow:
    """A directory that answers no claim."""

    def __init__(self, real: Directory) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    async def reserve(self, tenant: str) -> Placement:
        await asyncio.Event().wait()
        raise AssertionError(tenant)


async def test_a_race_has_one_winner(postgres_server: PostgresServer) -> None:
    async with world(postgres_server, names=("eu1", "us1", "ap1")) as made:
        regions = list(made.regions.values())

        async def write(number: int, tenant: str) -> int:
            told = await regions[number % len(regions)].add(f"n{number}", tenant=tenant)
            return told.status

        async with asyncio.TaskGroup() as group:
            asked = {
                tenant: [
                    group.create_task(write(number, tenant))
                    for number in range(WRITES * len(regions))
                ]
                for tenant in (f"racer-{number}" for number in range(TENANTS))
            }
        homes = set()
        for tenant, tasks in asked.items():
            kept = [region.kept(tenant) for region in regions]
            statuses = [task.result() for task in tasks]
            # Who lost the race, or waited too long, is told so, and nothing of it was written.
            assert set(statuses) <= {201, 503}, statuses
            assert sum(map(len, kept)) == statuses.count(201)
            for number in range(len(regions)):
                assert await write(100 + number, tenant) == 201
            winners = [region.name for region in regions if region.kept(tenant)]
            assert len(winners) == 1, (tenant, kept)
            homes.update(winners)
        assert homes <= {"eu1", "us1", "ap1"}


async def test_who_dies_between_the_steps_takes_nothing_away(
    postgres_server: PostgresServer,
) -> None:
    settings = replace(SOON, lease_seconds=1)
    async with world(postgres_server, settings=settings) as made:
        eu, us = made["eu1"], made["us1"]
        directory = us.homes.directory
        # us1 asks, and is heard of no more.
        reserved = await directory.reserve("ghost")
        assert (reserved.home, reserved.epoch) == ("us1", 1)
        told = await eu.add("early", tenant="ghost")
        assert (told.status, told.json["code"]) == (503, "placement.moving")
        assert told.headers["Retry-After"]

        async def claimed() -> bool:
            return (await eu.add("late", tenant="ghost")).status == 201

        await until(claimed)
        assert (eu.kept("ghost"), us.kept("ghost"), eu.epoch("ghost")) == (["late"], [], 2)
        told = await us.add("too", tenant="ghost")
        assert told.status == 201
        assert (eu.kept("ghost"), us.kept("ghost")) == (["late", "too"], [])


async def test_known_tenants_live_on_while_the_directory_is_away(two: World) -> None:
    eu, us = two["eu1"], two["us1"]
    await us.add("before", tenant="known")
    await eu.add("before", tenant="theirs")
    await eu.stop()
    assert (await us.add("after", tenant="known")).status == 201
    assert (await us.add("born here", tenant=US_BORN)).status == 201
    unknown = await us.add("who?", tenant="unheard-of")
    assert (unknown.status, unknown.json["code"]) == (503, "placement.unavailable")
    assert unknown.headers["Retry-After"]
    await us.stop()
    await us.start()
    assert await us.titles("known") == ["after", "before"]
    assert (await us.add("theirs", tenant="theirs")).status == 503
    assert us.kept("theirs") == us.kept("unheard-of") == []


async def test_a_region_that_never_heard_of_the_directory_serves_nobody(
    postgres_server: PostgresServer,
) -> None:
    async with world(postgres_server, start=False) as made:
        us = made["us1"]
        await us.start()
        told = await us.add("mine?", tenant=US_BORN)
        assert (told.status, told.json["code"]) == (503, "placement.unavailable")
        assert us.kept(US_BORN) == []
        await made["eu1"].start()

        async def served() -> bool:
            return (await us.add("mine", tenant=US_BORN)).status == 201

        await until(served)


async def test_a_region_alone_remembers_whom_it_served(postgres_server: PostgresServer) -> None:
    async with world(postgres_server, names=("eu1",)) as made:
        eu = made["eu1"]
        assert (await eu.add("mine", tenant="early")).status == 201
        assert await eu.titles("early") == ["mine"]
        assert eu.epoch("early") == 1


async def test_a_directory_that_went_back_is_copied_anew(two: World) -> None:
    eu, us = two["eu1"], two["us1"]
    for number in range(3):
        await us.add("one", tenant=f"tenant-{number}")
    await until(lambda: us.postgres.run("SELECT turn FROM placement.progress") == 6)
    # As after a restore of an older copy; then it goes on, with turns that were there before.
    eu.postgres.run("DELETE FROM placement.placement WHERE name = 'tenant-2'")
    await until(lambda: us.postgres.run("SELECT turn FROM placement.progress") == 4)
    await eu.add("one", tenant="later")
    await until(lambda: us.epoch("later") == 1)


async def test_memory_is_bounded(postgres_server: PostgresServer) -> None:
    settings = replace(SOON, known_max=16)
    async with world(postgres_server, settings=settings) as made:
        homes = made["us1"].homes
        await homes.look()
        for _ in range(40):
            assert await homes.find(IdMaker("eu1").new("ten")) is not None
        assert len(homes) == 16


def test_what_was_said_later_wins() -> None:
    first = Placement(tenant="a", home="eu1", epoch=1)
    assert Placement(tenant="a", home="us1", epoch=2).newer_than(first)
    assert not first.newer_than(first)

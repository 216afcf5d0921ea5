"""A tenant that moves: one home at any time, no write in the one that it has left."""

import asyncio

import asyncpg
import pytest

from ops.ids import IdMaker
from ops.placement import Misdirected, Moved
from services._kit.operation import operations
from tests.fakes.calls import actor
from tests.fakes.notes.service import NOTES, NewNote
from tests.fakes.postgres import PostgresServer
from tests.fakes.regions import Region, Told, World, until, world

PATH = "/v1/placement/placements/"
_STATE = "SELECT state FROM placement.placement WHERE name = 'acme'"
_CALLABLE = """
    SELECT array_agg(proname::text) FROM pg_proc
    WHERE pronamespace = 'placement'::regnamespace AND prosecdef
        AND has_function_privilege('nexus_notes', oid, 'EXECUTE')
"""
(ADD,) = (item for item in operations([NOTES]) if item.name == "notes.add")


async def place(region: Region, tenant: str, home: str, *, epoch: int, verb: str = "") -> Told:
    """An operator's word, at whatever door."""
    method, body = ("POST", None) if verb else ("PUT", {"home": home})
    return await region.ask(
        method, f"{PATH}{tenant}{verb}", tenant="system", body=body, if_match=f'"{epoch}"'
    )


@pytest.mark.parametrize("door", ["eu1", "us1"])
async def test_a_move_from_the_directorys_region(two: World, door: str) -> None:
    eu, us = two["eu1"], two["us1"]
    await eu.add("before", tenant="acme")
    moved = await place(two[door], "acme", "us1", epoch=1)
    assert moved.status == 200, moved
    assert (moved.json["home"], moved.json["state"], moved.headers["ETag"]) == (
        "us1",
        "settled",
        '"2"',
    )
    # At once for writes, whatever the door remembers; soon the door knows as well.
    told = await eu.add("late", tenant="acme")
    assert told.status in {201, 409, 503}, told

    async def passed_on() -> bool:
        return (await eu.add("after", tenant="acme")).status == 201

    await until(passed_on)
    assert eu.kept("acme") == ["before"]
    assert "after" in us.kept("acme")


async def test_a_move_to_it_waits_until_the_old_home_has_let_go(
    postgres_server: PostgresServer,
) -> None:
    async with world(postgres_server, start=False) as made:
        eu, us = made["eu1"], made["us1"]
        us.keeps_fresh = False
        for region in made.regions.values():
            await region.start()
        await us.homes.pull()
        assert (await us.add("before", tenant="acme")).status == 201
        moved = await place(eu, "acme", "eu1", epoch=1)
        assert (moved.json["state"], moved.json["previous"]) == ("moving", "us1")
        # Nobody has told us1: it still serves, and eu1 does not yet.
        assert (await us.add("still", tenant="acme")).status == 201

        async def moving() -> bool:
            told = await eu.add("early", tenant="acme")
            return (told.status, told.json.get("code")) == (503, "placement.moving")

        await until(moving)
        await us.homes.pull()
        assert us.epoch("acme") == 2

        async def settled() -> bool:
            return (await us.add("after", tenant="acme")).status == 201

        await until(settled)
        assert set(us.kept("acme")) - {"early"} == {"before", "still"}
        assert eu.kept("acme") == ["after"]


async def test_a_write_under_way_ends_before_its_tenant_moves(two: World) -> None:
    eu = two["eu1"]
    await eu.add("before", tenant="acme")
    async with (
        asyncio.TaskGroup() as group,
        eu.database.session("notes", tenant="acme") as session,
        session.transaction(),
    ):
        await eu.homes.fence(session, "acme")
        moving = group.create_task(place(eu, "acme", "us1", epoch=1))
        await until(lambda: _waits_for_lock(eu))
        assert not moving.done()
        await session.run(
            "INSERT INTO note (id, tenant, title) VALUES ('note_1', 'acme', 'just in time')"
        )
    assert moving.result().status == 200
    assert eu.kept("acme") == ["before", "just in time"]


async def test_below_the_door_nothing_is_written_in_the_wrong_place(two: World) -> None:
    eu, us = two["eu1"], two["us1"]
    born = IdMaker("eu1").new("ten")
    await us.add("passed on", tenant="acme", nexus_forward="no")
    with pytest.raises(Misdirected) as caught:
        await us.runtime.invoke(ADD, actor(born), {"body": NewNote(title="direct")})
    assert caught.value.fields["region"] == "eu1"
    with pytest.raises(Misdirected):
        await eu.runtime.invoke(ADD, actor("acme"), {"body": NewNote(title="direct")})
    assert us.kept(born) == eu.kept("acme") == []


async def test_old_memory_cannot_write(postgres_server: PostgresServer) -> None:
    async with world(postgres_server, start=False) as made:
        eu = made["eu1"]
        eu.keeps_fresh = False
        for region in made.regions.values():
            await region.start()
        await eu.add("before", tenant="acme")
        assert (await place(eu, "acme", "us1", epoch=1)).status == 200
        # Whatever this process remembers, the table says otherwise within the transaction.
        with pytest.raises(Moved) as caught:
            await eu.runtime.invoke(ADD, actor("acme"), {"body": NewNote(title="late")})
        assert caught.value.fields == {"region": "us1", "epoch": 2}
        with pytest.raises(Misdirected):
            await eu.runtime.invoke(ADD, actor("acme"), {"body": NewNote(title="later")})
        assert eu.kept("acme") == ["before"]


async def test_writes_during_a_move_are_in_one_place_or_refused(two: World) -> None:
    """Back and forth under load: each acknowledged write is there once, in the home of its time."""
    eu, us = two["eu1"], two["us1"]
    await eu.add("first", tenant="acme")
    acknowledged, over = ["first"], asyncio.Event()

    async def writes(region: Region) -> None:
        number = 0
        while not over.is_set():
            number += 1
            title = f"{region.name}-{number}"
            told = await region.add(title, tenant="acme")
            assert told.status in {201, 409, 421, 503}, told
            if told.status == 201:
                acknowledged.append(title)

    async with asyncio.TaskGroup() as group:
        for region in (eu, us, eu, us):
            group.create_task(writes(region))
        epoch, home = 1, "eu1"
        for _ in range(4):
            home = "us1" if home == "eu1" else "eu1"
            await until(lambda: eu.postgres.run(_STATE) == "settled")
            assert (await place(eu, "acme", home, epoch=epoch)).status == 200
            epoch += 1
            count = len(acknowledged)
            await until(lambda count=count: len(acknowledged) > count + 5)
        over.set()
    everywhere = [*eu.kept("acme"), *us.kept("acme")]
    assert sorted(everywhere) == sorted(acknowledged)


async def test_an_operator_settles_for_a_region_that_is_gone(two: World) -> None:
    eu, us = two["eu1"], two["us1"]
    await us.add("lost", tenant="acme")
    await us.stop()
    assert (await place(eu, "acme", "eu1", epoch=1)).json["state"] == "moving"
    stale = await place(eu, "acme", "", epoch=1, verb=":settle")
    assert stale.status == 412
    settled = await place(eu, "acme", "", epoch=2, verb=":settle")
    assert (settled.json["state"], settled.json["version"]) == ("settled", 3)
    again = await place(eu, "acme", "", epoch=3, verb=":settle")
    assert (again.status, again.json["code"]) == (409, "placement.settled")

    async def served() -> bool:
        return (await eu.add("new life", tenant="acme")).status == 201

    await until(served)


async def test_other_roles_may_ask_the_fence_and_nothing_else(two: World) -> None:
    eu = two["eu1"]
    await eu.add("before", tenant="acme")
    async with eu.database.session("notes", tenant="acme") as session:
        for sql in (
            "SELECT * FROM placement.placement",
            "UPDATE placement.placement SET home = 'us1'",
            "DELETE FROM placement.progress",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await session.run(sql)
    callable_by_notes = eu.postgres.run(_CALLABLE)
    assert callable_by_notes == ["fence"]


def _waits_for_lock(region: Region) -> bool:
    return bool(
        region.postgres.run(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
    )

"""What guest-list promises, on a real database."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from services._events.projection import Projector
from services._kit.errors import Conflict, Invalid, NotFound, Stale
from services.entertainment.guest_list.service import SERVICE
from services.entertainment.guest_list.store import BOARD, GuestStore
from tests.fakes.calls import KEYS, Calls, actor, served
from tests.fakes.postgres import Postgres
from tests.fakes.projecting import projector

SHOW = {"name": "Show", "capacity": 4, "ends_at": "2030-01-01T00:00:00Z"}
ADA = {"name": "Ada", "email": "ada@example.org", "seats": 2}


@pytest.fixture
async def calls(postgres: Postgres) -> AsyncIterator[Calls]:
    async with served(postgres, SERVICE) as serving:
        yield serving


@pytest.fixture
def reading(calls: Calls) -> Projector:
    return projector(calls.database, SERVICE)


async def project(reading: Projector) -> None:
    while await reading.advance(SERVICE.schema, BOARD):
        pass


async def make(calls: Calls, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = await calls.told("create_guest_list", body={**SHOW, **changes})
    return made


async def test_a_list_lives(calls: Calls) -> None:
    show = await make(calls)
    assert (show["taken"], show["version"], show["closed"]) == (0, 1, False)
    at = {"path": {"id": show["id"]}}
    ada = await calls.told("invite", body=ADA, **at)
    assert (ada["status"], ada["guest_list"]) == ("invited", show["id"])
    admitted = await calls.told("admit", path={"id": show["id"], "guest": ada["id"]})
    assert (admitted["taken"], admitted["version"]) == (2, 3)
    with pytest.raises(Conflict) as caught:
        await calls.call("admit", path={"id": show["id"], "guest": ada["id"]})
    assert caught.value.code == "guest.admitted"
    changed = await calls.told("change_guest_list", body={"capacity": 2}, if_match='"3"', **at)
    assert changed["capacity"] == 2
    with pytest.raises(Stale):
        await calls.call("change_guest_list", body={"capacity": 3}, if_match='"3"', **at)
    with pytest.raises(Invalid):
        await calls.call("change_guest_list", body={"capacity": 1}, if_match='"4"', **at)
    closed = await calls.told("close_guest_list", **at)
    assert closed["closed"]
    with pytest.raises(Conflict):
        await calls.call("invite", body={**ADA, "email": "b@example.org"}, **at)


async def test_read_models_follow(calls: Calls, reading: Projector) -> None:
    show = await make(calls)
    at = {"path": {"id": show["id"]}}
    ada = await calls.told("invite", body=ADA, **at)
    bob = await calls.told("invite", body={**ADA, "name": "Bob", "email": "b@example.org"}, **at)
    await calls.told("remove", path={"id": show["id"], "guest": bob["id"]})
    await project(reading)
    (listed,) = (await calls.told("guest_lists"))["data"]
    assert listed == {**show, "taken": 2, "version": 4, "position": ""}
    page = await calls.told("guests", query=f"status=invited&after={ada['position']}", **at)
    assert page["data"] == [{**ada, "position": ""}]
    assert (await calls.told("guest", path={"guest": ada["id"]}))["name"] == "Ada"
    assert (await calls.told("guest_lists", actor("other")))["data"] == []


async def test_an_address_is_on_a_list_once(calls: Calls) -> None:
    show = await make(calls)
    at = {"path": {"id": show["id"]}}
    ada = await calls.told("invite", body=ADA, **at)
    with pytest.raises(Conflict) as caught:
        await calls.call("invite", body={**ADA, "email": "ADA@example.org"}, **at)
    assert caught.value.code == "guest.invited"
    assert (await calls.told("guest_list", **at))["taken"] == 2
    await calls.told("remove", path={"id": show["id"], "guest": ada["id"]})
    await calls.told("invite", body=ADA, **at)


async def test_addresses_are_sealed_and_forgotten(calls: Calls, postgres: Postgres) -> None:
    show = await make(calls)
    ada = await calls.told("invite", body=ADA, path={"id": show["id"]})
    sealed = postgres.run("SELECT email FROM guest_list.contact")
    place = {"column": "guest_list.contact.email", "tenant": "acme", "row": ada["id"]}
    assert KEYS.open(sealed, **place) == ADA["email"]
    for table in ("event", "outbox", "audit"):
        text = postgres.run(f"SELECT string_agg(t::text, '') FROM guest_list.{table} t")
        assert "ada@example.org" not in text
    await calls.told("remove", path={"id": show["id"], "guest": ada["id"]})
    assert postgres.run("SELECT count(*) FROM guest_list.contact") == 0


async def test_a_letter_that_is_being_written_is_forgotten_too(
    calls: Calls, postgres: Postgres
) -> None:
    show = await make(calls)
    ada = await calls.told("invite", body=ADA, path={"id": show["id"]})
    waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    waits += " AND datname = current_database()"
    async with asyncio.TaskGroup() as group:
        async with (
            calls.database.session("guest_list", tenant="acme") as session,
            session.transaction(),
        ):
            store = calls.runtime.store(SERVICE, session, actor())
            assert isinstance(store, GuestStore)
            await store.write_invitation(ada["id"])
            where = {"id": show["id"], "guest": ada["id"]}
            removing = group.create_task(calls.call("remove", path=where))
            async with asyncio.timeout(20):
                while not (removing.done() or postgres.run(waits)):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
        await removing
    for table in ("contact", "invitation"):
        assert postgres.run(f"SELECT count(*) FROM guest_list.{table}") == 0


async def test_what_is_not_there_is_not_there(calls: Calls) -> None:
    show, other = await make(calls), await make(calls)
    ada = await calls.told("invite", body=ADA, path={"id": show["id"]})
    with pytest.raises(NotFound):
        await calls.call("admit", path={"id": other["id"], "guest": ada["id"]})
    with pytest.raises(NotFound):
        await calls.call("guests", actor("other"), path={"id": show["id"]})

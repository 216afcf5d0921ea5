"""A database server that crashes forgets what it had not flushed: leases, ids of transactions, and
what its own bus was sent. Nothing that was acknowledged is lost by it.

Relays here live through the crash, as those of a worker do.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ops.db_faults import DatabaseFault
from services._bus.relay import Relay
from tests.fakes.courier import SETTINGS, Life, Moved, Town, move, say, settle
from tests.fakes.postgres import Postgres, PostgresServer
from tests.services.bus.test_relay import Listener, drain, relay_of

FORGOTTEN = 50


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    """A server of its own, since it is killed."""
    with PostgresServer() as server:
        made = server.database()
        asyncio.run(settle(made, tmp_path))
        yield made


@pytest.fixture
async def life(postgres: Postgres) -> AsyncIterator[Life]:
    async with Town(postgres.url).life() as made:
        yield made


async def crash(postgres: Postgres) -> None:
    """SIGKILL, and started again; clients of ours hear of it."""
    await asyncio.to_thread(postgres.server.kill)
    await asyncio.to_thread(postgres.server.start)


async def test_ids_that_are_given_again_hide_no_event(life: Life, postgres: Postgres) -> None:
    bus, other_bus = Listener(), Listener()
    relay, other = relay_of(life, bus), relay_of(life, other_bus)
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="a", number=1))
    await drain(relay)
    async with life.database.relay("sender") as session:
        for _ in range(FORGOTTEN):
            last = await session.value("SELECT pg_current_xact_id()")
    await drain(relay)
    await drain(other)
    await crash(postgres)
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="b", number=1))
        assert await session.value("SELECT xid FROM outbox ORDER BY xid DESC LIMIT 1") < last
    await drain(other)
    assert other_bus.heard[-1:] == ["b"], "one that had found nothing to do"
    postgres.run("UPDATE sender.relay_cursor SET (epoch, xid, seq) = (0, '0', 0)")
    await drain(relay)
    assert bus.heard[-1] == "b", "one that had carried the event before"


async def test_a_cursor_is_not_moved_across_a_crash(life: Life, postgres: Postgres) -> None:
    """The claim was flushed; what the bus was told may not have been."""
    bus = Listener()
    relay = relay_of(life, bus, settings=replace(SETTINGS, lease_seconds=60.0))

    async def meanwhile() -> None:
        postgres.run("UPDATE sender.thing SET moves = moves")
        await crash(postgres)

    bus.meanwhile = meanwhile
    async with life.database.session("sender", tenant="acme") as session:
        await move(session, "a")
    with pytest.raises(DatabaseFault):
        await relay.relay("sender")
    postgres.run("UPDATE sender.relay_cursor SET lease_until = '-infinity'")
    assert await relay.relay("sender") == 1
    assert bus.heard == ["a", "a"]


async def test_the_embedded_bus_has_what_was_relayed(life: Life, postgres: Postgres) -> None:
    relay = Relay(
        life.database,
        life.bus,
        life.notices,
        schemas=["sender"],
        region="eu1",
        settings=SETTINGS,
    )
    for number in range(5):
        async with life.database.session("sender", tenant="acme") as session:
            await move(session, f"thing {number}")
        await drain(relay)
        await crash(postgres)
    postgres.run("UPDATE sender.relay_cursor SET lease_until = '-infinity'")
    await drain(relay)
    sent = "SELECT count(DISTINCT event->>'id') FROM bus.message"
    assert postgres.run(sent) == 5

"""Outboxes are carried in the order of commits, by one relay a partition; nothing is skipped."""

from collections.abc import Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
import pytest

from ops import metrics
from ops.db import Database, DatabaseSettings
from ops.notices import Notices
from ops.watch import WATCH_SECONDS
from services._bus.port import BusFault
from services._bus.relay import TELL_SECONDS, Relay
from services._events.event import Envelope
from services._events.outbox import EVENTS_MAX, EventRefused, publish
from tests.fakes.clock import FakeClock
from tests.fakes.courier import (
    SETTINGS,
    Life,
    Moved,
    Painted,
    Town,
    move,
    origin,
    same_partition,
    say,
    until,
)
from tests.fakes.postgres import Postgres


class Listener:
    """A bus that only listens, and does what the test says while it is sent to."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.meanwhile: Any = None

    async def send(self, events: Sequence[Envelope]) -> None:
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            await meanwhile()
        self.sent += events

    @asynccontextmanager
    async def receiver(self, consumer: str, types: Sequence[str]) -> Any:
        raise AssertionError((consumer, types))
        yield

    async def sweep(self) -> None:
        raise AssertionError

    @property
    def heard(self) -> list[str]:
        return [event.subject for event in self.sent]


@pytest.fixture
def town(alone: Town) -> Town:
    """The relay is the same whatever the bus."""
    return alone


def relay_of(life: Life, bus: Listener, **changed: Any) -> Relay:
    return Relay(
        life.database,
        bus,
        life.notices,
        schemas=["sender"],
        region="eu1",
        settings=changed.get("settings", SETTINGS),
    )


async def drain(relay: Relay) -> None:
    while await relay.relay("sender"):
        pass


async def test_a_transaction_that_commits_late_is_not_skipped(life: Life) -> None:
    bus = Listener()
    relay = relay_of(life, bus)
    early, late = same_partition(2)
    async with life.database.session("sender", tenant="acme") as slow, slow.transaction():
        await say(slow, Moved(thing=late, number=1))
        async with life.database.session("sender", tenant="acme") as quick:
            await say(quick, Moved(thing=early, number=1))
        await drain(relay)
        assert bus.heard == [], "an older transaction may still commit"
    await drain(relay)
    assert bus.heard == [late, early], "in the order of transactions, both"


async def test_a_transaction_anywhere_in_the_cluster_holds_it_back_and_no_longer(
    life: Life, postgres: Postgres
) -> None:
    bus = Listener()
    relay = relay_of(life, bus)
    elsewhere = await asyncpg.connect(postgres.server.url("postgres", "nexus_admin"))
    try:
        transaction = elsewhere.transaction()
        await transaction.start()
        await elsewhere.execute("SELECT pg_current_xact_id()")
        async with life.database.session("sender", tenant="acme") as session:
            await say(session, Moved(thing="a", number=1))
        await drain(relay)
        assert bus.heard == []
        async with life.database.relay("sender") as session:
            assert await session.value("SELECT outbox_lag_seconds()") > 0
        await transaction.rollback()
        await drain(relay)
        assert bus.heard == ["a"]
    finally:
        await elsewhere.close()


async def test_what_was_rolled_back_is_never_told(life: Life) -> None:
    bus = Listener()
    async with life.database.session("sender", tenant="acme") as session:
        transaction = session.transaction()
        await transaction.__aenter__()
        await say(session, Moved(thing="a", number=1))
        assert not await transaction.__aexit__(ValueError, ValueError(), None)
        await say(session, Moved(thing="b", number=1))
    await drain(relay_of(life, bus))
    assert bus.heard == ["b"]


async def test_events_of_one_transaction_keep_their_order(life: Life) -> None:
    bus = Listener()
    events = [Moved(thing="a", number=number) for number in range(EVENTS_MAX)]
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, *events)
    await drain(relay_of(life, bus))
    assert [event.sequence for event in bus.sent] == sorted(event.sequence for event in bus.sent)
    assert [bytes(event.data) for event in bus.sent] == [
        f'{{"thing":"a","number":{number}}}'.encode() for number in range(EVENTS_MAX)
    ]


async def test_a_failed_send_is_sent_again(life: Life) -> None:
    bus = Listener()
    relay = relay_of(life, bus)

    async def fail() -> None:
        raise BusFault("not now")

    bus.meanwhile = fail
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="a", number=1))
    with pytest.raises(BusFault):
        await relay.relay("sender")
    assert await relay.relay("sender") == 1
    assert bus.heard == ["a"]


async def test_what_cannot_be_sent_for_long_is_told_and_not_forgotten(life: Life) -> None:
    """Longer than a transaction may run, and with nothing written meanwhile."""
    bus, clock, tries = Listener(), FakeClock(), 0
    relay = Relay(
        life.database,
        bus,
        life.notices,
        schemas=["sender"],
        region="eu1",
        settings=SETTINGS,
        clock=clock,
    )

    async def fail() -> None:
        nonlocal tries
        tries += 1
        bus.meanwhile = fail
        raise BusFault("not now")

    async def tried() -> bool:
        return tries > known

    async def sent() -> bool:
        return bus.heard == ["a"]

    bus.meanwhile = fail
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="a", number=1))
    life.keep("relay", relay.run)
    for _ in range(4):
        known = tries
        await until(tried)
        clock.advance(WATCH_SECONDS / 2)
    assert _lag() > 0
    bus.meanwhile = None
    await until(sent)
    clock.advance(TELL_SECONDS)

    async def nothing_waits() -> bool:
        return _lag() == 0

    await until(nothing_waits)
    await life.group.stop()


def _lag() -> float:
    """As Prometheus is told."""
    name = 'nexus_events_outbox_lag_seconds{schema="sender"}'
    lines = metrics.render().decode().splitlines()
    return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])


async def test_a_partition_has_one_relay_at_a_time(life: Life) -> None:
    buses = [Listener(), Listener()]
    first, second = (relay_of(life, bus) for bus in buses)

    async def meanwhile() -> None:
        assert await second.relay("sender") == 0

    buses[0].meanwhile = meanwhile
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="a", number=1))
    assert await first.relay("sender") == 1
    assert await second.relay("sender") == 0
    assert buses[1].heard == []


async def test_what_a_dead_relay_had_leased_is_taken_over(life: Life, postgres: Postgres) -> None:
    buses = [Listener(), Listener()]
    dead, heir = (relay_of(life, bus) for bus in buses)

    async def die() -> None:
        assert await heir.relay("sender") == 0
        assert await heir.relay("sender") == 0
        raise BusFault("it ends here")

    buses[0].meanwhile = die
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="a", number=1))
    with pytest.raises(BusFault):
        await dead.relay("sender")
    postgres.run("UPDATE sender.relay_cursor SET lease_until = '-infinity'")
    assert await heir.relay("sender") == 1
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="b", number=1))
    await drain(heir)
    assert buses[1].heard == ["a", "b"]


async def test_a_relay_that_lost_its_lease_moves_no_cursor(life: Life, postgres: Postgres) -> None:
    buses = [Listener(), Listener()]
    slow, quick = (relay_of(life, bus) for bus in buses)

    async def meanwhile() -> None:
        postgres.run("UPDATE sender.relay_cursor SET lease_until = '-infinity'")
        assert await quick.relay("sender") == 1
        async with life.database.session("sender", tenant="acme") as session:
            await say(session, Moved(thing="a", number=2))
        assert await quick.relay("sender") == 1

    buses[0].meanwhile = meanwhile
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="a", number=1))
    await slow.relay("sender")
    assert await slow.relay("sender") == 0, "the cursor stands where the quick one left it"
    assert await quick.relay("sender") == 0
    assert len(buses[1].sent) == 2


async def test_a_restored_log_goes_on_in_a_new_epoch(life: Life, postgres: Postgres) -> None:
    bus = Listener()
    relay = relay_of(life, bus)
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="a", number=1))
    # As if restored from a cluster that had come much farther.
    postgres.run("UPDATE sender.outbox SET xid = '999999999'")
    postgres.run("UPDATE sender.log_epoch SET system = 1")
    async with life.database.relay("sender") as session:
        assert await session.value("SELECT begin_epoch()") == 2
        assert await session.value("SELECT begin_epoch()") == 2
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="a", number=2))
    await drain(relay)
    assert [bytes(event.data)[-2:] for event in bus.sent] == [b"1}", b"2}"]
    assert bus.sent[1].sequence.startswith("000002.")


async def test_more_than_an_event_may_carry_is_refused(life: Life) -> None:
    async with life.database.session("sender", tenant="acme") as session:
        with pytest.raises(EventRefused):
            await say(session, Painted(thing="a", colour="x" * 300_000))
        with pytest.raises(EventRefused):
            await say(session, *[Moved(thing="a", number=1)] * (EVENTS_MAX + 1))


async def test_a_writer_can_neither_change_nor_take_back_an_event(life: Life) -> None:
    async with life.database.session("sender", tenant="acme") as session:
        await move(session, "a")
        for sql in (
            "UPDATE outbox SET data = '{}'",
            "DELETE FROM outbox",
            "DELETE FROM outbox_0",
            "UPDATE event SET data = '{}'",
            "DELETE FROM event",
            "TRUNCATE outbox",
            "UPDATE relay_cursor SET seq = 0",
            "UPDATE log_epoch SET epoch = 9",
            "SELECT FROM bus.message",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await session.run(sql)


async def test_an_event_of_another_tenant_cannot_be_written(life: Life) -> None:
    async with life.database.session("sender", tenant="acme") as session, session.transaction():
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await publish(session, [Moved(thing="a", number=1)], origin=origin("other"))


async def test_a_quiet_relay_finds_what_nobody_called_out(life: Life) -> None:
    """No wake-ups are heard, as while their connection is away."""
    bus = Listener()
    async with Database(life.town.url, DatabaseSettings()) as database:
        relay = Relay(
            database,
            bus,
            Notices(life.town.url, DatabaseSettings()),
            schemas=["sender"],
            region="eu1",
            settings=SETTINGS,
        )
        life.keep("relay", relay.run)

        async def heard(*wanted: str) -> None:
            async def found() -> bool:
                return bus.heard == list(wanted)

            await until(found)

        async with life.database.session("sender", tenant="acme") as session:
            await say(session, Moved(thing="a", number=1))
        await heard("a")
        async with life.database.session("sender", tenant="acme") as session:
            await say(session, Moved(thing="b", number=1))
        await heard("a", "b")
        await life.group.stop()


async def test_a_relayed_day_is_emptied_whole(life: Life, postgres: Postgres) -> None:
    bus = Listener()
    relay = relay_of(life, bus)
    async with life.database.session("sender", tenant="acme") as session:
        await say(session, Moved(thing="a", number=1))
        await say(session, Moved(thing="b", number=1))
    next_slot = "(extract(epoch FROM now())::bigint / 86400 + 1) % 4"
    postgres.run(f"UPDATE sender.outbox SET slot = {next_slot} WHERE subject = 'a'")

    async def empty() -> int | None:
        async with life.database.relay("sender") as session:
            found: int | None = await session.value("SELECT empty_outbox_slot()")
        return found

    assert await empty() is None, "it was not relayed yet"
    await drain(relay)
    assert await empty() is not None
    assert postgres.run("SELECT string_agg(subject, '') FROM sender.outbox") == "b"
    assert await empty() is None

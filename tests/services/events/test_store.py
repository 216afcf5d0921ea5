"""State is the fold of its events, whatever was asked in which order."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, ClassVar

import asyncpg
import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from ops.db import Database, DatabaseSettings, Session
from services._events.event import Codec, Event
from services._events.store import Aggregate, Conflict, append, execute, load
from tests.fakes.courier import THING, Life, Moved, Thing, empty, move, origin
from tests.fakes.postgres import Postgres


def one(thing: str) -> Callable[[Thing], list[Event]]:
    return lambda state: [Moved(thing=thing, number=state.moves + 1)]


async def transacted(session: Session, work: Callable[[Session], Coroutine[Any, Any, Any]]) -> Any:
    async with session.transaction():
        return await work(session)


def appending(
    thing: str, number: int, expected: int
) -> Callable[[Session], Coroutine[Any, Any, str]]:
    event = Moved(thing=thing, number=number)
    return lambda session: append(
        session, THING, thing, [event], expected=expected, origin=origin()
    )


async def test_the_state_comes_back(life: Life) -> None:
    async with life.database.session("sender", tenant="acme") as session:
        for _ in range(3):
            await move(session, "a")
        found = await load(session, THING, "a")
        assert (found.state, found.version) == (Thing(3), 3)
        assert await load(session, THING, "none") == replace(found, state=Thing(), version=0)


async def test_who_wrote_something_before_it_waited_stands_behind(
    life: Life, postgres: Postgres
) -> None:
    """Its transaction is the older one, and yet comes second."""
    async with (
        life.database.session("sender", tenant="acme") as older,
        life.database.session("sender", tenant="acme") as newer,
    ):
        async with older.transaction():
            first = await older.value("SELECT pg_current_xact_id()")
            await move(newer, "a")
            await move(older, "a")
        await move(newer, "a")
    for table in ("event", "outbox"):
        numbers = "SELECT string_agg(data->>'number', ' ' ORDER BY epoch, xid, seq)"
        assert postgres.run(f"{numbers} FROM sender.{table}") == "1 2 3"
        assert postgres.run(f"SELECT min(xid) FROM sender.{table}") > first


async def test_a_version_that_is_past_is_a_conflict(life: Life) -> None:
    async with life.database.session("sender", tenant="acme") as session:
        await move(session, "a")
        await move(session, "a")
        for expected in (0, 1, 3):
            with pytest.raises(Conflict) as caught:
                async with session.transaction():
                    await execute(session, THING, "a", one("a"), origin=origin(), expected=expected)
            assert caught.value.fields == {"expected": expected, "version": 2}
            with pytest.raises(Conflict):
                await transacted(session, appending("a", 3, expected))
        assert (await load(session, THING, "a")).version == 2
        assert await session.value("SELECT count(*) FROM outbox") == 2


async def test_decisions_upon_one_stream_follow_each_other(life: Life) -> None:
    async def ten() -> None:
        async with life.database.session("sender", tenant="acme") as session:
            for _ in range(10):
                await move(session, "a")

    async with life.database.session("sender", tenant="acme") as session:
        await move(session, "a")
    await asyncio.gather(*(ten() for _ in range(5)))
    async with life.database.session("sender", tenant="acme") as session:
        assert (await load(session, THING, "a")).state == Thing(51)


async def test_deciding_nothing_changes_nothing(life: Life) -> None:
    async with life.database.session("sender", tenant="acme") as session:
        await move(session, "a")
        async with session.transaction():
            found = await execute(session, THING, "a", lambda _: [], origin=origin())
        assert (found.version, found.position) == (1, "")
        assert await session.value("SELECT count(*) FROM outbox") == 1


async def test_a_refused_command_leaves_nothing(life: Life) -> None:
    def refuse(_: Thing) -> list[Event]:
        raise ValueError("no")

    async with life.database.session("sender", tenant="acme") as session:
        with pytest.raises(ValueError, match="no"):
            async with session.transaction():
                await execute(session, THING, "a", refuse, origin=origin())
        assert (await load(session, THING, "a")).version == 0


async def test_a_snapshot_is_only_a_shortcut(life: Life, postgres: Postgres) -> None:
    async with life.database.session("sender", tenant="acme") as session:
        for _ in range(25):
            await move(session, "a")
        assert await session.value("SELECT version FROM snapshot") == 20
        whole = await load(session, THING, "a")
        postgres.run("UPDATE sender.event SET data = '{}' WHERE version <= 20")
        assert await load(session, THING, "a") == whole, "it is read from the snapshot on"


class Wide(msgspec.Struct, frozen=True):
    """The state as a later release has it."""

    moves: int = 0
    last: int = 0


async def test_a_snapshot_of_another_shape_is_not_read(life: Life) -> None:
    later = Aggregate(
        "thing",
        events=(Moved,),
        initial=Wide(),
        evolve=lambda state, event: Wide(state.moves + 1, event.number),
        snapshot_every=10,
    )
    async with life.database.session("sender", tenant="acme") as session:
        for _ in range(15):
            await move(session, "a")
        assert (await load(session, later, "a")).state == Wide(15, 15)
        for _ in range(10):
            async with session.transaction():
                await execute(session, later, "a", _next, origin=origin())
        assert (await load(session, later, "a")).state == Wide(25, 25)
        assert (await load(session, THING, "a")).state == Thing(25)


def _next(state: Wide) -> list[Event]:
    return [Moved(thing="a", number=state.moves + 1)]


class Moved3(Event):
    """The third shape: metres became millimetres, and a room came in between."""

    TYPE: ClassVar[str] = "nexus.test.thing.moved.v3"
    KEY: ClassVar[str] = "thing"
    UPCASTS: ClassVar[Any] = {
        "nexus.test.thing.moved.v1": lambda data: data | {"room": "hall"},
        "nexus.test.thing.moved.v2": lambda data: {
            "thing": data["thing"],
            "room": data["room"],
            "millimetres": data["number"] * 1_000,
        },
    }
    thing: str
    room: str
    millimetres: int


async def test_old_events_are_read_in_their_newest_shape(life: Life) -> None:
    later = Aggregate(
        "thing", events=(Moved3,), initial=(), evolve=lambda state, event: (*state, event)
    )
    async with life.database.session("sender", tenant="acme") as session:
        await move(session, "a")
        await move(session, "a")
        found = await load(session, later, "a")
    assert found.state == (
        Moved3(thing="a", room="hall", millimetres=1_000),
        Moved3(thing="a", room="hall", millimetres=2_000),
    )


def test_a_gap_in_the_upcasts_is_refused() -> None:
    class Gap(Moved3):
        TYPE: ClassVar[str] = "nexus.test.thing.moved.v4"

    with pytest.raises(ValueError, match="lack a step from"):
        Codec([Gap])


def test_a_type_that_two_know_is_refused() -> None:
    with pytest.raises(ValueError, match="known already"):
        Codec([Moved, Moved3])


async def test_another_tenant_finds_no_stream_and_cannot_take_its_name(life: Life) -> None:
    async with life.database.session("sender", tenant="acme") as session:
        await move(session, "a")
    async with life.database.session("sender", tenant="other") as session:
        assert (await load(session, THING, "a")).version == 0
        with pytest.raises(Conflict):
            await move(session, "a")


class Stores(RuleBasedStateMachine):
    """Several writers and three things, compared with plain counters."""

    postgres: ClassVar[Postgres]

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.Runner()
        self.counts: dict[str, int] = defaultdict(int)
        empty(self.postgres)

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    async def with_session(self, work: Callable[[Session], Coroutine[Any, Any, Any]]) -> Any:
        async with (
            Database(self.postgres.url, DatabaseSettings()) as database,
            database.session("sender", tenant="acme") as session,
        ):
            return await work(session)

    @initialize()
    def begin(self) -> None:
        self.move_one("a")

    @rule(thing=st.sampled_from("abc"))
    def move_one(self, thing: str) -> None:
        self.counts[thing] += 1
        assert (
            self.run(self.with_session(lambda session: move(session, thing)))
            == (self.counts[thing])
        )

    @rule(thing=st.sampled_from("abc"), count=st.integers(1, 25))
    def move_many_at_once(self, thing: str, count: int) -> None:
        async def work(session: Session) -> None:
            async with session.transaction():
                await execute(session, THING, thing, many, origin=origin())

        def many(state: Thing) -> list[Event]:
            return [Moved(thing=thing, number=state.moves + 1 + step) for step in range(count)]

        self.run(self.with_session(work))
        self.counts[thing] += count

    @rule(thing=st.sampled_from("abc"), expected=st.integers(0, 60))
    def move_if(self, thing: str, expected: int) -> None:
        async def work(session: Session) -> bool:
            try:
                async with session.transaction():
                    await execute(
                        session, THING, thing, one(thing), origin=origin(), expected=expected
                    )
            except Conflict:
                return False
            return True

        held = expected == self.counts[thing]
        assert self.run(self.with_session(work)) is held
        self.counts[thing] += held

    @rule(thing=st.sampled_from("abc"))
    def give_up(self, thing: str) -> None:
        async def work(session: Session) -> None:
            await execute(session, THING, thing, one(thing), origin=origin())
            await session.run("SELECT 1/0")

        with pytest.raises(asyncpg.DivisionByZeroError):
            self.run(self.with_session(lambda session: transacted(session, work)))

    @rule()
    def lose_snapshots(self) -> None:
        self.run(self.with_session(lambda session: session.run("DELETE FROM snapshot")))

    @invariant()
    def all_are_the_fold_of_their_events(self) -> None:
        async def work(session: Session) -> dict[str, int]:
            rows = await session.rows(
                "SELECT subject, count(*) AS n, max(data->>'number') FROM outbox GROUP BY 1"
            )
            assert {row["subject"]: row["n"] for row in rows} == wanted
            return {thing: (await load(session, THING, thing)).version for thing in wanted}

        wanted = {thing: count for thing, count in self.counts.items() if count}
        assert self.run(self.with_session(work)) == wanted

    def teardown(self) -> None:
        self.loop.close()


def test_any_sequence_of_commands(postgres: Postgres) -> None:
    Stores.postgres = postgres
    machine = Stores.TestCase
    machine.settings = settings(max_examples=8, stateful_step_count=15, deadline=None)
    machine().runTest()

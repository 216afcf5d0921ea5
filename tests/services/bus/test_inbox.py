"""Effects happen once; what fails is tried again, then laid aside; each key keeps its order."""

import asyncio

import msgspec
import pytest

from ops.db import Session
from ops.db_faults import DatabaseFault
from services._bus.inbox import Consumer, Inbox, dead_letters, discard, replay
from services._events.event import Envelope, Event
from tests.fakes.courier import SETTINGS, Life, Moved, Town, envelope, until, write_down


class Picky:
    """Writes down what it hears, but fails at numbers in `refused`."""

    def __init__(self, *refused: int) -> None:
        self.refused = set(refused)
        self.tries: list[int] = []

    async def __call__(self, session: Session, sent: Envelope, event: Event) -> None:
        assert isinstance(event, Moved)
        self.tries.append(event.number)
        await write_down(session, sent, event)
        if event.number in self.refused:
            raise ValueError(f"I do not like {event.number}")


def inbox(life: Life, reaction: Picky, *, hold: bool = False) -> Inbox:
    consumer = Consumer("taker", "taker", {Moved: reaction}, hold=hold)
    return Inbox(life.database, consumer, SETTINGS)


async def take(way_in: Inbox, thing: str, *numbers: int) -> None:
    for number in numbers:
        await way_in.take(envelope(thing, number, id=f"evt_{thing}_{number}"))


async def letters(life: Life) -> list[tuple[str, int, str]]:
    async with life.database.session("taker", tenant="acme") as session:
        found = await dead_letters(session, "taker")
    return [(row["event"], row["tries"], row["error"]) for row in found]


@pytest.fixture
def town(alone: Town) -> Town:
    """The inbox is the same whatever the bus."""
    return alone


async def test_an_event_that_comes_again_has_no_second_effect(life: Life) -> None:
    way_in = inbox(life, Picky())
    await take(way_in, "a", 1, 2, 1, 2, 3)
    assert await life.effects() == [("a", 1), ("a", 2), ("a", 3)]


async def test_an_unknown_type_is_nothing_to_it(life: Life) -> None:
    way_in = inbox(life, Picky())
    await way_in.take(envelope("a", 1, type="nexus.test.thing.painted.v1"))
    assert await life.effects() == []


async def test_what_failed_leaves_no_trace_and_is_tried_five_times(life: Life) -> None:
    reaction = Picky(1)
    way_in = inbox(life, reaction)
    await take(way_in, "a", 1)
    assert await life.effects() == []
    assert await way_in.retry() > 0
    assert reaction.tries == [1] * 5
    assert await letters(life) == [("evt_a_1", 5, "ValueError: I do not like 1")]


async def test_other_keys_go_on_and_the_key_waits_behind_its_failure(life: Life) -> None:
    reaction = Picky(2)
    way_in = inbox(life, reaction)
    await take(way_in, "a", 1, 2, 3)
    await take(way_in, "b", 1)
    assert await life.effects() == [("a", 1), ("b", 1)]
    reaction.refused.clear()
    await way_in.retry()
    assert await life.effects() == [("a", 1), ("b", 1), ("a", 2), ("a", 3)]


async def test_after_a_dead_letter_the_key_goes_on(life: Life) -> None:
    way_in = inbox(life, Picky(2))
    await take(way_in, "a", 1, 2, 3)
    await way_in.retry()
    await take(way_in, "a", 4)
    assert await life.effects() == [("a", 1), ("a", 3), ("a", 4)]


async def test_a_dead_letter_may_hold_its_key_until_it_is_replayed(life: Life) -> None:
    reaction = Picky(2)
    way_in = inbox(life, reaction, hold=True)
    await take(way_in, "a", 1, 2, 3)
    await way_in.retry()
    await take(way_in, "a", 4)
    assert await life.effects() == [("a", 1)]
    reaction.refused.clear()
    async with life.database.session("taker", tenant="acme") as session:
        assert await replay(session, "taker") == 1
    await way_in.retry()
    assert await life.effects() == [("a", 1), ("a", 2), ("a", 3), ("a", 4)]


async def test_or_until_it_is_discarded(life: Life) -> None:
    way_in = inbox(life, Picky(2), hold=True)
    await take(way_in, "a", 1, 2, 3)
    await way_in.retry()
    async with life.database.session("taker", tenant="acme") as session:
        assert await discard(session, "taker", event="evt_a_2") == 1
    await inbox(life, Picky(), hold=True).retry()
    assert await life.effects() == [("a", 1), ("a", 3)]


async def test_another_tenant_sees_and_replays_no_dead_letter(life: Life) -> None:
    way_in = inbox(life, Picky(1))
    await take(way_in, "a", 1)
    await way_in.retry()
    async with life.database.session("taker", tenant="other") as session:
        assert await dead_letters(session, "taker") == []
        assert await replay(session, "taker") == 0


async def test_an_event_that_cannot_be_read_is_laid_aside(life: Life) -> None:
    way_in = inbox(life, Picky())
    await way_in.take(envelope("a", 1, data=msgspec.Raw(b'{"thing":"a","number":"many"}')))
    await way_in.retry()
    ((_, tries, error),) = await letters(life)
    assert tries == 5
    assert "number" in error


async def test_a_database_that_is_away_is_no_try(life: Life) -> None:
    reaction = Picky()
    way_in = inbox(life, reaction)

    async def away(_: Session, _sent: Envelope, _event: Event) -> None:
        raise DatabaseFault("gone")

    consumer = Consumer("taker", "taker", {Moved: away})
    with pytest.raises(DatabaseFault):
        await take(Inbox(life.database, consumer, SETTINGS), "a", 1)
    await take(way_in, "a", 1)
    assert await life.effects() == [("a", 1)]
    assert await letters(life) == []


async def test_events_that_share_a_transaction_fail_alone(life: Life) -> None:
    way_in = inbox(life, Picky(3))
    sent = [envelope("a", number, id=f"evt_{number}") for number in (1, 2, 3)]
    sent += [envelope("b", number, id=f"evt_b{number}") for number in (1, 2)]
    taken = 0
    while taken < len(sent):
        taken += await way_in.take_all(sent[taken:])
    assert sorted(await life.effects()) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    await way_in.retry()
    assert [event for event, _, _ in await letters(life)] == ["evt_3"]


async def test_two_that_retry_at_once_have_one_effect(life: Life) -> None:
    reaction = Picky(1)
    ways = [inbox(life, reaction) for _ in range(2)]
    await take(ways[0], "a", 1)
    reaction.refused.clear()
    await asyncio.gather(*(way.retry() for way in ways))
    assert await life.effects() == [("a", 1)]


async def test_what_another_is_trying_is_left_to_it(life: Life) -> None:
    reaction = Picky(1)
    way_in = inbox(life, reaction)
    await take(way_in, "a", 1)
    opened = life.database.session("taker", tenant="acme")
    async with opened as session, session.transaction():
        await session.rows("SELECT seq FROM parked FOR UPDATE")
        async with asyncio.timeout(5):
            assert await way_in.retry() > 0, "it does not ask on and on"
    assert reaction.tries == [1]


async def test_the_loop_tries_again_by_itself(life: Life) -> None:
    reaction = Picky(2)
    life.run(reaction)
    await life.bus.send([envelope("a", number) for number in (1, 2, 3)])

    async def tried() -> bool:
        return len(await letters(life)) == 1 and len(await life.effects()) == 2

    await until(tried)
    assert await life.effects() == [("a", 1), ("a", 3)]

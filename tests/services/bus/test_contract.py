"""What `services/_bus/port.py` promises, asked of both back ends."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

import msgspec
import pytest

from ops.errors import Unavailable
from ops.state.settings import KafkaSettings
from services._bus.port import Batch, Receiver
from services._events.event import Envelope
from tests.fakes.courier import Life, Moved, Painted, Town, envelope, until

KEYS = [f"thg_{number}" for number in range(20)]


async def drain(receiver: Receiver, count: int, *, settled: bool = True) -> list[Envelope]:
    """Fetches until that many events have come."""
    found: list[Envelope] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            batches = await receiver.fetch(0.2)
            found += [event for batch in batches for event in batch.events]
            if settled:
                await receiver.settle(whole(batches))
    return found


def whole(batches: Sequence[Batch]) -> list[tuple[Batch, int]]:
    return [(batch, len(batch.events)) for batch in batches]


def plain(event: Envelope) -> dict[str, object]:
    return msgspec.json.decode(msgspec.json.encode(event), type=dict)


async def test_events_arrive_as_they_were_sent(life: Life) -> None:
    sent = envelope("thg_1", 1, life.town.region, tenant="Größe & Co", traceparent="")
    await life.bus.send([sent, envelope("thg_1", 2, life.town.region)])
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        first, second = await drain(receiver, 2)
    assert plain(first) == plain(sent)
    assert second.traceparent == "00-11-22-01"


async def test_order_holds_for_each_key(life: Life) -> None:
    region = life.town.region
    for number in range(0, 100, 10):
        batch = [envelope(key, number + step, region) for step in range(10) for key in KEYS]
        await life.bus.send(batch)
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        found = await drain(receiver, 100 * len(KEYS))
    for key in KEYS:
        numbers = [
            msgspec.json.decode(event.data, type=Moved).number
            for event in found
            if event.subject == key
        ]
        assert numbers == list(range(100))


async def test_what_was_not_settled_comes_again(life: Life) -> None:
    await life.bus.send([envelope(key, 1, life.town.region) for key in KEYS])
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        lost = await drain(receiver, len(KEYS), settled=False)
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        again = await drain(receiver, len(KEYS))
    assert sorted(event.id for event in lost) == sorted(event.id for event in again)


async def test_a_part_of_a_batch_may_be_settled(life: Life) -> None:
    await life.bus.send([envelope("thg_1", number, life.town.region) for number in range(10)])
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        batches: Sequence[Batch] = ()
        while not batches:
            batches = await receiver.fetch(0.2)
        (batch,) = batches
        await receiver.settle([(batch, 4)])
        rest = await drain(receiver, 6)
    assert [event.id for event in rest] == [event.id for event in batch.events[4:]]
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        assert await receiver.fetch(0.3) == []


async def test_each_consumer_reads_all_from_the_oldest_on(life: Life) -> None:
    await life.bus.send([envelope(key, 1, life.town.region) for key in KEYS])
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        first = await drain(receiver, len(KEYS))
    async with life.bus.receiver("latecomer", (Moved.TYPE,)) as receiver:
        second = await drain(receiver, len(KEYS))
    assert {event.id for event in first} == {event.id for event in second}


async def test_receivers_of_one_consumer_share_its_partitions(life: Life) -> None:
    region, found = life.town.region, [0, 0]
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as group:
        receivers = [
            await stack.enter_async_context(life.bus.receiver("taker", (Moved.TYPE,)))
            for _ in range(2)
        ]

        async def take(place: int) -> None:
            while sum(found) < 200:
                batches = await receivers[place].fetch(0.2)
                await receivers[place].settle(whole(batches))
                found[place] += sum(len(batch.events) for batch in batches)

        for place in range(2):
            group.create_task(take(place))
        await life.bus.send([envelope(f"thg_{number}", 1, region) for number in range(200)])
    assert sum(found) == 200


async def test_other_topics_do_not_come(life: Life) -> None:
    region = life.town.region
    other = {"type": Painted.TYPE, "data": msgspec.Raw(b'{"thing":"thg_1","colour":"red"}')}
    await life.bus.send([envelope("thg_1", 1, region, **other), envelope("thg_1", 2, region)])
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        (found,) = await drain(receiver, 1)
        assert found.type == Moved.TYPE
        assert await receiver.fetch(0.2) == []


async def test_a_waiting_receiver_is_woken(life: Life) -> None:
    life.keep("notices", life.notices.run)
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver, asyncio.TaskGroup() as group:
        assert await receiver.fetch(0.1) == []
        waiting = group.create_task(drain(receiver, 1))
        await life.bus.send([envelope("thg_1", 1, life.town.region)])
        assert len(await waiting) == 1


async def test_sending_again_after_a_failure_keeps_the_order(life: Life) -> None:
    region = life.town.region
    sent = [envelope("thg_1", number, region) for number in range(20)]
    await life.bus.send(sent[:12])
    await life.bus.send(sent[5:])
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        found = await drain(receiver, 27)
    first = list(dict.fromkeys(event.id for event in found))
    assert first == [event.id for event in sent]


async def test_a_bus_that_is_away_is_unavailable(town: Town) -> None:
    away = replace(town, url="postgresql://nobody@127.0.0.1:9/none")
    away = replace(away, kafka=town.kafka and KafkaSettings(("127.0.0.1:9",)))
    async with away.life() as life:
        with pytest.raises(Unavailable):
            await life.bus.send([envelope("thg_1", 1, town.region)])
        with pytest.raises(Unavailable):
            async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
                await receiver.fetch(0)


async def test_what_is_large_goes_through(life: Life) -> None:
    names = ["x" * 200_000 + str(number) for number in range(10)]
    one = {"subject": "thg_1", "partitionkey": "thg_1"}
    await life.bus.send([envelope(name, 1, life.town.region, **one) for name in names])
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        found = await drain(receiver, len(names))
    assert [msgspec.json.decode(event.data, type=Moved).thing for event in found] == names


async def test_sweeping_disturbs_nobody(life: Life) -> None:
    await life.bus.send([envelope("thg_1", 1, life.town.region)])
    await life.bus.sweep()
    async with life.bus.receiver("taker", (Moved.TYPE,)) as receiver:
        assert len(await drain(receiver, 1)) == 1

        async def nothing() -> bool:
            return await receiver.fetch(0) == []

        await until(nothing)

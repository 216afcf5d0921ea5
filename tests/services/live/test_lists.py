"""A list is told as it is and as it changes, to those who may see it, and to nobody else."""

import asyncio
from typing import Any

import pytest

from ops import metrics
from ops.errors import Unavailable
from services._kit.actor import ANONYMOUS, Forbidden
from services._kit.errors import Invalid, SignedOut
from services._live.settings import LiveSettings
from tests.fakes.calls import Calls, actor
from tests.fakes.clock import FakeClock
from tests.fakes.following import WAIT_SECONDS, Following, following
from tests.fakes.postgres import LOGIN, Postgres


async def add(calls: Calls, title: str, tenant: str = "acme") -> Any:
    return await calls.told("add", actor(tenant), body={"title": title})


def titles(items: dict[str, Any]) -> list[str]:
    return sorted(item["title"] for item in items.values())


async def test_the_page_comes_first_and_then_every_change(live: Following) -> None:
    calls = live.calls
    first = await add(calls, "a")
    async with await live.open("notes") as client:
        seen = await client.until("the page", lambda seen: seen.events)
        plain = await calls.told("notes")
        assert (seen.events[0].kind, seen.events[0].data) == ("page", plain)
        assert seen.retry_ms == LiveSettings().retry_ms
        second = await add(calls, "b")
        await client.until("it is made", lambda seen: second["id"] in seen.items)
        await calls.call("rename", path={"id": first["id"]}, body={"title": "c"}, if_match='"1"')
        await client.until("it is renamed", lambda seen: titles(seen.items) == ["b", "c"])
        await calls.call("remove", path={"id": second["id"]})
        await client.until("it is removed", lambda seen: titles(seen.items) == ["c"])
        assert seen.kinds == ["page", "created", "updated", "removed"]
        assert seen.events[2].data == await calls.told("get", path={"id": first["id"]})
        assert seen.events[3].data == {"id": second["id"]}
        assert seen.doubled == []


async def test_who_comes_again_gets_what_has_changed_and_no_more(live: Following) -> None:
    calls = live.calls
    kept, gone = await add(calls, "kept"), await add(calls, "gone")
    changed = await add(calls, "changed")
    async with await live.open("notes") as client:
        seen = await client.until("the page", lambda seen: seen.events)
    await add(calls, "new")
    await calls.call("remove", path={"id": gone["id"]})
    await calls.call("rename", path={"id": changed["id"]}, body={"title": "other"}, if_match='"1"')
    async with await live.open("notes", known=seen) as client:
        await client.until("all of it", lambda seen: seen.kinds[-1] == "kept")
        assert titles(seen.items) == ["kept", "new", "other"]
        assert sorted(seen.kinds[1:]) == ["created", "kept", "updated"]
        assert kept["id"] not in {event.data["id"] for event in seen.events[1:-1]}
        assert seen.doubled == []
    async with await live.open("notes", known=seen) as client:
        await client.next()
        assert seen.kinds[-1] == "kept", "nothing has happened, so nothing is told"
        await add(calls, "newest")
        await client.until("it is made", lambda seen: seen.kinds[-1] == "created")
        assert seen.doubled == []


async def test_what_another_process_commits_is_told(notes: Calls, postgres: Postgres) -> None:
    async with following(notes, url=postgres.url) as here, await here.open("notes") as client:
        seen = await client.until("the page", lambda seen: seen.events)
        # A process of its own has its own pool, and does not follow lists.
        async with following(notes) as there:
            assert there.changes is not here.changes
            await add(notes, "from there")
            await client.until("it is told", lambda seen: seen.items)
        assert titles(seen.items) == ["from there"]


async def test_what_nobody_told_is_found_by_looking(notes: Calls, postgres: Postgres) -> None:
    settings = LiveSettings(look_seconds=0.1, gather_ms=5)
    async with following(notes, settings) as live, await live.open("notes") as client:
        await client.until("the page", lambda seen: seen.events)
        await _run(
            postgres, "INSERT INTO notes.note (id, tenant, title) VALUES ('n', 'acme', 'by hand')"
        )
        seen = await client.until("it is found", lambda seen: seen.items)
        assert titles(seen.items) == ["by hand"]


async def test_a_strangers_tenant_sees_nothing(live: Following) -> None:
    stranger = actor("other")
    async with await live.open("notes", stranger) as theirs, await live.open("notes") as ours:
        await theirs.until("their page", lambda seen: seen.events)
        await add(live.calls, "ours")
        await ours.until("it is told", lambda seen: len(seen.items) == 1)
        await add(live.calls, "theirs", tenant="other")
        seen = await theirs.until("it is told", lambda seen: seen.items)
        assert titles(seen.items) == ["theirs"]
        assert seen.kinds == ["page", "created"]
        seen = ours.follower
    # What one has seen opens nothing for another.
    async with await live.open("notes", stranger, known=seen) as theirs:
        seen = await theirs.until("it is told", lambda seen: seen.kinds[-1] == "kept")
        assert titles(seen.items) == ["theirs"]


async def test_who_may_not_read_the_list_may_not_follow_it(live: Following) -> None:
    with pytest.raises(Forbidden):
        await live.open("notes", actor("acme", "notes.note.add"))
    with pytest.raises(SignedOut):
        await live.open("notes", ANONYMOUS)
    with pytest.raises(Invalid):
        await live.open("notes", query="no_such=1")
    with pytest.raises(Invalid):
        await live.open("notes", query="limit=1000")
    assert len(live.lists) == 0


async def test_the_query_says_which_items_and_fields(live: Following) -> None:
    calls = live.calls
    await add(calls, "aa")
    query = "begins_with=a&limit=2&fields=title"
    async with await live.open("notes", query=query) as client:
        stream = client.stream
        first = (await stream.read()).decode()
        assert 'data: {"data":[{"title":"aa"}],' in first
        await add(calls, "b")
        made = await add(calls, "ab")
        told = ""
        async with asyncio.timeout(WAIT_SECONDS):
            while "event: created" not in told:
                told = (await stream.read()).decode()
        assert 'data: {"title":"ab"}\n' in told
        await calls.call("remove", path={"id": made["id"]})
        async with asyncio.timeout(WAIT_SECONDS):
            while "event: removed" not in told:
                told = (await stream.read()).decode()
        assert f'data: {{"id":"{made["id"]}"}}\n' in told


async def test_many_streams_of_one_list_cost_one_reading(live: Following) -> None:
    clients = [await live.open("notes") for _ in range(200)]
    try:
        before = _reads()
        for client in clients:
            await client.until("the page", lambda seen: seen.events)
        assert _reads() == before, "they join what was read"
        await add(live.calls, "one")
        for client in clients:
            seen = await client.until("the change", lambda seen: seen.items)
            assert (titles(seen.items), seen.doubled) == (["one"], [])
        assert _reads() - before <= 2
    finally:
        for client in clients:
            client.stream.close()
    assert len(live.lists) == 0


async def test_a_silent_stream_reads_nothing_and_gets_comments(live: Following) -> None:
    async with await live.open("notes") as client:
        await client.until("the page", lambda seen: seen.events)
        before = _reads()
        seen = await client.until("two comments", lambda seen: seen.comments >= 2)
        assert (_reads(), seen.kinds) == (before, ["page"])


async def test_who_does_not_read_is_ended_and_comes_again(notes: Calls) -> None:
    settings = LiveSettings(waiting_events_max=2, gather_ms=0, look_seconds=3_600)
    async with following(notes, settings) as live:
        async with await live.open("notes") as slow, await live.open("notes") as quick:
            for number in range(4):
                await add(notes, f"note {number}")
                await quick.until("it is told", lambda seen, n=number: len(seen.items) > n)
            seen = await slow.rest()
            assert seen.kinds == ["end"], "nothing of what waited is sent: it would have a gap"
            assert seen.ended["code"] == "live.slow"
            assert seen.ended["retry"] is True
            assert seen.last_id == ""
        seen.cut()
        async with await live.open("notes", known=seen) as client:
            await client.until("the page", lambda seen: seen.kinds[-1] == "page")
            assert len(seen.items) == 4


async def test_it_ends_with_the_credential(notes: Calls) -> None:
    clock = FakeClock()
    settings = LiveSettings(heartbeat_seconds=0.1, look_seconds=3_600)
    async with following(notes, settings, clock=clock) as live:
        until = clock.unix() + 60
        async with await live.open("notes", until_unix=until) as client:
            await client.until("the page", lambda seen: seen.events)
            clock.advance(61)
            seen = await client.rest()
            assert seen.ended["code"] == "auth.expired"
            assert seen.ended["retry"] is False


async def test_there_are_no_more_streams_than_allowed(notes: Calls) -> None:
    settings = LiveSettings(streams_max=3, tenant_streams_max=2, look_seconds=3_600)
    async with following(notes, settings) as live:
        clients = [await live.open("notes"), await live.open("notes", query="limit=1")]
        with pytest.raises(Unavailable) as caught:
            await live.open("notes")
        assert caught.value.code == "live.tenant_full"
        assert caught.value.retry_after_seconds > 0
        clients.append(await live.open("notes", actor("other")))
        with pytest.raises(Unavailable) as caught:
            await live.open("notes", actor("third"))
        assert caught.value.code == "live.full"
        clients.pop().stream.close()
        async with await live.open("notes", actor("third")):
            assert len(live.lists) == 3
        for client in clients:
            client.stream.close()
            client.stream.close()
        assert len(live.lists) == 0


async def test_stopping_ends_all_streams(live: Following) -> None:
    async with await live.open("notes") as client:
        await client.until("the page", lambda seen: seen.events)
        live.lists.stop()
        seen = await client.rest()
        assert seen.ended["code"] == "node.stopping"
    with pytest.raises(Unavailable):
        await live.open("notes")


async def test_a_database_that_was_away_loses_nothing(notes: Calls, postgres: Postgres) -> None:
    """All connections are gone, and with them what was told meanwhile."""
    async with (
        following(notes, url=postgres.url) as live,
        await live.open("notes") as client,
    ):
        await client.until("the page", lambda seen: seen.events)
        await _run(
            postgres, "INSERT INTO notes.note (id, tenant, title) VALUES ('n', 'acme', 'untold')"
        )
        await _run(
            postgres,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1"
            " AND datname = current_database()",
            LOGIN,
        )
        seen = await client.until("it is found", lambda seen: seen.items)
        assert (titles(seen.items), seen.doubled) == (["untold"], [])


async def _run(postgres: Postgres, sql: str, *values: Any) -> None:
    await asyncio.to_thread(postgres.run, sql, *values)


def _reads() -> float:
    """How often lists have been read."""
    return sum(
        float(line.rpartition(" ")[2])
        for line in metrics.render().decode().splitlines()
        if line.startswith("nexus_live_reads_total")
    )

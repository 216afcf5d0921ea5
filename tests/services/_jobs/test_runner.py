"""What a worker promises: each effect once, retries that back off, death that can be undone."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

import pytest

from ops import log
from ops.db import Session
from services._jobs.desk import Desk
from services._jobs.job import Backoff, Job
from services._jobs.runner import Runner
from tests.services._jobs.errands import (
    FAIL,
    HANG,
    QUICK,
    REFUSE,
    SCHEMA,
    SETTINGS,
    SHORT,
    WRITE,
    Errands,
    Hands,
    What,
    World,
    make_tables,
    tick,
    until,
)

MINUTES = replace(SETTINGS, poll_seconds=600)


async def test_enqueued_jobs_run_without_waiting_for_a_look(errands: World) -> None:
    async with errands.runner(settings=MINUTES):
        await until(errands.listens)
        for number in range(50):
            await errands.enqueue(WRITE, str(number), tenant=f"t{number % 3}")
        await until(errands.is_empty)
    assert sorted(Counter(what for _, what in await errands.effects()).values()) == [1] * 50


async def test_delayed_job_runs_on_time_though_looks_are_rare(errands: World) -> None:
    async with errands.runner(settings=MINUTES):
        await until(errands.listens)
        began = asyncio.get_running_loop().time()
        await errands.enqueue(WRITE, "x", delay_seconds=0.4)
        await until(partial(errands.has_done, 1))
    assert asyncio.get_running_loop().time() - began >= 0.4


async def test_deaf_worker_finds_jobs_by_looking(errands: World) -> None:
    async with errands.runner(hears=False):
        await errands.enqueue(WRITE, "x")
        await errands.enqueue(WRITE, "y", delay_seconds=0.1)
        await until(partial(errands.has_done, 2))


async def test_failing_job_is_tried_again_then_dead_then_replayed(errands: World) -> None:
    log.hide("pw-of-the-mailer")
    made = await errands.enqueue(FAIL, "mailer pw-of-the-mailer")
    async with errands.runner():
        await until(errands.is_all_dead)
    (row,) = await errands.jobs()
    assert (row["failures"], row["token"]) == (3, 3)
    assert row["error"] == "ValueError: no luck with mailer ***"
    assert await errands.effects() == [], "an attempt that failed left nothing"
    mended = Job("fail", WRITE.handler, timeout_seconds=10)
    desk = Desk(SCHEMA, [mended])
    async with errands.database.relay("") as session:
        (listed,) = await desk.dead(session, "fail")
        assert (listed["id"], listed["tenant"]) == (made, "acme")
        assert await desk.replay(session, made)
        assert not await desk.replay(session, made)
    async with errands.runner([Errands((mended,))]):
        await until(partial(errands.has_done, 1))


async def test_rejected_job_is_dead_at_once(errands: World) -> None:
    await errands.enqueue(REFUSE, "x")
    async with errands.runner():
        await until(errands.is_all_dead)
    (row,) = await errands.jobs()
    assert (row["failures"], row["error"]) == (1, "test.expired: the card has expired")


async def test_slow_job_is_cancelled_and_rolled_back(errands: World) -> None:
    await errands.enqueue(SHORT, "x")
    async with errands.runner():
        await until(errands.is_all_dead)
    (row,) = await errands.jobs()
    assert row["failures"] == 2
    assert "took longer than 0.2 s" in row["error"]
    assert await errands.effects() == []


async def test_unreadable_arguments_make_a_dead_job(errands: World) -> None:
    wanted = replace(FAIL, handler=WRITE.handler)
    made = await errands.enqueue(wanted, "x")
    errands.postgres.run(f"UPDATE {SCHEMA}.job SET arguments = '{{\"x\": 1}}' WHERE id = $1", made)
    async with errands.runner([Errands((wanted,))]):
        await until(errands.is_all_dead)
    (row,) = await errands.jobs()
    assert "ValidationError" in row["error"]


def test_pauses_double_up_to_a_limit_and_spread() -> None:
    backoff = Backoff(first_seconds=1, factor=2, seconds_max=60, spread=0.2)
    assert [backoff.pause_seconds(count, 0.5) for count in (1, 2, 3, 7, 100)] == [1, 2, 4, 60, 60]
    assert backoff.pause_seconds(3, 0.0) == pytest.approx(3.2)
    assert backoff.pause_seconds(3, 1.0) == pytest.approx(4.8)


async def test_pause_is_kept_in_the_row(errands: World) -> None:
    patient = replace(FAIL, backoff=Backoff(first_seconds=100, factor=3, spread=0))
    await errands.enqueue(patient, "x")
    desk = Desk(SCHEMA, [patient])
    now = datetime.now(UTC)
    for pause in (100, 300):
        (claim,) = await errands.claim(desk)
        assert await errands.attempt(desk, claim) == "failed"
        (row,) = await errands.jobs()
        waits = (row["run_at"] - datetime.now(UTC)).total_seconds()
        assert pause - 10 < waits <= pause
        desk.now = (desk.now or now).replace(year=now.year + 1)
        assert (await errands.sweep(desk))[0] == 1
        desk.now = None


async def test_stopped_worker_gives_its_jobs_back_at_once(errands: World) -> None:
    for number in range(20):
        await errands.enqueue(HANG, str(number))
    settings = replace(SETTINGS, grace_seconds=0.1, lease_seconds=600)
    async with errands.runner(settings=settings):
        await until(partial(errands.runs, settings.running_max))
    rows = await errands.jobs()
    assert {(row["state"], row["failures"]) for row in rows} == {("ready", 0)}
    assert await errands.effects() == []


async def test_running_job_gets_its_grace(errands: World) -> None:
    began = asyncio.Event()

    async def work(store: Hands, arguments: What) -> None:
        began.set()
        await asyncio.sleep(0.3)
        await store.write(arguments.what)

    slow = Job("slow", work, timeout_seconds=10)
    await errands.enqueue(slow, "x")
    async with errands.runner([Errands((slow,))], replace(SETTINGS, grace_seconds=10)):
        await began.wait()
    assert await errands.effects() == [("acme", "x")]


async def test_long_job_keeps_its_lease(errands: World) -> None:
    async def work(store: Hands, arguments: What) -> None:
        await asyncio.sleep(1.0)
        await store.write(arguments.what)

    slow = Job("slow", work, timeout_seconds=10, outside_seconds=10)
    await errands.enqueue(slow, "x")
    settings = replace(SETTINGS, lease_seconds=0.3, poll_seconds=0.1)
    owners = [Errands((slow,))]
    async with errands.runner(owners, settings), errands.runner(owners, settings):
        await until(partial(errands.has_done, 1))
    assert await errands.effects() == [("acme", "x")]
    assert await errands.jobs() == []


async def test_attempt_whose_lease_was_lost_is_cancelled(errands: World) -> None:
    cancelled = asyncio.Event()

    async def work(store: Hands, arguments: What) -> None:
        await store.write(arguments.what)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    stuck = Job("stuck", work, timeout_seconds=60)
    await errands.enqueue(stuck, "x")
    async with errands.runner([Errands((stuck,))], replace(SETTINGS, lease_seconds=0.3)):
        await until(partial(errands.runs, 1))
        errands.postgres.run(f"DELETE FROM {SCHEMA}.job")
        async with asyncio.timeout(10):
            await cancelled.wait()
    assert await errands.effects() == []


async def test_schedule_fires_once_a_slot_with_three_workers(errands: World) -> None:
    often = Job("often", tick, timeout_seconds=10, every_seconds=1, tenants_of="effect")
    async with errands.database.session(SCHEMA, tenant="acme") as session:
        await session.run("INSERT INTO effect (tenant, what) VALUES ('acme', 'first')")
    owners = [Errands((often,))]
    async with errands.runner(owners), errands.runner(owners), errands.runner(owners):
        await until(partial(errands.has_done, 4))
    async with errands.database.relay("") as session:
        times = await session.rows(f"SELECT at FROM {SCHEMA}.effect WHERE what = 'tick'")
    seconds = [int(row["at"].timestamp()) for row in times]
    assert len(seconds) == len(set(seconds))


async def test_one_worker_serves_many_schemas(errands: World) -> None:
    names = [f"s{number:02}" for number in range(8)]
    await make_tables(errands.postgres, *names)
    owners = [Errands(schema=name) for name in names]
    async with errands.runner(owners):
        for name in names:
            for number in range(5):
                await errands.enqueue(WRITE, str(number), schema=name)

        async def all_done() -> bool:
            return all([len(await errands.effects(name)) == 5 for name in names])

        await until(all_done)


async def test_handler_that_awaits_the_cancelled_has_failed(errands: World) -> None:
    async def work(store: Hands, arguments: What) -> None:  # noqa: ARG001
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    odd = Job("odd", work, timeout_seconds=10, retries_max=0, backoff=QUICK)
    await errands.enqueue(odd, "x")
    async with errands.runner([Errands((odd,))]):
        await until(errands.is_all_dead)


async def test_runner_without_jobs_is_quiet(errands: World) -> None:
    async with errands.runner([Errands(())]) as runner:
        assert isinstance(runner, Runner)
        await asyncio.sleep(0)


async def test_session_of_a_job_is_its_tenants(errands: World) -> None:
    seen: list[tuple[str, str, bool]] = []

    async def look(store: Hands, arguments: What) -> None:  # noqa: ARG001
        db: Session = store.db
        seen.append((db.pin.schema, db.pin.tenant, db.in_transaction))

    watch = Job("watch", look, timeout_seconds=10)
    await errands.enqueue(watch, "x", tenant="zeta")
    async with errands.runner([Errands((watch,))]):
        await until(errands.is_empty)
    assert seen == [(SCHEMA, "zeta", True)]


async def test_fault_of_the_handlers_own_is_told_as_such(errands: World) -> None:
    async def work(store: Hands, arguments: What) -> None:
        await store.write(arguments.what)
        raise ConnectionError("the mailer hung up")

    call = Job("call", work, timeout_seconds=10, retries_max=0)
    await errands.enqueue(call, "x")
    async with errands.runner([Errands((call,))]):
        await until(errands.is_all_dead)
    (row,) = await errands.jobs()
    assert row["error"] == "ConnectionError: the mailer hung up"
    assert await errands.effects() == []

"""Claims: in turn between tenants, by priority, each job to one worker, under its fencing token."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from services._jobs.desk import Claim, Desk
from services._jobs.job import Job
from tests.services._jobs.errands import JOBS, SCHEMA, WRITE, World, tick


def desk(*jobs: Job, now: datetime | None = None) -> Desk:
    return Desk(SCHEMA, jobs or JOBS, now=now)


async def test_rows_of_others_wait_for_one_of_each(errands: World) -> None:
    await errands.enqueue_many(WRITE, 300, tenant="mega")
    for tenant in ("beta", "omega", "zeta"):
        await errands.enqueue(WRITE, "x", tenant=tenant)
    one = desk()
    served = [(await errands.claim(one, 1))[0].tenant for _ in range(6)]
    assert sorted(served[:4]) == ["beta", "mega", "omega", "zeta"]
    assert served[4:] == ["mega", "mega"]


async def test_places_are_shared_evenly(errands: World) -> None:
    for tenant in ("a", "b", "c"):
        await errands.enqueue_many(WRITE, 20, tenant=tenant)
    one = desk()
    assert Counter(claim.tenant for claim in await errands.claim(one, 9)) == dict.fromkeys("abc", 3)
    served: Counter[str] = Counter()
    while claims := await errands.claim(one, 4):
        served.update(claim.tenant for claim in claims)
        assert max(served.values()) - min(served[name] for name in "abc") <= 2
    assert served == dict.fromkeys("abc", 17)


async def test_many_tenants_come_round(errands: World) -> None:
    names = [f"t{number:02}" for number in range(25)]
    for name in names:
        await errands.enqueue_many(WRITE, 4, tenant=name)
    one = desk()
    served = [claim.tenant for _ in range(5) for claim in await errands.claim(one, 5)]
    assert sorted(served) == names, "each once before anybody twice"


async def test_lone_tenant_fills_all_places_in_order(errands: World) -> None:
    await errands.enqueue_many(WRITE, 10)
    ids = [row["id"] for row in await errands.jobs()]
    assert sorted(claim.id for claim in await errands.claim(desk(), 8)) == ids[:8]


async def test_greater_priority_first_whoever_has_it(errands: World) -> None:
    await errands.enqueue_many(WRITE, 3, tenant="a")
    urgent = await errands.enqueue(WRITE, "x", tenant="z", priority=5)
    someday = await errands.enqueue(WRITE, "x", tenant="a", priority=-1)
    one = desk()
    assert [claim.id for claim in await errands.claim(one, 5)] == [urgent]
    assert {claim.tenant for claim in await errands.claim(one, 5)} == {"a"}
    assert [claim.id for claim in await errands.claim(one, 5)] == [someday]


async def test_declared_priority_is_the_default(errands: World) -> None:
    urgent = replace(WRITE, name="urgent", priority=7)
    await errands.enqueue(WRITE, "x")
    await errands.enqueue(urgent, "x")
    (claim,) = await errands.claim(desk(WRITE, urgent), 1)
    assert claim.job is urgent


async def test_jobs_that_a_worker_does_not_know_are_left(errands: World) -> None:
    newer = replace(WRITE, name="newer", priority=9)
    await errands.enqueue(newer, "x")
    mine = await errands.enqueue(WRITE, "x")
    assert [claim.id for claim in await errands.claim(desk(), 5)] == [mine]
    assert len(await errands.claim(desk(newer), 5)) == 1


async def test_two_claims_never_meet(errands: World) -> None:
    await errands.enqueue_many(WRITE, 100, tenant="a")
    await errands.enqueue_many(WRITE, 100, tenant="b")

    async def all_of_them(one: Desk) -> list[str]:
        found: list[str] = []
        empty = 0
        while empty < 3:
            claims = await errands.claim(one, 7)
            found += [claim.id for claim in claims]
            empty = 0 if claims else empty + 1
        return found

    parts = await asyncio.gather(*(all_of_them(desk()) for _ in range(6)))
    ids = [claimed for part in parts for claimed in part]
    assert len(ids) == len(set(ids)) == 200


async def test_ended_lease_gives_the_job_to_another(errands: World) -> None:
    await errands.enqueue(WRITE, "x")
    now = datetime.now(UTC)
    (lost,) = await errands.claim(desk(), lease_seconds=15)
    assert await errands.sweep(desk(now=now + timedelta(seconds=10))) == (0, [])
    assert await errands.sweep(desk(now=now + timedelta(seconds=20))) == (1, [])
    (taken,) = await errands.claim(desk())
    assert (taken.id, taken.token) == (lost.id, lost.token + 1)
    assert await errands.attempt(desk(), lost) == "lost"
    assert await errands.effects() == [], "what the first one did is rolled back"
    assert await errands.attempt(desk(), taken) == "done"
    assert await errands.attempt(desk(), taken) == "lost"
    assert await errands.effects() == [("acme", "x")]


async def test_late_worker_may_end_what_nobody_took(errands: World) -> None:
    await errands.enqueue(WRITE, "x")
    (claim,) = await errands.claim(desk(), lease_seconds=0.001)
    await asyncio.sleep(0.01)
    assert await errands.attempt(desk(), claim) == "done"
    assert await errands.sweep(desk()) == (0, [])


async def test_renewed_lease_holds(errands: World) -> None:
    await errands.enqueue_many(WRITE, 2)
    one = desk()
    first, second = await errands.claim(one, 2, lease_seconds=1)
    stale = replace(second, token=second.token - 1)
    async with errands.database.relay("") as session:
        assert await one.extend(session, [first, stale], 100) == {first.id}
    later = datetime.now(UTC) + timedelta(seconds=50)
    assert await errands.sweep(desk(now=later)) == (1, [])
    states = {row["id"]: row["state"] for row in await errands.jobs()}
    assert states == {first.id: "running", second.id: "ready"}


async def test_released_job_is_ready_and_has_not_failed(errands: World) -> None:
    await errands.enqueue(WRITE, "x")
    (claim,) = await errands.claim(desk())
    async with errands.database.relay("") as session:
        await desk().release(session, [claim])
    (again,) = await errands.claim(desk())
    assert (again.failures, again.token) == (0, claim.token + 1)


async def test_job_that_loses_its_workers_is_dead(errands: World) -> None:
    await errands.enqueue(WRITE, "x")
    for number in (1, 2, 3):
        assert len(await errands.claim(desk(), lease_seconds=1)) == 1
        later = datetime.now(UTC) + timedelta(seconds=2)
        expected = ["write"] if number == 3 else []
        assert await errands.sweep(desk(now=later), losses_max=3) == (1, expected)
    (row,) = await errands.jobs()
    assert (row["state"], row["losses"], row["failures"]) == ("dead", 3, 0)
    assert "worker" in row["error"]


async def test_old_dead_jobs_are_forgotten(errands: World) -> None:
    await errands.enqueue(WRITE, "x")
    (claim,) = await errands.claim(desk())
    async with errands.database.relay("") as session:
        assert await desk().fail(session, claim, error="no", pause_seconds=None)
        assert await desk().forget(session, 30 * 86_400.0) == 1
        later = datetime.now(UTC) + timedelta(days=31)
        assert await desk(now=later).forget(session, 30 * 86_400.0) == 0
    assert await errands.jobs() == []


async def test_schedule_fires_once_whoever_looks(errands: World) -> None:
    nightly = Job("nightly", tick, timeout_seconds=10, cron="0 3 * * *")
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    workers = [desk(nightly, now=now) for _ in range(5)]

    async def register(one: Desk) -> None:
        async with errands.database.relay("") as session:
            await one.register(session)

    async def fire(one: Desk) -> int:
        async with errands.database.relay("") as session:
            return await one.fire(session, lambda: errands.ids.new("job"))

    async def fire_all() -> int:
        return sum(await asyncio.gather(*(fire(one) for one in workers)))

    await asyncio.gather(*(register(one) for one in workers))
    assert await fire_all() == 0
    for one in workers:
        one.now = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
    assert await fire_all() == 1
    assert await fire_all() == 0
    for one in workers:
        one.now = datetime(2026, 11, 25, 3, 0, 1, tzinfo=UTC)
    assert await fire_all() == 0, "the one of yesterday has not run yet"
    await run_one(errands, workers[0])
    for one in workers:
        one.now = datetime(2026, 12, 24, 12, 0, tzinfo=UTC)
    assert await fire_all() == 1, "a month of missed times is made up for once"
    (row,) = await errands.jobs()
    assert (row["tenant"], row["run_at"]) == ("", datetime(2026, 11, 26, 3, 0, tzinfo=UTC))


async def run_one(errands: World, one: Desk) -> None:
    (claim,) = await errands.claim(one)
    assert await errands.attempt(one, claim) == "done"


async def test_changed_schedule_is_found_anew_and_an_old_one_kept(errands: World) -> None:
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    for cron, expected in (
        ("0 3 * * *", datetime(2026, 11, 24, 3, 0, tzinfo=UTC)),
        ("0 3 * * *", datetime(2026, 11, 24, 3, 0, tzinfo=UTC)),
        ("0 5 * * *", datetime(2026, 11, 26, 5, 0, tzinfo=UTC)),
    ):
        job = Job("nightly", tick, timeout_seconds=10, cron=cron)
        async with errands.database.relay("") as session:
            await desk(job, now=now).register(session)
            found = await session.value(f"SELECT next_at FROM {SCHEMA}.job_schedule")
        assert found == expected
        now += timedelta(days=1)


async def test_schedule_for_the_tenants_of_a_table(errands: World) -> None:
    for tenant in ("b", "a", "c"):
        async with errands.database.session(SCHEMA, tenant=tenant) as session:
            for what in ("x", "y"):
                await session.run("INSERT INTO effect VALUES ($1, DEFAULT, $2)", tenant, what)
    now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    hourly = Job("hourly", tick, timeout_seconds=10, every_seconds=3_600, tenants_of="effect")
    one = desk(hourly, now=now)
    async with errands.database.relay("") as session:
        await one.register(session)
        one.now = now + timedelta(hours=1)
        assert await one.fire(session, lambda: errands.ids.new("job")) == 3
    claims: list[Claim] = await errands.claim(one, 5)
    assert sorted(claim.tenant for claim in claims) == ["a", "b", "c"]
    for claim in claims:
        assert await errands.attempt(one, claim) == "done"
    assert sorted(await errands.effects())[:3] == [("a", "tick"), ("a", "x"), ("a", "y")]

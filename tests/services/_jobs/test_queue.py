"""Enqueueing belongs to the caller's transaction, and the queue to the tenant."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import asyncpg
import msgspec
import pytest

from ops.db import Session
from services._jobs.desk import Desk
from services._jobs.job import TooLarge
from services._jobs.queue import enqueue
from tests.services._jobs.errands import JOBS, SCHEMA, WRITE, What, World, until


def desk() -> Desk:
    return Desk(SCHEMA, JOBS)


@asynccontextmanager
async def writing(errands: World, tenant: str = "acme") -> AsyncIterator[Session]:
    """A session inside a transaction."""
    async with errands.database.session(SCHEMA, tenant=tenant) as session, session.transaction():
        yield session


async def failing_change(errands: World, meanwhile: Callable[[], Awaitable[None]]) -> None:
    """Writes, enqueues, and fails after `meanwhile`."""
    async with writing(errands) as session:
        await session.run("INSERT INTO effect (tenant, what) VALUES ('acme', 'x')")
        arguments = What(what="first")
        await enqueue(session, WRITE, arguments, tenant="acme", ids=errands.ids, unique="a")
        await meanwhile()
        raise ZeroDivisionError


async def nothing() -> None:
    """Happens meanwhile."""


async def test_job_of_a_failed_change_never_runs(errands: World) -> None:
    with pytest.raises(ZeroDivisionError):
        await failing_change(errands, nothing)
    assert await errands.jobs() == []
    assert await errands.claim(desk()) == []


async def test_job_waits_for_a_late_commit(errands: World) -> None:
    early = Desk(SCHEMA, JOBS)
    async with writing(errands) as session:
        late = await enqueue(session, WRITE, What(what="late"), tenant="acme", ids=errands.ids)
        after = await errands.enqueue(WRITE, "after")
        (first,) = await errands.claim(early, 5)
        assert first.id == after
        assert await errands.attempt(early, first) == "done"
    (second,) = await errands.claim(early, 5)
    assert second.id == late


async def test_arguments_are_checked_before_they_are_kept(errands: World) -> None:
    async with writing(errands) as session:
        with pytest.raises(TypeError, match="takes"):
            await enqueue(session, WRITE, {"what": "x"}, tenant="acme", ids=errands.ids)
        with pytest.raises(TypeError, match="takes"):
            await enqueue(session, WRITE, None, tenant="acme", ids=errands.ids)
        long = What(what="x" * 262_144)
        with pytest.raises(TooLarge):
            await enqueue(session, WRITE, long, tenant="acme", ids=errands.ids)
    assert await errands.jobs() == []


async def test_arguments_come_back_whole(errands: World) -> None:
    text = 'a "quote", \\u0000 and \0, ünï, 💧, \x7f' + "x" * 100_000
    await errands.enqueue(WRITE, text)
    (claim,) = await errands.claim(desk())
    assert msgspec.json.decode(claim.arguments)["what"] == text


async def test_fifty_at_once_make_one(errands: World) -> None:
    async def one() -> str:
        return await errands.enqueue(WRITE, "x", unique="order-7")

    ids = await asyncio.gather(*(one() for _ in range(50)))
    assert len(set(ids)) == 1
    assert [row["id"] for row in await errands.jobs()] == [ids[0]]


async def test_key_is_a_tenants_and_a_jobs_own(errands: World) -> None:
    ids = {
        await errands.enqueue(WRITE, "x", unique="a"),
        await errands.enqueue(WRITE, "x", unique="b"),
        await errands.enqueue(WRITE, "x", unique="a", tenant="other"),
        await errands.enqueue(JOBS[1], "x", unique="a"),
        await errands.enqueue(WRITE, "x"),
        await errands.enqueue(WRITE, "x"),
    }
    assert len(ids) == 6


async def test_key_is_free_again_when_its_job_has_ended(errands: World) -> None:
    first = await errands.enqueue(WRITE, "x", unique="a")
    (claim,) = await errands.claim(desk())
    assert await errands.enqueue(WRITE, "y", unique="a") == first, "it runs still"
    assert await errands.attempt(desk(), claim) == "done"
    assert await errands.enqueue(WRITE, "z", unique="a") != first


async def test_key_of_a_change_that_fails_is_free(errands: World) -> None:
    second: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def start_second() -> None:
        async def enqueue_second() -> None:
            second.set_result(await errands.enqueue(WRITE, "second", unique="a"))

        group.create_task(enqueue_second())
        await until(errands.waits_for_a_lock)
        assert not second.done()

    async with asyncio.TaskGroup() as group:
        with pytest.raises(ZeroDivisionError):
            await failing_change(errands, start_second)
    (row,) = await errands.jobs()
    assert row["id"] == second.result()


async def test_delayed_job_waits_for_its_time(errands: World) -> None:
    await errands.enqueue(WRITE, "x", delay_seconds=3_600)
    assert await errands.sweep(desk()) == (0, [])
    assert await errands.claim(desk()) == []
    await errands.enqueue(WRITE, "y", delay_seconds=0.001)
    await asyncio.sleep(0.002)
    assert await errands.sweep(desk()) == (1, [])
    assert len(await errands.claim(desk(), 5)) == 1


async def test_stranger_sees_no_job(errands: World) -> None:
    await errands.enqueue(WRITE, "x")
    async with errands.database.session(SCHEMA, tenant="other") as session:
        assert await session.value("SELECT count(*) FROM job") == 0
        assert await session.run("DELETE FROM job") == 0
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await enqueue_for(session, "acme", errands)


async def enqueue_for(session: Session, tenant: str, errands: World) -> str:
    async with session.transaction():
        return await enqueue(session, WRITE, What(what="x"), tenant=tenant, ids=errands.ids)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE job SET run_at = now()",
        "UPDATE job_schedule SET next_at = now()",
        "DELETE FROM job_schedule",
        "SELECT job_tenants('effect')",
    ],
)
async def test_service_may_not_touch_the_queues_rules(errands: World, sql: str) -> None:
    await errands.enqueue(WRITE, "x")
    async with errands.database.session(SCHEMA, tenant="acme") as session:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.run(sql)


async def test_relay_sees_queues_and_no_other_table(errands: World) -> None:
    async with errands.database.relay("") as session:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.run(f"INSERT INTO {SCHEMA}.effect (tenant, what) VALUES ('a', 'b')")

"""Read models follow the log, each event once; made anew they are the same to the byte."""

import asyncio
import re
from dataclasses import replace
from typing import Any

import pytest

from ops.db import Session
from ops.watch import WATCH_SECONDS
from services._events.event import POSITION, parse_position, position
from services._events.projection import (
    Behind,
    Projection,
    Projector,
    Recorded,
    Unwritten,
    rebuild,
    wait_for,
)
from services._events.store import execute
from tests.fakes.clock import FakeClock
from tests.fakes.courier import (
    BOARD,
    SETTINGS,
    TENANTS,
    THING,
    Life,
    Moved,
    move,
    origin,
    show,
    until,
)
from tests.fakes.postgres import Postgres

_LAST = ".08999999999999999999" * 2
DUMP = """
SELECT string_agg(md5(ROW(tenant, thing, moves, path)::text), ',' ORDER BY thing)
FROM sender.board WHERE generation = (
    SELECT generation FROM sender.projection WHERE name = 'board' AND active)
"""


def projector(life: Life, *projections: Projection) -> Projector:
    small = replace(SETTINGS, batch_max=7)
    return Projector(life.database, life.notices, {"sender": projections or (BOARD,)}, small)


async def drain(made: Projector, projection: Projection = BOARD) -> int:
    count = 0
    while moved := await made.advance("sender", projection):
        count += moved
    return count


async def write(life: Life, *, rounds: int) -> None:
    for _ in range(rounds):
        for tenant in TENANTS:
            async with life.database.session("sender", tenant=tenant) as session:
                for thing in "abc":
                    await move(session, f"{tenant}_{thing}")


async def test_it_holds_what_the_log_says(life: Life) -> None:
    await write(life, rounds=3)
    assert await drain(projector(life)) == 18
    for tenant in TENANTS:
        async with life.database.session("sender", tenant=tenant) as session:
            rows = await session.rows(
                f"SELECT thing, path FROM board WHERE generation = {BOARD.active} ORDER BY thing"
            )
        assert [tuple(row) for row in rows] == [(f"{tenant}_{key}", "1 2 3") for key in "abc"]


async def test_made_anew_it_is_the_same_to_the_byte(life: Life, postgres: Postgres) -> None:
    made = projector(life)
    await write(life, rounds=4)
    await drain(made)
    before = postgres.run(DUMP)
    async with life.database.session("sender", tenant="") as session:
        assert await rebuild(session, BOARD) == 2
    assert await made.advance("sender", BOARD) == 7
    assert postgres.run(DUMP) == before, "the old one is read while the new one grows"
    await drain(made)
    assert postgres.run("SELECT string_agg(generation::text, '') FROM sender.projection") == "2"
    assert postgres.run("SELECT count(*) FROM sender.board WHERE generation = 1") == 0
    assert postgres.run(DUMP) == before


async def test_a_new_version_is_built_beside_the_old_one(life: Life, postgres: Postgres) -> None:
    await write(life, rounds=2)
    await drain(projector(life))

    async def louder(session: Session, generation: int, recorded: Recorded) -> None:
        await show(session, generation, recorded)
        await session.run("UPDATE board SET path = path || '!' WHERE generation = $1", generation)

    second = replace(BOARD, version=2, apply=louder)
    made = projector(life, second)
    await made.advance("sender", second)
    assert "!" not in postgres.run(
        "SELECT string_agg(path, '') FROM sender.board WHERE generation = 1"
    )
    await drain(made, second)
    assert postgres.run("SELECT version FROM sender.projection") == 2
    assert postgres.run("SELECT min(generation) FROM sender.board") == 2
    # A process of the release before knows nothing of it, and leaves it alone.
    await write(life, rounds=1)
    assert await drain(projector(life)) == 0


async def test_a_late_commit_is_not_skipped(life: Life) -> None:
    made = projector(life)
    async with life.database.session("sender", tenant="acme") as slow, slow.transaction():
        await move(slow, "late")
        async with life.database.session("sender", tenant="acme") as quick:
            await move(quick, "early")
        assert await drain(made) == 0
    assert await drain(made) == 2


async def test_two_at_once_apply_each_event_once(life: Life, postgres: Postgres) -> None:
    await write(life, rounds=5)
    both = [projector(life), projector(life)]
    await both[0].advance("sender", BOARD)
    await asyncio.gather(*(drain(one) for one in both))
    assert postgres.run("SELECT sum(moves) FROM sender.board") == 30
    assert postgres.run("SELECT count(*) FROM sender.board WHERE path <> '1 2 3 4 5'") == 0


async def test_what_fails_leaves_its_place(life: Life, postgres: Postgres) -> None:
    await write(life, rounds=1)

    async def fail(session: Session, generation: int, recorded: Recorded) -> None:
        await show(session, generation, recorded)
        if recorded.stream == "other_b":
            raise ZeroDivisionError

    broken = replace(BOARD, apply=fail)
    with pytest.raises(ZeroDivisionError):
        await drain(projector(life, broken), broken)
    assert postgres.run("SELECT count(*) FROM sender.board") == 0
    assert await drain(projector(life)) == 6


async def test_what_fails_for_long_is_tried_again_for_as_long(life: Life) -> None:
    """Longer than a transaction may run, and with nothing written meanwhile."""
    clock, tries, broken = FakeClock(), 0, True

    async def fail(session: Session, generation: int, recorded: Recorded) -> None:
        nonlocal tries
        tries += 1
        if broken:
            raise ZeroDivisionError
        await show(session, generation, recorded)

    async def tried() -> bool:
        return tries > known

    async def shown() -> bool:
        async with life.database.session("sender", tenant="acme") as session:
            return bool(await session.value("SELECT moves FROM board"))

    failing = {"sender": (replace(BOARD, apply=fail),)}
    made = Projector(life.database, life.notices, failing, SETTINGS, clock)
    async with life.database.session("sender", tenant="acme") as session:
        await move(session, "a")
    life.keep("project", made.run)
    for _ in range(4):
        known = tries
        await until(tried)
        clock.advance(WATCH_SECONDS / 2)
    broken = False
    await until(shown)
    await life.group.stop()


async def test_a_reader_may_wait_for_what_it_wrote(life: Life) -> None:
    made = projector(life)
    async with life.database.session("sender", tenant="acme") as session:
        await move(session, "a")
        await drain(made)
        async with session.transaction():
            found = await execute(
                session, THING, "a", lambda _: [Moved(thing="a", number=2)], origin=origin()
            )
        with pytest.raises(Behind):
            await wait_for(session, BOARD, found.position, seconds=0.1)
        epoch, xid, seq = parse_position(found.position)
        for never in (position(epoch=epoch, xid=xid + 10**6, seq=seq), f"{epoch + 1:06d}{_LAST}"):
            with pytest.raises(Unwritten):
                await wait_for(session, BOARD, never, seconds=60)
        life.run(only=("project",))
        await wait_for(session, BOARD, found.position)
        assert await session.value("SELECT moves FROM board") == 2


def test_a_position_is_as_its_shape_says() -> None:
    for xid, seq in ((0, 0), (2**62, 2**62)):
        assert re.fullmatch(POSITION, position(epoch=1, xid=xid, seq=seq))
    assert not re.fullmatch(POSITION, position(epoch=1, xid=2**64 - 1, seq=0))


async def test_the_loop_keeps_up_without_being_told(life: Life, postgres: Postgres) -> None:
    life.keep("project", projector(life).run)
    await write(life, rounds=2)

    async def shown() -> Any:
        return postgres.run("SELECT sum(moves) FROM sender.board") == 12

    await until(shown)

"""The pool: whom a session works as, what it may see, who waits, what breaks and what comes back.

On a real PostgreSQL; the tests that kill it have one of their own.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import asyncpg
import pytest

from ops.db import Database, DatabaseSettings, Pin, Session
from ops.db_faults import DatabaseFault, Duplicate, Violation
from ops.migrate import migrate
from tests.fakes.postgres import LOGIN, Postgres, PostgresServer
from tests.fakes.schemas import NOTES, notes, schema

SETTINGS = DatabaseSettings(
    connections_max=4, waiters_max=8, wait_seconds=0.5, statement_seconds=5.0
)
RECOVERY_SECONDS = 2.0 if os.environ.get("NEXUS_PROVE") == "1" else 15.0
"""As claimed, on a machine that does nothing else; the short form finds what is broken."""
INSERT = "INSERT INTO note (tenant, id, body) VALUES ($1, $2, $3)"


async def prepared(postgres: Postgres, root: Path) -> None:
    schemas = [notes(root), notes(root, "other")]
    await migrate(postgres.admin_url, schemas, logins=(LOGIN,))


@pytest.fixture
async def database(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Database]:
    await prepared(postgres, tmp_path)
    async with Database(postgres.url, SETTINGS) as database:
        yield database


def open_connections(postgres: Postgres) -> int:
    return int(
        postgres.run(
            "SELECT count(*) FROM pg_stat_activity WHERE usename = $1 AND datname = $2",
            LOGIN,
            postgres.name,
        )
    )


async def until(what: str, check: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.01)


async def pid(session: Session) -> int:
    return int(await session.value("SELECT pg_backend_pid()"))


async def write(database: Database, tenant: str, number: int, body: str = "hello") -> None:
    async with database.session("notes", tenant=tenant) as session:
        await session.run(INSERT, tenant, number, body)


async def test_a_session_has_its_role_schema_and_tenant(database: Database) -> None:
    async with database.session("notes", tenant="acme") as session:
        row = await session.row(
            "SELECT current_user::text, session_user::text,"
            " current_setting('search_path'), current_setting('nexus.tenant')"
        )
        assert row is not None
        assert tuple(row) == ("nexus_notes", LOGIN, "notes", "acme")
        assert session.pin == Pin("nexus_notes", "notes", "acme")


async def test_a_tenant_sees_its_own_rows_and_no_tenant_sees_none(database: Database) -> None:
    await write(database, "acme", 1)
    await write(database, "umbrella", 1)
    for tenant, seen in (("acme", 1), ("umbrella", 1), ("stranger", 0), ("", 0)):
        async with database.session("notes", tenant=tenant) as session:
            rows = await session.rows("SELECT tenant FROM note")
            assert [row["tenant"] for row in rows] == [tenant] * seen
            touched = await session.run("UPDATE note SET body = 'mine' WHERE tenant = 'acme'")
            assert touched == (1 if tenant == "acme" else 0)


@pytest.mark.parametrize("tenant", ["acme", ""])
async def test_rows_of_another_tenant_cannot_be_written(database: Database, tenant: str) -> None:
    async with database.session("notes", tenant=tenant) as session:
        for other in ("umbrella", ""):
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
                await session.run(INSERT, other, 1, "forged")
    await write(database, "acme", 1)
    async with database.session("notes", tenant="acme") as session:
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="row-level security"):
            await session.run("UPDATE note SET tenant = 'umbrella'")


async def test_another_services_tables_are_out_of_reach(database: Database) -> None:
    async with database.session("other", tenant="acme") as session:
        await session.run(INSERT, "acme", 1, "secret")
    async with database.session("notes", tenant="acme") as session:
        for sql in (
            "SELECT * FROM other.note",
            "SELECT note.body FROM note JOIN other.note AS n USING (id)",
            "DELETE FROM other.note",
            "SELECT * FROM nexus.migration",
            "CREATE TABLE notes.more (tenant text)",
            "CREATE TABLE public.more (tenant text)",
            "ALTER TABLE note DISABLE ROW LEVEL SECURITY",
            "SET ROLE nexus_notes_owner",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await session.run(sql)


async def test_a_login_without_a_pin_may_do_nothing(postgres: Postgres, tmp_path: Path) -> None:
    await prepared(postgres, tmp_path)
    connection = await asyncpg.connect(postgres.url)
    try:
        for sql in ("SELECT * FROM notes.note", "CREATE SCHEMA mine", "CREATE ROLE mine"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(sql)
    finally:
        await connection.close()


async def test_the_same_pin_finds_its_connection_again(database: Database) -> None:
    async with database.session("notes", tenant="acme") as session:
        first = await pid(session)
    async with database.session("notes", tenant="umbrella") as session:
        second = await pid(session)
    for _ in range(3):
        for tenant, wanted in (("acme", first), ("umbrella", second)):
            async with database.session("notes", tenant=tenant) as session:
                assert await pid(session) == wanted


async def test_many_tenants_share_few_connections(database: Database, postgres: Postgres) -> None:
    """Each sees its own rows whichever connection it gets, and the limit holds."""

    async def work(number: int) -> None:
        tenant = f"t{number % 7}"
        async with database.session("notes", tenant=tenant) as session:
            await session.run(
                "INSERT INTO note VALUES ($1, $2, 'hello') ON CONFLICT DO NOTHING", tenant, number
            )
            rows = await session.rows("SELECT DISTINCT tenant FROM note")
            assert [row["tenant"] for row in rows] == [tenant]

    for begin in range(0, 120, 12):
        await asyncio.gather(*(work(number) for number in range(begin, begin + 12)))
    assert 1 <= open_connections(postgres) <= SETTINGS.connections_max


async def test_waiters_are_served_in_order(postgres: Postgres, tmp_path: Path) -> None:
    await prepared(postgres, tmp_path)
    settings = replace(SETTINGS, connections_max=2, wait_seconds=5.0)
    order: list[int] = []
    async with Database(postgres.url, settings) as database:

        async def work(number: int) -> None:
            async with database.session("notes", tenant=f"t{number}") as session:
                order.append(number)
                await session.value("SELECT 1")

        async with database.session("notes", tenant="a"):
            async with database.session("notes", tenant="b"):
                tasks = [asyncio.ensure_future(work(number)) for number in range(8)]
                await asyncio.sleep(0)
                assert order == []
            await asyncio.gather(*tasks)
    assert order == list(range(8))


async def test_a_full_line_refuses_and_a_long_wait_ends(database: Database) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for number in range(SETTINGS.connections_max):
            await stack.enter_async_context(database.session("notes", tenant=f"t{number}"))
        began = time.monotonic()
        found = await asyncio.gather(
            *(write(database, "acme", number) for number in range(SETTINGS.waiters_max + 3)),
            return_exceptions=True,
        )
        waited = time.monotonic() - began
    assert SETTINGS.wait_seconds <= waited < SETTINGS.wait_seconds + 1
    assert len(found) == SETTINGS.waiters_max + 3
    for fault in found:
        assert isinstance(fault, DatabaseFault)
        assert (fault.code, fault.retry_after_seconds) == ("db.busy", 1)
    assert sum(str(fault) == "too many wait" for fault in found) == 3
    await write(database, "acme", 1)


async def test_those_who_give_up_waiting_take_nothing_with_them(
    database: Database, postgres: Postgres
) -> None:
    for _ in range(20):
        tasks = [asyncio.ensure_future(write(database, "acme", n)) for n in range(10)]
        await asyncio.sleep(0.002)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with database.session("notes", tenant="acme") as session:
            await session.run("DELETE FROM note")
    async with contextlib.AsyncExitStack() as stack:
        # Every connection can still be had at once.
        for number in range(SETTINGS.connections_max):
            await stack.enter_async_context(database.session("notes", tenant=f"t{number}"))
        assert open_connections(postgres) == SETTINGS.connections_max


async def test_a_session_left_in_a_transaction_is_not_used_again(database: Database) -> None:
    async with database.session("notes", tenant="acme") as session:
        left = await pid(session)
        await session.run("BEGIN")
        await session.run(INSERT, "acme", 1, "never")
        assert session.in_transaction
    async with database.session("notes", tenant="acme") as session:
        assert await pid(session) != left
        assert await session.rows("SELECT * FROM note") == []


async def fail_inside(session: Session) -> None:
    async with session.transaction():
        await session.run(INSERT, "acme", 1, "gone")
        raise ZeroDivisionError


async def test_a_transaction_is_whole_or_nothing(database: Database) -> None:
    async with database.session("notes", tenant="acme") as session:
        async with session.transaction():
            with pytest.raises(ZeroDivisionError):
                await fail_inside(session)
            assert await session.value("SELECT count(*) FROM note") == 0
        async with session.transaction():
            await session.run(INSERT, "acme", 2, "kept")
            with pytest.raises(Duplicate):
                async with session.transaction():
                    await session.run(INSERT, "acme", 2, "again")
        rows = await session.rows("SELECT id FROM note")
        assert [row["id"] for row in rows] == [2]


async def test_cancelled_work_is_rolled_back_and_its_connection_is_sound(
    database: Database, postgres: Postgres
) -> None:
    started = asyncio.Event()

    async def work() -> None:
        async with database.session("notes", tenant="acme") as session, session.transaction():
            await session.run(INSERT, "acme", 1, "gone")
            started.set()
            await session.value("SELECT pg_sleep(30)")

    task = asyncio.ensure_future(work())
    await started.wait()
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for number in range(2, 2 + SETTINGS.connections_max * 2):
        await write(database, "acme", number)
    async with database.session("notes", tenant="acme") as session:
        assert await session.value("SELECT count(*) FROM note WHERE id = 1") == 0
    busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> "
    await until("nothing sleeps", lambda: postgres.run(busy + "pg_backend_pid()") == 0)


@pytest.mark.parametrize("steps", range(1, 6))
async def test_a_transaction_whose_begin_was_cancelled_swallows_no_other(
    database: Database, postgres: Postgres, steps: int
) -> None:
    await write(database, "acme", 1)

    async def begin() -> None:
        async with (
            database.session("notes", tenant="acme") as session,
            session.transaction(),
        ):
            await session.run(INSERT, "acme", 2, "cancelled")

    async with asyncio.TaskGroup() as group:
        # The one idle connection: after so many turns of the loop BEGIN is under way, or done.
        task = group.create_task(begin())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
    for number in range(3, 6):
        async with (
            database.session("notes", tenant="acme") as session,
            session.transaction(),
        ):
            await session.run(INSERT, "acme", number, "acknowledged")
    kept = postgres.run("SELECT array_agg(id ORDER BY id) FROM notes.note WHERE id > 2")
    assert kept == [3, 4, 5]


async def test_refusals_of_the_data_are_told_apart(database: Database) -> None:
    await write(database, "acme", 1)
    with pytest.raises(Duplicate) as duplicate:
        await write(database, "acme", 1)
    assert duplicate.value.constraint == "note_pkey"
    with pytest.raises(Violation) as violation:
        await write(database, "acme", 2, "")
    assert violation.value.constraint == "note_says_something"
    async with database.session("notes", tenant="acme") as session:
        for wrong in (("acme", 1), ("acme", "one", "hello")):
            with pytest.raises((asyncpg.InterfaceError, asyncpg.DataError)):
                await session.run(INSERT, *wrong)
        with pytest.raises(asyncpg.UndefinedTableError):
            await session.rows("SELECT * FROM nowhere")


async def test_a_slow_statement_is_cancelled(postgres: Postgres, tmp_path: Path) -> None:
    await prepared(postgres, tmp_path)
    settings = replace(SETTINGS, statement_seconds=0.2)
    async with Database(postgres.url, settings) as database:
        async with database.session("notes", tenant="acme") as session:
            with pytest.raises(DatabaseFault) as slow:
                await session.value("SELECT pg_sleep(20)")
            assert slow.value.code == "db.slow"
        await write(database, "acme", 1)


async def meet(a: Session, b: Session) -> None:
    """`b` changes what `a` has seen and then wants to change."""
    async with a.transaction():
        await a.run("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await a.rows("SELECT * FROM note")
        await b.run("UPDATE note SET body = 'b'")
        await a.run("UPDATE note SET body = 'a'")


async def test_transactions_that_meet_are_told_to_repeat(database: Database) -> None:
    await write(database, "acme", 1)
    async with (
        database.session("notes", tenant="acme") as a,
        database.session("notes", tenant="acme") as b,
    ):
        with pytest.raises(DatabaseFault) as met:
            await meet(a, b)
        assert met.value.code == "db.conflict"
        assert await a.value("SELECT body FROM note") == "b"


async def test_many_rows_are_written_at_once(database: Database) -> None:
    async with database.session("notes", tenant="acme") as session:
        await session.run_many(INSERT, [("acme", number, "x") for number in range(500)])
        assert await session.value("SELECT count(*) FROM note") == 500
        with pytest.raises(Duplicate):
            await session.run_many(INSERT, [("acme", 1_000, "x"), ("acme", 1, "x")])
        assert await session.value("SELECT count(*) FROM note") == 500


async def test_copy_is_for_tables_without_tenants(postgres: Postgres, tmp_path: Path) -> None:
    shared = "CREATE TABLE rate (code text); COMMENT ON TABLE rate IS 'shared: for everybody';"
    both = schema(tmp_path, "rates", create_rates=shared, create_notes=NOTES)
    await migrate(postgres.admin_url, [both], logins=(LOGIN,))
    async with (
        Database(postgres.url, SETTINGS) as database,
        database.session("rates", tenant="acme") as session,
    ):
        await session.copy_in("rate", columns=("code",), rows=[("eur",), ("usd",)])
        assert await session.value("SELECT count(*) FROM rate") == 2
        with pytest.raises(asyncpg.FeatureNotSupportedError, match="row-level security"):
            await session.copy_in("note", columns=("tenant", "id", "body"), rows=[("acme", 1, "x")])
        assert await session.value("SELECT count(*) FROM note") == 0


async def test_leaving_closes_every_connection(postgres: Postgres, tmp_path: Path) -> None:
    await prepared(postgres, tmp_path)
    async with Database(postgres.url, SETTINGS) as database:
        await asyncio.gather(*(write(database, "acme", number) for number in range(8)))
        assert open_connections(postgres) > 0
    await until("all are closed", lambda: open_connections(postgres) == 0)
    with pytest.raises(DatabaseFault):
        await write(database, "acme", 9)


async def test_ended_connections_are_replaced(database: Database, postgres: Postgres) -> None:
    """What a failover or an administrator does: every session is ended. Nobody who comes afterwards
    meets one of them, whatever tenant it was pinned to."""
    tenants = [f"t{number % 3}" for number in range(8)]
    await asyncio.gather(*(write(database, name, at) for at, name in enumerate(tenants)))
    assert len(database._idle) > 1
    postgres.run(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = $1", LOGIN
    )
    await until("all are closed", lambda: open_connections(postgres) == 0)
    await until("we have heard", lambda: all(one.is_closed() for one in database._idle))
    for number in range(8, 32):
        await write(database, f"t{number % 5}", number)


@pytest.fixture
def own_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


async def under_load(
    database: Database, disturb: Callable[[], Awaitable[None]]
) -> tuple[list[BaseException], float]:
    """Faults of eight writers while the server is disturbed, and when after that all was well."""
    faults: list[BaseException] = []
    back = 0.0
    stop = False
    numbers = iter(range(1_000_000))
    acknowledged: list[int] = []

    async def work() -> None:
        nonlocal back
        while not stop:
            number = next(numbers)
            try:
                await write(database, "acme", number)
            except DatabaseFault as fault:
                faults.append(fault)
                await asyncio.sleep(0.01)
            else:
                acknowledged.append(number)
                back = back or (time.monotonic() if disturbed else 0.0)

    disturbed = False
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(work())
        await asyncio.sleep(0.2)
        await disturb()
        disturbed = True
        began = time.monotonic()
        await until("it serves again", lambda: back > 0, RECOVERY_SECONDS + 5)
        await asyncio.sleep(0.2)
        stop = True
    async with database.session("notes", tenant="acme") as session:
        rows = await session.rows("SELECT id FROM note")
    assert set(acknowledged) <= {row["id"] for row in rows}, "an acknowledged write is lost"
    return faults, back - began


async def test_a_killed_server_under_load_makes_faults_and_comes_back(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    postgres = own_server.database()
    await prepared(postgres, tmp_path)

    async def kill_and_start() -> None:
        await asyncio.to_thread(own_server.kill)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(own_server.start)

    async with Database(postgres.url, SETTINGS) as database:
        faults, seconds = await under_load(database, kill_and_start)
    assert faults, "nobody noticed"
    assert {type(fault) for fault in faults} == {DatabaseFault}
    assert seconds < RECOVERY_SECONDS


async def test_a_server_that_is_away_is_said_at_once(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    postgres = own_server.database()
    await prepared(postgres, tmp_path)
    own_server.stop()
    async with Database(postgres.url, SETTINGS) as database:
        began = time.monotonic()
        for number in range(20):
            with pytest.raises(DatabaseFault) as away:
                await write(database, "acme", number)
            assert away.value.code == "db.unavailable"
        assert time.monotonic() - began < 1.0
        await asyncio.to_thread(own_server.start)
        await write(database, "acme", 1)

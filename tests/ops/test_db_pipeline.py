"""Reads that share a connection: each sees its own tenant, and fails alone."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from ops.db import Database, DatabaseSettings
from ops.db_faults import DatabaseFault
from ops.db_reader import Reader
from ops.migrate import Folder, Schema, migrate
from tests.fakes.postgres import LOGIN, Postgres, PostgresServer

TENANTS = [f"t{number}" for number in range(20)]
TABLE = """
CREATE TABLE thing (
    id integer NOT NULL,
    tenant text NOT NULL,
    name text NOT NULL,
    PRIMARY KEY (tenant, id)
);
"""
BY_ID = "SELECT id, tenant, name FROM thing WHERE id = $1"


async def make(postgres: Postgres, folder: Path) -> None:
    (folder / "0001_create_thing.sql").write_text(TABLE)
    schema = Schema("shop", (Folder("shop", folder),))
    await migrate(postgres.admin_url, [schema], logins=(LOGIN,))
    for tenant in TENANTS:
        postgres.run(
            "INSERT INTO shop.thing SELECT n, $1, $1 || '-' || n FROM generate_series(1, 50) n",
            tenant,
        )


@pytest.fixture
async def database(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Database]:
    await make(postgres, tmp_path)
    settings = DatabaseSettings(connections_max=4, pipelines_max=1)
    async with Database(postgres.url, settings) as opened:
        yield opened


def reader(database: Database, tenant: str = "t1") -> Reader:
    return Reader(database, "shop", tenant=tenant)


def connections(postgres: Postgres) -> int:
    """Of the application, to this database."""
    count: int = postgres.run(
        f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{LOGIN}'"
        " AND datname = current_database()"
    )
    return count


async def test_a_thousand_reads_of_many_tenants_share_one_connection(
    database: Database, postgres: Postgres
) -> None:
    choose = random.Random(1)
    asked = [(choose.choice(TENANTS), choose.randint(1, 60)) for _ in range(1_000)]

    async def ask(tenant: str, number: int) -> object:
        async with reader(database, tenant) as session:
            return await session.row(BY_ID, number)

    await ask("t1", 1)
    for batch in range(0, 1_000, 50):
        part = asked[batch : batch + 50]
        found = await asyncio.gather(*(ask(*item) for item in part))
        assert found == [
            {"id": number, "tenant": tenant, "name": f"{tenant}-{number}"} if number <= 50 else None
            for tenant, number in part
        ]
    assert connections(postgres) == 1


async def test_without_a_tenant_no_row_is_seen(database: Database) -> None:
    async with reader(database, "") as session:
        assert await session.row(BY_ID, 1) is None
    async with reader(database, "t1") as session:
        assert await session.value("SELECT current_setting('nexus.tenant')") == "t1"
        assert await session.value("SELECT current_user::text") == "nexus_shop"


async def test_one_that_fails_fails_alone(database: Database) -> None:
    async def ask(sql: str, *values: object) -> object:
        async with reader(database) as session:
            return await session.value(sql, *values)

    results = await asyncio.gather(
        ask("SELECT name FROM thing WHERE id = $1", 1),
        ask("SELECT 1 / $1::int", 0),
        ask("SELECT no_such_column FROM thing"),
        ask("SELECT name FROM thing WHERE id = $1", 2),
        ask("SELECT no_such_column FROM thing"),
        ask("SELECT name FROM other.thing"),
        ask("SELECT name FROM thing WHERE id = $1", 3),
        return_exceptions=True,
    )
    assert [results[place] for place in (0, 3, 6)] == ["t1-1", "t1-2", "t1-3"]
    assert isinstance(results[1], asyncpg.DivisionByZeroError)
    assert isinstance(results[2], asyncpg.UndefinedColumnError)
    assert isinstance(results[4], asyncpg.UndefinedColumnError)
    assert isinstance(results[5], asyncpg.PostgresError)


VALUES = [
    ("text", "grün \\ ' \" \n"),
    ("text", ""),
    ("text", None),
    ("integer", -5),
    ("bigint", 2**62),
    ("boolean", True),
    ("boolean", False),
    ("bytea", bytes(range(256))),
    ("bytea", b""),
    ("numeric", Decimal("12345678901234567890.123456789")),
    ("uuid", UUID(int=5)),
    ("timestamptz", datetime(2026, 11, 23, 1, 2, 3, 456789, UTC)),
    ("jsonb", '{"a": 1}'),
]


@pytest.mark.parametrize(("kind", "value"), VALUES)
async def test_values_come_back_as_they_went(database: Database, kind: str, value: object) -> None:
    async with reader(database) as session:
        assert await session.value(f"SELECT $1::{kind}", value) == value


@pytest.mark.parametrize(
    ("sql", "values", "expected"),
    [
        ("SELECT $1::text[]", (["a", "b"],), ["a", "b"]),
        ("SELECT $1::float8", (1.5,), 1.5),
        ("SELECT array_agg(id ORDER BY id) FROM thing WHERE id < $1", (3,), [1, 2]),
        ("SELECT $1::date", (date(2026, 11, 23),), date(2026, 11, 23)),
        ("SELECT 'infinity'::date", (), date.max),
    ],
)
async def test_what_the_short_way_cannot_carry_takes_the_long_one(
    database: Database, sql: str, values: tuple[object, ...], expected: object
) -> None:
    async with reader(database) as session:
        for _ in range(2):
            assert await session.value(sql, *values) == expected


async def test_a_changed_table_is_read_anew(database: Database, postgres: Postgres) -> None:
    async with reader(database) as session:
        assert len(await session.row("SELECT * FROM thing WHERE id = $1", 1)) == 3
        postgres.run("ALTER TABLE shop.thing ADD COLUMN colour text DEFAULT 'red'")
        for _ in range(3):
            row = await session.row("SELECT * FROM thing WHERE id = $1", 1)
            assert row["colour"] == "red"


async def test_who_does_not_wait_for_the_answer_disturbs_nobody(database: Database) -> None:
    async def ask(number: int) -> object:
        async with reader(database) as session:
            return await session.value("SELECT name FROM thing WHERE id = $1", number)

    await ask(1)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(number)) for number in range(1, 41)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
    assert [task.result() for task in tasks[1::2]] == [f"t1-{n}" for n in range(2, 41, 2)]


async def test_several_statements_may_be_one_transaction(database: Database) -> None:
    async with reader(database) as session:
        assert not session.in_transaction
        async with session.transaction():
            assert session.in_transaction
            await session.run("INSERT INTO thing VALUES (99, 't1', 'new')")
            assert (await session.row(BY_ID, 99))["name"] == "new"
            assert len(await session.rows("SELECT 1 FROM thing")) == 51
        assert not session.in_transaction


async def test_a_lost_connection_is_told_and_replaced(tmp_path: Path) -> None:
    with PostgresServer() as server:
        postgres = server.database()
        await make(postgres, tmp_path)
        async with Database(postgres.url, DatabaseSettings()) as database:

            async def ask() -> object:
                async with reader(database) as session:
                    return await session.value("SELECT current_setting('nexus.tenant')")

            assert await ask() == "t1"
            server.kill()
            for _ in range(3):
                with pytest.raises(DatabaseFault):
                    await ask()
                with pytest.raises(DatabaseFault):
                    async with reader(database) as session:
                        await session.rows("SELECT 1")
            server.start()
            assert await ask() == "t1"


async def test_a_slow_read_sends_others_to_the_pool(database: Database) -> None:
    async def slow() -> object:
        async with reader(database) as session:
            return await session.value("SELECT pg_sleep(1)::text")

    async def quick(number: int) -> object:
        async with reader(database) as session:
            return await session.value("SELECT $1::int", number)

    await quick(0)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(slow())
        # As many as the shared connection may owe stand behind it; the next take the pool's.
        others = [group.create_task(quick(number)) for number in range(80)]
        last = others[-5:]
        for task in last:
            assert await task is not None
        assert not waiting.done()
    assert [task.result() for task in others] == list(range(80))

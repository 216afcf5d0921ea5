"""Who commits is told of, in its own process and in others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from ops.changes import CHANNEL, PAYLOAD_BYTES_MAX, TENANTS_MAX, Changes
from ops.db import Database, DatabaseSettings
from ops.notices import Notices
from ops.tasks import SupervisedGroup
from tests.fakes.calls import Calls, served
from tests.fakes.notes.service import NOTES
from tests.fakes.postgres import Postgres

Told = list[tuple[str, frozenset[str]]]
EVERYTHING = ("", frozenset[str]())
WAIT_SECONDS = 10.0


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[Database]:
    async with served(postgres, NOTES) as calls:
        yield calls.database


@asynccontextmanager
async def process(database: Database, url: str) -> AsyncIterator[tuple[Changes, Told]]:
    """One that tells and hears, and listens already."""
    told: Told = []
    changes, notices = Changes(database), Notices(url, DatabaseSettings())
    changes.watch(lambda schema, tenants: told.append((schema, tenants)))
    notices.subscribe(CHANNEL, changes.heard)
    async with SupervisedGroup("process") as tasks:
        tasks.keep("notices", notices.run)
        tasks.keep("tell", changes.run)
        await until(lambda: EVERYTHING in told)
        told.clear()
        yield changes, told


async def until(check: object) -> None:
    assert callable(check)
    async with asyncio.timeout(WAIT_SECONDS):
        while not check():  # noqa: ASYNC110 - another task does it
            await asyncio.sleep(0.01)


async def test_a_change_is_heard_once_here_and_there(
    database: Database, postgres: Postgres
) -> None:
    async with (
        process(database, postgres.url) as (here, told_here),
        process(database, postgres.url) as (_, told_there),
    ):
        here.mark("notes", frozenset({"acme"}))
        assert told_here == [("notes", frozenset({"acme"}))], "at once"
        await until(lambda: told_there)
        here.mark("notes", frozenset({"last"}))
        await until(lambda: len(told_there) == 2)
        assert (
            told_there
            == told_here
            == [
                ("notes", frozenset({"acme"})),
                ("notes", frozenset({"last"})),
            ]
        )


async def test_many_changes_are_one_notice(database: Database, postgres: Postgres) -> None:
    async with (
        process(database, postgres.url) as (here, _),
        process(database, postgres.url) as (_, told),
    ):
        for number in range(TENANTS_MAX):
            here.mark("notes", frozenset({f"tenant {number}"}))
        here.mark("other", frozenset())
        here.mark("other", frozenset({"acme"}))
        await until(lambda: any(schema == "other" for schema, _ in told))
        assert len(told) <= 3
        assert ("other", frozenset()) in told, "any tenant's: one more says nothing new"
        found = {tenant for _, tenants in told for tenant in tenants}
        assert found == {f"tenant {number}" for number in range(TENANTS_MAX)}


async def test_more_than_a_notice_holds_is_told_as_all(
    database: Database, postgres: Postgres
) -> None:
    async with (
        process(database, postgres.url) as (here, _),
        process(database, postgres.url) as (_, told),
    ):
        here.mark("notes", frozenset({"x" * PAYLOAD_BYTES_MAX}))
        await until(lambda: told)
        assert told == [("notes", frozenset())]


async def test_transactions_tell_what_they_have_changed(database: Database) -> None:
    told: Told = []
    database.committed = lambda schema, tenants: told.append((schema, tenants))
    async with database.session("notes", tenant="acme") as session:
        await session.value("SELECT count(*) FROM note")
        async with session.transaction(), session.transaction():
            assert told == []
        assert told == [("notes", frozenset({"acme"}))], "once, and not for what is inside"
        with pytest.raises(LookupError):
            async with session.transaction():
                raise LookupError
        assert len(told) == 1
    async with database.session("notes", tenant="") as session:
        async with session.transaction():
            session.concerns("one")
            session.concerns("two")
        async with session.transaction():
            pass
    assert told[1:] == [("notes", frozenset({"one", "two"})), ("notes", frozenset())]
    async with database.relay("notes") as session, session.transaction():
        pass
    assert len(told) == 3, "whoever carries events changes nothing that is shown"


async def test_every_write_of_the_kit_tells(postgres: Postgres) -> None:
    async with served(postgres, NOTES) as calls:
        assert isinstance(calls, Calls)
        told: Told = []
        calls.database.committed = lambda schema, tenants: told.append((schema, tenants))
        await calls.told("notes")
        assert told == []
        await calls.told("add", body={"title": "a"})
        assert told == [("notes", frozenset({"acme"}))]

"""Migrations: once each, in order, never edited, one migrator at a time, tables closed behind them.

On a real PostgreSQL, with schemas written on the spot.
"""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from ops.db import Database, DatabaseSettings
from ops.migrate import Folder, MigrationError, Schema, migrate, read_folder
from tests.fakes.postgres import LOGIN, Postgres, PostgresServer
from tests.fakes.schemas import NOTES, notes, schema

MORE = "ALTER TABLE note ADD COLUMN pinned boolean NOT NULL DEFAULT false;"


async def bring(postgres: Postgres, *schemas: Schema) -> int:
    return await migrate(postgres.admin_url, schemas, logins=(LOGIN,))


async def test_each_file_runs_once_and_new_ones_follow(postgres: Postgres, tmp_path: Path) -> None:
    assert await bring(postgres, notes(tmp_path)) == 1
    assert await bring(postgres, notes(tmp_path)) == 0
    longer = schema(tmp_path, "notes", create_notes=NOTES, add_pinned=MORE)
    assert await bring(postgres, longer, notes(tmp_path, "other")) == 2
    assert await bring(postgres, longer, notes(tmp_path, "other")) == 0
    assert postgres.run("SELECT count(*) FROM nexus.migration") == 3
    assert postgres.run("SELECT count(*) FROM notes.note WHERE pinned") == 0


async def test_kernels_come_before_the_service(postgres: Postgres, tmp_path: Path) -> None:
    kernel = schema(tmp_path, "jobs", create_jobs=NOTES.replace("note", "job"))
    uses = "CREATE VIEW due AS SELECT id FROM job;"
    service = schema(tmp_path, "guests", create_view=uses)
    both = Schema("guests", (*kernel.folders, *service.folders))
    assert await bring(postgres, both) == 2
    found = postgres.run("SELECT string_agg(owner, ',' ORDER BY applied_at) FROM nexus.migration")
    assert found == "jobs,guests"


async def test_the_service_owns_nothing_and_the_owner_cannot_log_in(
    postgres: Postgres, tmp_path: Path
) -> None:
    await bring(postgres, notes(tmp_path))
    owner = "SELECT tableowner FROM pg_tables WHERE schemaname = 'notes'"
    assert postgres.run(owner) == "nexus_notes_owner"
    for role in ("nexus_notes", "nexus_notes_owner", "nexus_relay"):
        rights = "SELECT rolcanlogin OR rolsuper OR rolbypassrls OR rolinherit FROM pg_roles"
        assert postgres.run(f"{rights} WHERE rolname = $1", role) is False
    closed = "SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = $1::regclass"
    assert postgres.run(closed.replace("$1", "'notes.note'")) is True
    may = "SELECT pg_has_role($1, 'nexus_notes', 'SET'), pg_has_role($1, 'nexus_notes', 'USAGE')"
    assert postgres.run(may, LOGIN) is True
    assert postgres.run(may.replace("'SET'", "'USAGE'"), LOGIN) is False
    assert postgres.run(may.replace("nexus_notes", "nexus_notes_owner"), LOGIN) is False


async def test_a_new_login_is_let_in_later(postgres: Postgres, tmp_path: Path) -> None:
    """As when a dump was read into another server, or the password's owner changed."""
    late = f"late_{postgres.name}"
    await migrate(postgres.admin_url, [notes(tmp_path, late)])
    async with Database(postgres.url, DatabaseSettings()) as database:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await database.session(late, tenant="acme").__aenter__()
        assert await bring(postgres, notes(tmp_path, late)) == 0
        async with database.session(late, tenant="acme") as session:
            assert await session.rows("SELECT * FROM note") == []


async def test_migrations_see_rows_of_all_tenants(postgres: Postgres, tmp_path: Path) -> None:
    await bring(postgres, notes(tmp_path))
    async with Database(postgres.url, DatabaseSettings()) as database:
        for tenant in ("acme", "umbrella"):
            async with database.session("notes", tenant=tenant) as session:
                await session.run("INSERT INTO note VALUES ($1, 1, 'hello')", tenant)
    mend = "UPDATE note SET body = upper(body);"
    assert await bring(postgres, schema(tmp_path, "notes", create_notes=NOTES, mend_body=mend)) == 1
    assert postgres.run("SELECT string_agg(body, ',') FROM notes.note") == "HELLO,HELLO"


async def test_new_tables_are_closed_too(postgres: Postgres, tmp_path: Path) -> None:
    await bring(postgres, notes(tmp_path))
    second = NOTES.replace("note", "memo")
    await bring(postgres, schema(tmp_path, "notes", create_notes=NOTES, create_memos=second))
    async with Database(postgres.url, DatabaseSettings()) as database:
        async with database.session("notes", tenant="acme") as session:
            await session.run("INSERT INTO memo VALUES ('acme', 1, 'hello')")
        async with database.session("notes", tenant="umbrella") as session:
            assert await session.rows("SELECT * FROM memo") == []


async def test_an_edited_file_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    await bring(postgres, notes(tmp_path))
    edited = schema(tmp_path, "notes", create_notes=NOTES + "-- a remark\n")
    with pytest.raises(MigrationError, match="notes: 0001_create_notes of notes was edited"):
        await bring(postgres, edited)


async def test_files_that_a_newer_release_ran_are_no_fault(
    postgres: Postgres, tmp_path: Path
) -> None:
    """The previous release starts beside the new one, or again after it."""
    await bring(postgres, schema(tmp_path, "notes", create_notes=NOTES, add_pinned=MORE))
    (tmp_path / "notes" / "0002_add_pinned.sql").unlink()
    assert await bring(postgres, notes(tmp_path)) == 0


async def test_gaps_twins_and_odd_names_are_refused(tmp_path: Path) -> None:
    folder = notes(tmp_path).folders[0]
    (folder.path / "0003_add_pinned.sql").write_text(MORE)
    with pytest.raises(MigrationError, match="number 0002 is missing"):
        read_folder(folder)
    (folder.path / "0002_add_one.sql").write_text(MORE)
    assert [item.number for item in read_folder(folder)] == [1, 2, 3]
    (folder.path / "0002_add_two.sql").write_text(MORE)
    with pytest.raises(MigrationError, match="or twice there"):
        read_folder(folder)
    for name in ("2_add.sql", "0004-add-pinned.sql", "0004_Add_Pinned.sql", "0004_add.sql"):
        (folder.path / name).write_text(MORE)
        with pytest.raises(MigrationError, match=r"is not NNNN_verb_noun\.sql"):
            read_folder(folder)
        (folder.path / name).unlink()


async def test_a_file_before_one_that_ran_is_refused(postgres: Postgres, tmp_path: Path) -> None:
    """As after a merge of two branches: the ledger has 2 alone when 1 changes its place."""
    await bring(postgres, schema(tmp_path, "notes", create_notes=NOTES, add_pinned=MORE))
    postgres.run("DELETE FROM nexus.migration WHERE number = 1")
    with pytest.raises(MigrationError, match="comes before one that ran already"):
        await bring(postgres, schema(tmp_path, "notes", create_notes=NOTES, add_pinned=MORE))


async def test_names_that_need_quoting_are_refused(postgres: Postgres) -> None:
    for name in ("Notes", 'no"tes', "no-tes", "1notes", "n" * 52, ""):
        with pytest.raises(MigrationError, match="cannot be a schema's name"):
            await bring(postgres, Schema(name, ()))


async def test_a_table_without_tenant_says_why(postgres: Postgres, tmp_path: Path) -> None:
    bare = "CREATE TABLE rate (currency text PRIMARY KEY);"
    with pytest.raises(MigrationError, match=r"money\.rate has no column tenant"):
        await bring(postgres, schema(tmp_path, "money", create_rates=bare))
    assert postgres.run("SELECT to_regclass('money.rate')::text") is None
    said = bare + "COMMENT ON TABLE rate IS 'shared: rates are the same for everybody';"
    assert await bring(postgres, schema(tmp_path, "money", create_rates=said)) == 1


async def test_a_file_that_fails_leaves_nothing(postgres: Postgres, tmp_path: Path) -> None:
    broken = NOTES.replace("note", "memo") + "SELECT 1 / 0;"
    with pytest.raises(asyncpg.DivisionByZeroError):
        await bring(postgres, schema(tmp_path, "notes", create_notes=NOTES, create_memos=broken))
    assert postgres.run("SELECT to_regclass('notes.memo')::text") is None
    assert postgres.run("SELECT max(number) FROM nexus.migration") == 1
    mended = schema(
        tmp_path, "notes", create_notes=NOTES, create_memos=NOTES.replace("note", "memo")
    )
    assert await bring(postgres, mended) == 1
    closed = "SELECT relforcerowsecurity FROM pg_class WHERE oid = 'notes.{}'::regclass"
    for table in ("note", "memo"):
        assert postgres.run(closed.format(table)) is True


async def test_an_index_is_built_outside_a_transaction(postgres: Postgres, tmp_path: Path) -> None:
    index = "-- no transaction\nCREATE INDEX CONCURRENTLY note_body ON note (body);"
    assert (
        await bring(postgres, schema(tmp_path, "notes", create_notes=NOTES, add_index=index)) == 2
    )
    assert postgres.run(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = 'notes.note_body'::regclass"
    )
    owner = "SELECT tableowner FROM pg_tables WHERE tablename = 'note' AND schemaname = 'notes'"
    assert postgres.run(owner) == "nexus_notes_owner"


async def test_migrators_take_turns(postgres: Postgres, tmp_path: Path) -> None:
    """Ten processes of one release start at once: each file runs once, nobody fails."""
    many = [notes(tmp_path, f"service_{number}") for number in range(4)]
    counts = await asyncio.gather(*(bring(postgres, *many) for _ in range(10)))
    assert sorted(counts) == [0] * 9 + [4]


async def test_a_locked_table_is_tried_again(postgres: Postgres, tmp_path: Path) -> None:
    await bring(postgres, notes(tmp_path))
    holder = await asyncpg.connect(postgres.admin_url)
    try:
        held = holder.transaction()
        await held.start()
        await holder.execute("LOCK TABLE notes.note IN ACCESS SHARE MODE")
        longer = schema(tmp_path, "notes", create_notes=NOTES, add_pinned=MORE)
        bringing = asyncio.ensure_future(bring(postgres, longer))
        # Beyond lock_timeout, so that the first attempt has been given up.
        done, _ = await asyncio.wait([bringing], timeout=2.1)
        assert not done
        await held.rollback()
        assert await bringing == 1
    finally:
        await holder.close()


async def test_the_run_role_is_named_to_migrations(postgres: Postgres, tmp_path: Path) -> None:
    """What a service may not change, its migration takes from it."""
    revoke = """
        DO $$ BEGIN
            EXECUTE format('REVOKE UPDATE, DELETE ON note FROM %I',
                           current_setting('nexus.run_role'));
        END $$;
    """
    await bring(postgres, schema(tmp_path, "notes", create_notes=NOTES, revoke_changes=revoke))
    async with (
        Database(postgres.url, DatabaseSettings()) as database,
        database.session("notes", tenant="acme") as session,
    ):
        await session.run("INSERT INTO note VALUES ('acme', 1, 'hello')")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await session.run("DELETE FROM note")


async def test_a_server_of_yours_need_not_give_us_a_superuser(tmp_path: Path) -> None:
    """A role that may create roles, and owns the database, is enough, even as the only login."""
    with PostgresServer() as server:
        database = server.database()
        database.run("CREATE ROLE hosted LOGIN CREATEROLE NOSUPERUSER")
        database.run(f'ALTER DATABASE "{database.name}" OWNER TO hosted')
        url = server.url(database.name, "hosted")
        index = "-- no transaction\nCREATE INDEX CONCURRENTLY note_body ON note (body);"
        service = schema(tmp_path, "notes", create_notes=NOTES, add_index=index)
        assert await migrate(url, [service], logins=("hosted",)) == 2
        assert await migrate(url, [service], logins=("hosted",)) == 0
        async with Database(url, DatabaseSettings()) as pool:
            async with pool.session("notes", tenant="acme") as session:
                await session.run("INSERT INTO note VALUES ('acme', 1, 'hello')")
            async with pool.session("notes", tenant="umbrella") as session:
                assert await session.rows("SELECT * FROM note") == []


async def test_an_empty_folder_is_no_fault(postgres: Postgres, tmp_path: Path) -> None:
    assert await bring(postgres, Schema("empty", (Folder("empty", tmp_path / "nowhere"),))) == 0

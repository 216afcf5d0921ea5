"""Migrations: one schema, one owner and one run-time role a service, made and kept up to date.

A `Schema` names its folders of numbered SQL files (`0001_create_guests.sql`), the kernels' first.
`migrate` brings every schema of a database to the newest number, under one advisory lock, each file
in a transaction of its own as the schema's owner, with a `lock_timeout`; a file whose first line is
`-- no transaction` (an index built concurrently) runs outside one. The ledger `nexus.migration`
keeps each file's SHA-256: a file that was edited after it ran, or a gap in the numbers, stops the
start. There is no way back: the next file mends the last.

With each file, every table of the schema that has a `tenant` column is closed by forced row-level
security; the owner alone, as whom only migrations run, sees all rows. Tables without one hold
nothing of a tenant's and say so in their comment (`COMMENT ON TABLE … IS 'shared: why'`), else the
file is refused.

The run-time role may read and write rows of its own schema, nothing else; what it may not change
(the audit log, events) its migration revokes. `current_setting('nexus.run_role')` names it there.
"""

import asyncio
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import asyncpg

from ops.db import RELAY_ROLE, owner_of, role_of
from ops.errors import Rejected
from ops.log import get_logger

LOCK: Final = 0x6E65787573
"""The advisory lock's key: "nexus" in ASCII."""
LOCK_TIMEOUT_MS: Final = 2_000
ATTEMPTS_MAX: Final = 5
"""How often a file is tried that found a table locked."""
_FILE: Final = re.compile(r"([0-9]{4})_([a-z0-9]+(?:_[a-z0-9]+)+)\.sql")
_SCHEMA: Final = re.compile(r"[a-z][a-z0-9_]{0,50}")
_NO_TRANSACTION: Final = "-- no transaction"

_log = get_logger("ops.migrate")


class MigrationError(Rejected):
    """The migrations and the database do not fit together; the message says where."""

    code = "migration.refused"


@dataclass(frozen=True, slots=True)
class Folder:
    """Numbered files of one owner of tables: a kernel such as "jobs", or the service itself."""

    owner: str
    path: Path


@dataclass(frozen=True, slots=True)
class Schema:
    """One service's schema and the folders that make it, in this order."""

    name: str
    folders: tuple[Folder, ...]


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    owner: str
    number: int
    name: str
    sql: str
    sha256: str

    @property
    def in_transaction(self) -> bool:
        return not self.sql.startswith(_NO_TRANSACTION)


def read_folder(folder: Folder) -> list[Migration]:
    """The files of a folder, by number. Raises MigrationError: a name, a gap."""
    found: list[Migration] = []
    for path in sorted(folder.path.glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{folder.owner}: {path.name} is not NNNN_verb_noun.sql")
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        found.append(Migration(folder.owner, int(match[1]), path.stem, data.decode(), digest))
    for wanted, migration in enumerate(found, 1):
        if migration.number != wanted:
            raise MigrationError(f"{folder.owner}: number {wanted:04d} is missing or twice there")
    return found


async def migrate(url: str, schemas: Iterable[Schema], *, logins: Sequence[str] = ()) -> int:
    """Brings every schema up to date; how many files ran. `url`: of one who may create roles.

    logins: roles of the server that processes log in with; they may become each run-time role.
    Raises MigrationError; asyncpg's errors when the database cannot be reached or SQL is wrong.
    """
    connection = await asyncpg.connect(url, server_settings={"application_name": "nexus-migrate"})
    try:
        await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
        await _prepare(connection)
        count = 0
        for schema in schemas:
            count += await _migrate_schema(connection, schema, logins)
        return count
    finally:
        await connection.close()


async def _prepare(connection: asyncpg.Connection) -> None:
    await _make_role(connection, RELAY_ROLE)
    await connection.execute(
        """
        CREATE SCHEMA IF NOT EXISTS nexus;
        CREATE TABLE IF NOT EXISTS nexus.migration (
            schema text NOT NULL,
            owner text NOT NULL,
            number integer NOT NULL,
            name text NOT NULL,
            sha256 text NOT NULL,
            applied_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (schema, owner, number)
        );
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
        """
    )


async def _make_role(connection: asyncpg.Connection, role: str) -> None:
    known = await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", role)
    if known is None:
        await connection.execute(f'CREATE ROLE "{role}" NOLOGIN NOINHERIT')
        # Who made it may become it: a server of yours need not give us a superuser.
        await connection.execute(f'GRANT "{role}" TO CURRENT_USER WITH INHERIT FALSE, SET TRUE')


async def _migrate_schema(
    connection: asyncpg.Connection, schema: Schema, logins: Sequence[str]
) -> int:
    if not _SCHEMA.fullmatch(schema.name):
        raise MigrationError(f"{schema.name!r} cannot be a schema's name")
    wanted = [migration for folder in schema.folders for migration in read_folder(folder)]
    rows = await connection.fetch(
        "SELECT owner, number, sha256 FROM nexus.migration WHERE schema = $1", schema.name
    )
    applied = {(row["owner"], row["number"]): row["sha256"] for row in rows}
    _compare(schema.name, wanted, applied)
    todo = [item for item in wanted if (item.owner, item.number) not in applied]
    if todo or not rows or not await _has_roles(connection, schema.name, logins):
        await _make_roles(connection, schema.name, logins)
    for migration in todo:
        await _apply_patiently(connection, schema.name, migration)
    return len(todo)


def _compare(schema: str, wanted: Sequence[Migration], applied: dict[tuple[str, int], str]) -> None:
    """Raises MigrationError when what ran is not what the files say."""
    files = {(item.owner, item.number): item for item in wanted}
    newest: dict[str, int] = {}
    for owner, number in applied:
        newest[owner] = max(newest.get(owner, 0), number)
    for key, digest in applied.items():
        known = files.get(key)
        if known is not None and known.sha256 != digest:
            raise MigrationError(
                f"{schema}: {known.name} of {known.owner} was edited after it had run;"
                " write a new file"
            )
    for (owner, number), item in files.items():
        if (owner, number) not in applied and number <= newest.get(owner, 0):
            raise MigrationError(f"{schema}: {item.name} comes before one that ran already")


async def _has_roles(connection: asyncpg.Connection, schema: str, logins: Sequence[str]) -> bool:
    """Whether each login may become the schema's run-time role and the relay already."""
    roles = [role_of(schema), RELAY_ROLE]
    count: int = await connection.fetchval(
        """
        SELECT count(DISTINCT (role.rolname, login.rolname)) FROM pg_auth_members AS granted
        JOIN pg_roles AS role ON role.oid = granted.roleid
        JOIN pg_roles AS login ON login.oid = granted.member
        WHERE role.rolname = ANY ($1) AND login.rolname = ANY ($2) AND granted.set_option
        """,
        roles,
        list(logins),
    )
    return count == len(roles) * len(set(logins))


async def _make_roles(connection: asyncpg.Connection, schema: str, logins: Sequence[str]) -> None:
    owner, role = owner_of(schema), role_of(schema)
    for name in (owner, role):
        await _make_role(connection, name)
    for login in logins:
        for name in (role, RELAY_ROLE):
            await connection.execute(f'GRANT "{name}" TO "{login}" WITH INHERIT FALSE, SET TRUE')
    await connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}" AUTHORIZATION "{owner}"')
    async with connection.transaction():
        await connection.execute(
            f"""
            SET LOCAL ROLE "{owner}";
            GRANT USAGE ON SCHEMA "{schema}" TO "{role}", "{RELAY_ROLE}";
            ALTER DEFAULT PRIVILEGES IN SCHEMA "{schema}"
                GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO "{role}";
            ALTER DEFAULT PRIVILEGES IN SCHEMA "{schema}"
                GRANT USAGE, SELECT ON SEQUENCES TO "{role}";
            """
        )


async def _apply_patiently(
    connection: asyncpg.Connection, schema: str, migration: Migration
) -> None:
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            await _apply(connection, schema, migration)
        except asyncpg.LockNotAvailableError:
            if attempt == ATTEMPTS_MAX:
                raise
            _log.warning("a table is locked", schema=schema, migration=migration.name)
            await asyncio.sleep(0.2 * attempt)
        else:
            _log.info("migrated", schema=schema, owner=migration.owner, migration=migration.name)
            return


async def _apply(connection: asyncpg.Connection, schema: str, migration: Migration) -> None:
    """Runs one file as the schema's owner and writes it into the ledger."""
    scope = "LOCAL" if migration.in_transaction else "SESSION"
    begin = [
        f"SET {scope} lock_timeout = {LOCK_TIMEOUT_MS}",
        f'SET {scope} search_path = "{schema}"',
        f"SET {scope} nexus.run_role = '{role_of(schema)}'",
        f'SET {scope} ROLE "{owner_of(schema)}"',
    ]
    record = (
        "INSERT INTO nexus.migration (schema, owner, number, name, sha256)"
        " VALUES ($1, $2, $3, $4, $5)"
    )
    values = (schema, migration.owner, migration.number, migration.name, migration.sha256)
    if migration.in_transaction:
        async with connection.transaction():
            await connection.execute(";".join(begin))
            await connection.execute(migration.sql)
            await _close_tables(connection, schema)
            await connection.execute("RESET ROLE")
            await connection.execute(record, *values)
        return
    try:
        await connection.execute(";".join(begin))
        await connection.execute(migration.sql)
        await _close_tables(connection, schema)
    finally:
        await connection.execute("RESET ROLE; RESET search_path; RESET lock_timeout")
    await connection.execute(record, *values)


async def _close_tables(connection: asyncpg.Connection, schema: str) -> None:
    """Forces row-level security on every table with a tenant, as the owner, in the transaction that
    made it: no table is ever open. Raises MigrationError."""
    tables = await connection.fetch(
        """
        SELECT c.oid, c.relname AS name, obj_description(c.oid, 'pg_class') AS comment,
            EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid
                AND a.attname = 'tenant' AND NOT a.attisdropped) AS has_tenant,
            EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = c.oid
                AND p.polname = 'tenant_only') AS has_policy
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = $1 AND c.relkind IN ('r', 'p')
        ORDER BY c.relname
        """,
        schema,
    )
    for table in tables:
        name = f'"{schema}"."{table["name"]}"'
        if not table["has_tenant"]:
            if not (table["comment"] or "").startswith("shared: "):
                raise MigrationError(
                    f"{schema}.{table['name']} has no column tenant, nor a comment 'shared: why'"
                )
            continue
        if table["has_policy"]:
            continue
        await connection.execute(
            f"""
            ALTER TABLE {name} ENABLE ROW LEVEL SECURITY;
            ALTER TABLE {name} FORCE ROW LEVEL SECURITY;
            CREATE POLICY tenant_only ON {name} TO "{role_of(schema)}"
                USING (tenant = current_setting('nexus.tenant', true))
                WITH CHECK (tenant = current_setting('nexus.tenant', true) AND tenant <> '');
            CREATE POLICY migrations ON {name} TO "{owner_of(schema)}" USING (true);
            """
        )

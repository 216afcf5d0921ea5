"""A real PostgreSQL for tests: one server a run, started when first asked for; one database a test.

It runs from the wheel's programs on a socket in a folder of its own, as an unprivileged account
when the tests run as root. A commit is written before it is acknowledged, so a killed server loses
none; nothing is flushed to the disk, since tests kill processes, not the machine.
"""

import asyncio
import atexit
import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg
import psutil
import pytest

from ops.state import programs

T = TypeVar("T")

ADMIN = "nexus_admin"
LOGIN = "nexus_app"
START_SECONDS = 30.0
CONNECTIONS_MAX = 200
OPTIONS = {
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": str(CONNECTIONS_MAX),
    "shared_buffers": "32MB",
    "max_prepared_transactions": "0",
    "autovacuum": "off",
    "log_min_messages": "fatal",
}


@dataclass(frozen=True, slots=True)
class Postgres:
    """One test's database."""

    name: str
    url: str
    """As processes log in: `nexus_app`, who may do nothing until migrations let it."""
    admin_url: str
    """As one who may do all."""
    server: "PostgresServer"

    def run(self, sql: str, *values: Any) -> Any:
        """One statement as the admin, outside any event loop; its first value."""

        async def ask(connection: asyncpg.Connection) -> Any:
            if values or sql.lstrip()[:6].upper() in {"SELECT", "INSERT", "UPDATE", "DELETE"}:
                return await connection.fetchval(sql, *values)
            return await connection.execute(sql)

        return self.server.ask(ask, self.name)


class PostgresServer:
    """The server. Enter to make its data and start it, leave to stop it and remove all."""

    def __init__(self, *, parent: Path | None = None) -> None:
        # Not below pytest's own folders: no other account may enter them.
        self.folder = Path(tempfile.mkdtemp(prefix="nexus-tests-pg-", dir=parent))
        self.process: subprocess.Popen[bytes] | None = None
        self._numbers = itertools.count(1)
        self._thread = ThreadPoolExecutor(1)
        self._programs = _programs()
        account = programs.account("")
        self._account = account.arguments(self.folder)
        if account.is_foreign:
            os.chown(self.folder, account.uid, account.gid)

    def __enter__(self) -> Self:
        data = self.folder / "data"
        made = subprocess.run(
            [
                self._programs.initdb,
                f"--pgdata={data}",
                f"--username={ADMIN}",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--locale=C",
                "--no-sync",
                "--no-instructions",
            ],
            capture_output=True,
            check=False,
            **self._account,
        )
        assert made.returncode == 0, made.stderr.decode()
        self.start()
        self.admin(f"CREATE ROLE {LOGIN} LOGIN NOINHERIT NOSUPERUSER")
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None and self.process.poll() is None:
            self.stop()
        self._thread.shutdown()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        # It is stopped when the tests are killed.
        command: list[str | Path] = ["setpriv", "--pdeathsig", "INT", self._programs.postgres]
        command += ["-D", self.folder / "data", "-k", self.folder]
        for name, value in OPTIONS.items():
            command += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._account,
            )
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL does not answer"
            time.sleep(0.02)

    def stop(self) -> None:
        """Stops it cleanly; sessions are ended."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(START_SECONDS)

    def kill(self) -> None:
        """SIGKILL, as the kernel would under want of memory; `start` then recovers.

        Its children end by themselves a moment later; until then they answer.
        """
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        self.process.kill()
        self.process.wait()
        _, left = psutil.wait_procs(children, START_SECONDS)
        assert not left, left

    def url(self, database: str, login: str) -> str:
        return f"postgresql://{login}@/{database}?host={self.folder}"

    def database(self, *, template: str = "template1") -> Postgres:
        """A fresh database, like `template`."""
        name = f"test_{os.getpid()}_{next(self._numbers)}"
        self.admin(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return Postgres(name, self.url(name, LOGIN), self.url(name, ADMIN), self)

    def drop(self, name: str) -> None:
        """Removes a database, whoever still uses it."""
        self.admin(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def admin(self, sql: str) -> None:
        """One statement of the whole server."""
        self.ask(lambda connection: connection.execute(sql), "postgres")

    def ask(self, work: Callable[[asyncpg.Connection], Awaitable[T]], database: str) -> T:
        """What `work` finds on a connection as the admin. A thread of its own has the event loop,
        so that a test may call it inside its own."""
        return self._thread.submit(asyncio.run, self._ask(work, database)).result()

    async def _ask(self, work: Callable[[asyncpg.Connection], Awaitable[T]], database: str) -> T:
        connection = await asyncpg.connect(self.url(database, ADMIN), timeout=START_SECONDS)
        try:
            return await work(connection)
        finally:
            await connection.close()

    def _answers(self) -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            self.admin("SELECT 1")
            return True
        return False


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """The server of the whole run. A test that stops or kills it starts its own instead."""
    with PostgresServer() as server:
        yield server


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[Postgres]:
    """A fresh database for one test."""
    database = postgres_server.database()
    try:
        yield database
    finally:
        postgres_server.drop(database.name)


@cache
def _programs() -> programs.Programs:
    """Those of the wheel; copies, kept for the run, where the server's account may not enter."""
    account = programs.account("")
    if programs.usable_as_installed(account):
        return programs.installed()
    folder = Path(tempfile.mkdtemp(prefix="nexus-tests-programs-"))
    folder.chmod(0o755)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return programs.usable(folder, account)

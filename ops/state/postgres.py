"""The embedded PostgreSQL: its data made once, its command, whether it lives and answers.

It is durable as any PostgreSQL should be (an acknowledged commit is on the disk) and small. It
listens on a Unix socket in a folder that its account and ours alone may enter, with nobody asked
for a password. `postgresql.conf` in its data stays as initdb wrote it; what we decide stands in the
command, and `state.postgres_options` wins over both.
"""

import contextlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGINT, SIGQUIT
from typing import Final

import asyncpg

from ops.log import get_logger
from ops.state.errors import StateError
from ops.state.places import ADMIN, DATABASE, LOGIN, Places
from ops.state.programs import Account, Programs
from ops.state.server import own_folder, pid_in
from ops.state.settings import StateSettings

MAJOR: Final = 18
"""The PostgreSQL in the wheel; data of another one is refused."""
SOCKET_BYTES_MAX: Final = 107
"""How long a Unix socket's name may be."""
_INITDB_SECONDS: Final = 120.0
_ASK_SECONDS: Final = 2.0
_RESERVED_CONNECTIONS: Final = 3
_STATUS_LINE: Final = 7
_log = get_logger("ops.state")


@dataclass(frozen=True, slots=True)
class Postgres:
    """PostgreSQL of one region. `connections_max`: of all processes together."""

    places: Places
    programs: Programs
    account: Account
    settings: StateSettings
    connections_max: int
    idle_in_transaction_seconds: float

    @property
    def name(self) -> str:
        return "postgres"

    @property
    def folder(self) -> Path:
        return self.places.postgres

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def stop_signals(self) -> tuple[int, int]:
        """Fast: sessions are ended, all is written down. Forced: recovery at the next start."""
        return SIGINT, SIGQUIT

    def prepare(self) -> None:
        """Makes the data where there is none. Raises StateError."""
        socket = self.folder / ".s.PGSQL.5432"
        if len(os.fsencode(socket)) > SOCKET_BYTES_MAX:
            raise StateError(f"{socket}: too long for a socket's name: shorten state.data_dir")
        own_folder(self.folder, self.account)
        if not (self.data / "PG_VERSION").exists():
            self._make()
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != str(MAJOR):
            raise StateError(
                f"{self.data} was made by PostgreSQL {found}, this is {MAJOR}:"
                " see Upgrades in docs/state.md"
            )
        if self.living() is None:
            self._forget_stranger()

    def _forget_stranger(self) -> None:
        """Removes a pid file whose pid somebody else has got since, which would keep the server
        from starting. Whether children of the dead one still live it sees by its shared memory."""
        path = self.data / "postmaster.pid"
        with contextlib.suppress(OSError, ValueError, IndexError):
            os.kill(int(path.read_text().split()[0]), 0)
            path.unlink()

    def _make(self) -> None:
        """In a folder beside it, moved when whole: a kill in the middle leaves nothing half."""
        if self.data.exists():
            raise StateError(f"{self.data} holds no PostgreSQL data: move it away")
        part = self.folder / "data.part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            done = subprocess.run(  # noqa: S603  a program of ours
                [
                    self.programs.initdb,
                    f"--pgdata={part}",
                    f"--username={ADMIN}",
                    "--auth=trust",
                    "--encoding=UTF8",
                    "--locale=C",
                    "--locale-provider=builtin",
                    "--builtin-locale=C.UTF-8",
                    "--no-instructions",
                ],
                capture_output=True,
                check=False,
                timeout=_INITDB_SECONDS,
                **self.account.arguments(self.folder),
            )
        except (OSError, subprocess.SubprocessError) as fault:
            raise StateError(f"initdb cannot be run: {fault}") from fault
        if done.returncode != 0:
            shutil.rmtree(part, ignore_errors=True)
            raise StateError(f"initdb failed: {done.stderr.decode(errors='replace').strip()}")
        part.rename(self.data)
        _log.info("a database was made", data=str(self.data))

    def command(self) -> Sequence[str | Path]:
        words: list[str | Path] = [self.programs.postgres, "-D", self.data]
        for option in (*self._options(), *self.settings.postgres_options):
            words += ["-c", option]
        return words

    def _options(self) -> list[str]:
        idle_ms = int(self.idle_in_transaction_seconds * 1_000)
        return [
            "listen_addresses=",
            f'unix_socket_directories="{self.folder}"',
            "unix_socket_permissions=0700",
            f"cluster_name=nexus-{self.places.region}",
            f"max_connections={self.connections_max + _RESERVED_CONNECTIONS}",
            f"superuser_reserved_connections={_RESERVED_CONNECTIONS}",
            f"shared_buffers={self.settings.postgres_memory_bytes // 8_192}",
            "fsync=on",
            "synchronous_commit=on",
            "full_page_writes=on",
            "wal_level=replica",
            "max_wal_senders=4",
            "max_wal_size=256MB",
            "max_prepared_transactions=0",
            f"idle_in_transaction_session_timeout={idle_ms}",
            "max_worker_processes=4",
            "max_parallel_workers=2",
            "autovacuum_max_workers=2",
            "io_method=sync",
            "jit=off",
            "temp_file_limit=1GB",
            "update_process_title=off",
            "max_logical_replication_workers=0",
            "log_min_messages=log",
            "log_checkpoints=off",
            "log_timezone=UTC",
            "timezone=UTC",
        ]

    def living(self) -> int | None:
        return pid_in(self.data / "postmaster.pid", program="postgres", folder=self.data)

    async def answers(self) -> bool:
        """Whether the admin gets in, which is tried when the server says so itself."""
        if not self._says_ready():
            return False
        with contextlib.suppress(*_SILENT):
            connection = await self._connect()
            await connection.close(timeout=_ASK_SECONDS)
            return True
        return False

    def _says_ready(self) -> bool:
        """Its pid file tells the state: to knock while it recovers would only fill its log."""
        with contextlib.suppress(OSError, IndexError):
            lines = (self.data / "postmaster.pid").read_text().splitlines()
            return lines[_STATUS_LINE].strip() == "ready"
        return False

    async def furnish(self) -> None:
        """The database, and the login of our processes. Raises ConnectionError: it went away."""
        try:
            connection = await self._connect()
            try:
                await self._furnish(connection)
            finally:
                connection.terminate()
        except _SILENT as fault:
            raise ConnectionError(str(fault)) from fault

    async def _furnish(self, connection: asyncpg.Connection) -> None:
        if not await connection.fetchval("SELECT 1 FROM pg_roles WHERE rolname = $1", LOGIN):
            await connection.execute(f"CREATE ROLE {LOGIN} LOGIN NOINHERIT")
        if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE):
            await connection.execute(f"CREATE DATABASE {DATABASE}")

    async def _connect(self) -> asyncpg.Connection:
        url = self.places.database_url(login=ADMIN, database="postgres")
        return await asyncpg.connect(url, timeout=_ASK_SECONDS, command_timeout=_ASK_SECONDS * 10)


_SILENT: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError)

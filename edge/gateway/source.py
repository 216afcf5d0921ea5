"""Where a worker's configuration comes from, and how it hears of another one.

    database   what is active there, told at once by NOTIFY and looked at now and then
    file       `gateway.config_file`, looked at now and then, where nothing is active
    neither    the defaults

A configuration that cannot be used changes nothing: the worker goes on with the one it has, and
says so in its log. A file that cannot be used stops the start, as other settings do. A database
that is away changes nothing either.
"""

import asyncio
import contextlib
from pathlib import Path
from typing import Any, Final

import asyncpg
import msgspec

from edge.gateway.gateway import Gateway
from edge.gateway.route_table import RouteConflictError
from ops import metrics
from ops.db import Database
from ops.db_faults import DatabaseFault
from ops.log import get_logger
from ops.settings import SettingsError
from services.platform.backend_api.api import CHANNEL, Config, Notice
from services.platform.backend_api.logic.reading import ConfigError, checksum, read
from services.platform.backend_api.store import SCHEMA, read_active

CONNECT_SECONDS: Final = 5.0

_log = get_logger("edge.gateway.source")
_refused = metrics.counter(
    "nexus_gateway_config_refused", "Configurations that a worker could not take over."
)
_listening = metrics.gauge(
    "nexus_gateway_listening", "Workers that are told of configurations at once."
)


class ConfigSource:
    """Keeps a gateway's configuration up to date: `load` once, then `keep` for good.

    Owns: one connection to the database, while `keep` runs.
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        file: Path,
        database: Database | None,
        database_url: str = "",
        tenant: str,
    ) -> None:
        """file: `Path()` for none. database: None where there is none; url: to listen there."""
        self._gateway = gateway
        self._file = file
        self._database = database
        self._url = database_url
        self._tenant = tenant
        self._stamp: tuple[int, int] | None = None
        self._from_file: Config | None = None
        self._woken = asyncio.Event()

    @property
    def changes(self) -> bool:
        """Whether there is anything to look at."""
        return self._file != Path() or self._database is not None

    def load(self) -> None:
        """Takes over the file's configuration. Raises SettingsError when it cannot be used."""
        if self._file == Path():
            return
        try:
            self._from_file = self._read_file()
            self._gateway.configure(self._from_file)
        except OSError as error:
            raise SettingsError(f"gateway.config_file: {error.strerror}") from error
        except ConfigError as error:
            raise SettingsError(
                *(
                    f"gateway.config_file: {fault.pointer or '/'}: {fault.message}"
                    for fault in error.faults
                )
            ) from error

    async def keep(self) -> None:
        """Looks for other configurations until it is cancelled."""
        listener: asyncpg.Connection | None = None
        try:
            while True:
                if listener is None or listener.is_closed():
                    listener = await self._listen()
                    _listening.set(0 if listener is None else 1)
                self._woken.clear()
                await self.look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._gateway.settings.reload_seconds):
                        await self._woken.wait()
        finally:
            _listening.set(0)
            if listener is not None:
                listener.terminate()

    async def look(self) -> None:
        """Takes over what is to be executed now, if it is another one."""
        wanted = self._look_at_file()
        if self._database is not None:
            try:
                async with self._database.session(SCHEMA, tenant=self._tenant) as session:
                    found = await read_active(session)
            except DatabaseFault:
                return
            except (asyncpg.PostgresError, msgspec.MsgspecError) as error:
                # Its schema is not there yet, or an older release's.
                _log.warning("the database's configuration cannot be read", reason=str(error))
                return
            if found is not None:
                wanted = found.config
        wanted = wanted if wanted is not None else Config()
        if checksum(wanted) == self._gateway.checksum:
            return
        try:
            self._gateway.configure(wanted)
        except RouteConflictError as error:
            _refused.inc()
            _log.error("a configuration cannot be taken over", reason=str(error))
        else:
            _log.info("another configuration", checksum=self._gateway.checksum)

    def told(self, payload: str) -> None:
        """Does what a notice says; what is none is left alone."""
        try:
            notice = msgspec.json.decode(payload, type=Notice)
        except (msgspec.DecodeError, msgspec.ValidationError):
            _log.warning("a notice that is none")
            return
        if notice.kind == "config":
            self._woken.set()
        elif notice.kind == "purge":
            self._gateway.purge(tenant=notice.tenant, key=notice.key)
        else:
            self._gateway.flush()

    async def _listen(self) -> asyncpg.Connection | None:
        """A connection on which notices come; None: the database is away."""
        if not self._url:
            return None
        try:
            connection = await asyncpg.connect(self._url, timeout=CONNECT_SECONDS)
            await connection.add_listener(CHANNEL, self._heard)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return None
        connection.add_termination_listener(self._lost)
        return connection

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: object) -> None:
        self.told(str(payload))

    def _lost(self, _connection: Any) -> None:
        self._woken.set()

    def _look_at_file(self) -> Config | None:
        if self._file == Path():
            return None
        try:
            if self._stamp != _stamp(self._file):
                self._from_file = self._read_file()
        except (OSError, ConfigError) as error:
            _refused.inc()
            _log.error("gateway.config_file cannot be used", reason=str(error))
        return self._from_file

    def _read_file(self) -> Config:
        self._stamp = _stamp(self._file)
        return read(self._file.read_bytes(), toml=self._file.suffix == ".toml")


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_mtime_ns, status.st_ino

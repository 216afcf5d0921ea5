"""Where one region's state lies on this machine, and the addresses that follow from it.

    <data_dir>/<region>/family.lock     held by the supervisor of the node whose state this is
    <data_dir>/<region>/servers.lock    held by the process that runs the servers
    <data_dir>/<region>/postgres/       mode 0700: `data`, its socket, its log
    <data_dir>/<region>/valkey/         mode 0700: its socket, pid file and log
    <data_dir>/programs/<version>/      copies of the server programs, where the account needs them

Whoever may enter a server's folder may use its socket: that is the whole access control, and why
no port is ever opened. Nothing here touches the disk.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

from ops.db import DatabaseSettings
from ops.node import NodeSettings
from ops.state.settings import AUTOMATIC, RedisSettings, StateSettings

ADMIN: Final = "nexus_admin"
"""Login of the embedded server that may do all: migrations."""
LOGIN: Final = "nexus_app"
"""Login of the embedded server that processes use."""
DATABASE: Final = "nexus"
ROOT_DIR: Final = Path("/var/lib/nexus-cos")


class Settings(Protocol):
    """The sections that say where state is."""

    @property
    def node(self) -> NodeSettings: ...
    @property
    def state(self) -> StateSettings: ...
    @property
    def database(self) -> DatabaseSettings: ...
    @property
    def redis(self) -> RedisSettings: ...


@dataclass(frozen=True, slots=True)
class Places:
    """One region's folders."""

    data_dir: Path
    region: str

    @property
    def folder(self) -> Path:
        return self.data_dir / self.region

    @property
    def postgres(self) -> Path:
        return self.folder / "postgres"

    @property
    def valkey(self) -> Path:
        return self.folder / "valkey"

    @property
    def valkey_socket(self) -> Path:
        return self.valkey / "valkey.sock"

    @property
    def programs(self) -> Path:
        return self.data_dir / "programs"

    @property
    def family_lock(self) -> Path:
        return self.folder / "family.lock"

    @property
    def servers_lock(self) -> Path:
        return self.folder / "servers.lock"

    def database_url(self, *, login: str, database: str) -> str:
        """PostgreSQL by its socket."""
        return f"postgresql://{login}@/{database}?host={quote(str(self.postgres))}"


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where this node's processes find state, whoever runs it."""

    database_url: str
    """As processes log in."""
    admin_url: str
    """As migrations log in."""
    redis_url: str


def places(settings: Settings, environment: Mapping[str, str] = os.environ) -> Places:
    """The folders of the settings' region."""
    data_dir = settings.state.data_dir
    if data_dir == AUTOMATIC:
        data_dir = _automatic(environment)
    return Places(data_dir.absolute(), settings.node.region)


def addresses(settings: Settings, environment: Mapping[str, str] = os.environ) -> Addresses:
    """The effective addresses: yours where they are given, else those of the embedded servers."""
    where = places(settings, environment)
    database = settings.database
    return Addresses(
        database_url=database.url or where.database_url(login=LOGIN, database=DATABASE),
        admin_url=database.admin_url
        or database.url
        or where.database_url(login=ADMIN, database=DATABASE),
        redis_url=settings.redis.url or f"unix://{quote(str(where.valkey_socket))}",
    )


def is_embedded(settings: Settings) -> bool:
    """Whether a server of ours is needed."""
    return not (settings.database.url and settings.redis.url)


def _automatic(environment: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return ROOT_DIR
    named = environment.get("XDG_STATE_HOME", "")
    home = Path(environment.get("HOME") or "/").absolute()
    return (Path(named) if named.startswith("/") else home / ".local/state") / "nexus-cos"

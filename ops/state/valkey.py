"""The embedded Valkey: what is fast and may be lost. It writes nothing to the disk.

Its memory is limited; when that is used up, the keys used least recently go, so that a full store
slows nobody down and refuses nothing.
"""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM
from typing import Final

from ops.state.errors import StateError
from ops.state.places import Places
from ops.state.postgres import SOCKET_BYTES_MAX
from ops.state.programs import Account, Programs
from ops.state.server import own_folder, pid_in
from ops.state.settings import StateSettings

_ASK_SECONDS: Final = 1.0
_CLIENTS_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Valkey:
    """Valkey of one region."""

    places: Places
    programs: Programs
    account: Account
    settings: StateSettings

    @property
    def name(self) -> str:
        return "valkey"

    @property
    def folder(self) -> Path:
        return self.places.valkey

    @property
    def stop_signals(self) -> tuple[int, int]:
        return SIGTERM, SIGKILL

    def prepare(self) -> None:
        """Its folder. Raises StateError."""
        socket = self.places.valkey_socket
        if len(os.fsencode(socket)) > SOCKET_BYTES_MAX:
            raise StateError(f"{socket}: too long for a socket's name: shorten state.data_dir")
        own_folder(self.folder, self.account)

    def command(self) -> Sequence[str | Path]:
        """A socket and no port, a limit of memory, nothing saved."""
        options: dict[str, str | Path] = {
            "port": "0",
            "unixsocket": self.places.valkey_socket,
            "unixsocketperm": "700",
            "dir": self.folder,
            "pidfile": self.folder / "pid",
            "save": "",
            "appendonly": "no",
            "maxmemory": str(self.settings.valkey_memory_bytes),
            "maxmemory-policy": "allkeys-lru",
            "maxclients": str(_CLIENTS_MAX),
            "loglevel": "warning",
        }
        words: list[str | Path] = [self.programs.valkey]
        for name, value in options.items():
            words += [f"--{name}", value]
        return words

    def living(self) -> int | None:
        return pid_in(self.folder / "pid", program="valkey-server", folder=self.folder)

    async def answers(self) -> bool:
        """Whether it answers on its socket."""
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(_ASK_SECONDS):
                reader, writer = await asyncio.open_unix_connection(self.places.valkey_socket)
                try:
                    writer.write(b"PING\r\n")
                    return await reader.readline() == b"+PONG\r\n"
                finally:
                    writer.close()
        return False

    async def furnish(self) -> None:
        """Nothing must be in it."""

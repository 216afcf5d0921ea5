"""Keeps one server running: takes over one that lives, starts one where none does, again and again.

    looking ──lives──▶ waiting ──answers──▶ running ──ends──▶ pausing ──▶ looking …
        └──none──▶ starting ──▶ waiting             pause: 0, 0.2, 0.4 … 5 s (0 again after health)
                                   └──silent for start_seconds, then or later: StateError

A server is a process in a session of its own: it outlives us when we are killed, and whoever comes
next finds it by its pid file and by the folder it works in. Cancelling `run` therefore leaves it
alone; `stop` ends it. What a server is, its command and how it answers, is a `Server`.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from ops.clock import SYSTEM
from ops.log import get_logger
from ops.metrics import counter, gauge
from ops.state.errors import StateError
from ops.state.programs import Account
from ops.state.settings import StateSettings
from ops.tasks import Restart

_ANSWER_PAUSE_SECONDS: Final = 0.02
_LOOK_SECONDS: Final = 15.0
"""How often a running server is asked whether it answers, and its log's length looked at."""
_LOG_TAIL_BYTES: Final = 600

_up = gauge("nexus_state_up", "Whether an embedded server runs and answers.", ("server",))
_restarts = counter("nexus_state_restarts", "Embedded servers started again.", ("server",))
_adopted = counter("nexus_state_adopted", "Living servers of a dead node taken over.", ("server",))
_log = get_logger("ops.state")


class Server(Protocol):
    """One program and its data."""

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> Path:
        """Its own, mode 0700: socket, log and data."""

    @property
    def stop_signals(self) -> tuple[int, int]:
        """A clean stop, and a forced one."""

    def prepare(self) -> None:
        """Makes what it needs to start; may take a second, so it is run in a thread."""

    def command(self) -> Sequence[str | Path]: ...
    def living(self) -> int | None:
        """The pid of one that runs on this folder already."""

    async def answers(self) -> bool:
        """Whether it can be used now."""

    async def furnish(self) -> None:
        """Makes what must be in it, once it answers. Raises OSError when it went away."""


class Process:
    """A server's process, ours or one taken over. Owns: the handle by which the kernel names it."""

    def __init__(self, pid: int, child: subprocess.Popen[bytes] | None = None) -> None:
        """Raises ProcessLookupError: it has ended."""
        self.pid = pid
        self._child = child
        self._handle = os.pidfd_open(pid)

    async def ended(self, seconds: float | None = None) -> bool:
        """Waits for its end, or for so long; whether it has ended."""
        loop = asyncio.get_running_loop()
        event = asyncio.Event()
        # A copy, since two may wait: an event loop knows a descriptor once.
        handle = os.dup(self._handle)
        loop.add_reader(handle, event.set)
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return False
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        return True

    def signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._handle, number)

    def close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        if self._child is not None:
            self._child.poll()


class Kept:
    """One server that is kept running. `run` does it; `stop` ends the server."""

    def __init__(self, server: Server, account: Account, settings: StateSettings) -> None:
        self.server = server
        self.ready = asyncio.Event()
        """Set while it runs and answers."""
        self._account = account
        self._settings = settings
        self._process: Process | None = None
        self._began = 0.0
        self._restart = Restart()

    @property
    def pid(self) -> int:
        """0: none runs."""
        return self._process.pid if self._process is not None else 0

    async def run(self) -> None:
        """Keeps it running until cancelled. Raises StateError: it cannot run at all."""
        labels = (self.server.name,)
        _restarts.inc(0, labels=labels)
        _adopted.inc(0, labels=labels)
        failures = 0
        try:
            while True:
                began = SYSTEM.monotonic()
                await self._live(is_first=failures == 0)
                if SYSTEM.monotonic() - began >= self._restart.healthy_seconds:
                    failures = 0
                failures += 1
                _restarts.inc(labels=labels)
                await asyncio.sleep(self._restart.pause_seconds(failures))
        finally:
            self.ready.clear()
            _up.set(0, labels=labels)

    async def stop(self) -> None:
        """Ends the server that runs, cleanly or by force. Call it when `run` has ended."""
        process = self._process or self._find()
        if process is None:
            return
        clean, forced = self.server.stop_signals
        process.signal(clean)
        if not await process.ended(self._settings.stop_seconds):
            _log.warning("a server did not stop in time: forced", server=self.server.name)
            process.signal(forced)
            if not await process.ended(self._settings.stop_seconds):
                process.signal(signal.SIGKILL)
                await process.ended()
        process.close()
        self._process = None
        _log.info("server stopped", server=self.server.name)

    async def _live(self, *, is_first: bool) -> None:
        """One life of a server, from finding or starting it to its end."""
        name = self.server.name
        process = self._find()
        if process is None:
            await asyncio.to_thread(self.server.prepare)
            process = self._start()
        elif is_first:
            _adopted.inc(labels=(name,))
            _log.info("a living server is taken over", server=name, pid=process.pid)
        self._process = process
        while await self._answers(process):
            if not self.ready.is_set():
                self.ready.set()
                _up.set(1, labels=(name,))
                _log.info("server is ready", server=name, pid=process.pid)
            if await process.ended(_LOOK_SECONDS):
                break
            self._shorten_log()
        self.ready.clear()
        _up.set(0, labels=(name,))
        process.close()
        self._process = None
        _log.warning("server ended", server=name, pid=process.pid, says=self._tail())

    def _find(self) -> Process | None:
        """The one that runs already."""
        pid = self.server.living()
        if pid is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process = Process(pid)
            if self.server.living() == pid:
                return process
            process.close()
        return None

    def _start(self) -> Process:
        path = self._log_path()
        log = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            child = subprocess.Popen(  # noqa: S603  a program of ours
                self.server.command(),
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self._account.arguments(self.server.folder),
            )
        except (OSError, subprocess.SubprocessError) as fault:
            raise StateError(f"{self.server.name} cannot be started: {fault}") from fault
        finally:
            os.close(log)
        return Process(child.pid, child)

    async def _answers(self, process: Process) -> bool:
        """Waits until it can be used; False: it ended before. Raises StateError: it is silent."""
        deadline = SYSTEM.monotonic() + self._settings.start_seconds
        while SYSTEM.monotonic() < deadline:
            if await self.server.answers():
                with contextlib.suppress(OSError):
                    await self.server.furnish()
                    return True
            if await process.ended(_ANSWER_PAUSE_SECONDS):
                return False
        raise StateError(
            f"{self.server.name} has not answered for {self._settings.start_seconds:g} s"
        )

    def _log_path(self) -> Path:
        return self.server.folder / "log"

    def _shorten_log(self) -> None:
        """Begins it anew when it is too long; the server appends, so it goes on at the start."""
        with contextlib.suppress(OSError):
            if self._log_path().stat().st_size > self._settings.log_bytes_max:
                os.truncate(self._log_path(), 0)

    def _tail(self) -> str:
        with contextlib.suppress(OSError), self._log_path().open("rb") as file:
            file.seek(max(0, self._log_path().stat().st_size - _LOG_TAIL_BYTES))
            return file.read(_LOG_TAIL_BYTES).decode(errors="replace").strip()
        return ""


def own_folder(path: Path, account: Account) -> None:
    """Makes a folder that the account alone may enter. Raises StateError: it is another's."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        found = path.lstat()
        if found.st_uid == os.geteuid() != account.uid and not any(path.iterdir()):
            os.chown(path, account.uid, account.gid)
        elif found.st_uid != account.uid:
            raise StateError(
                f"{path} belongs to user {found.st_uid}, but the servers run as {account.name}:"
                " start as before, or set state.account"
            )
        if path.is_symlink() or not path.is_dir():
            raise StateError(f"{path} is not a folder")
        path.chmod(0o700)
    except OSError as fault:
        raise StateError(f"{path}: {fault.strerror}") from fault
    if not account.may("x", path):
        raise StateError(
            f"the account {account.name} may not enter {path.parent}: choose another state.data_dir"
        )


def pid_in(path: Path, *, program: str, folder: Path) -> int | None:
    """The pid that a pid file names, if that is the program at work in the folder."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(path.read_text().split()[0])
        process = Path(f"/proc/{pid}")
        same = (process / "comm").read_text().startswith(program)
        if same and (process / "cwd").samefile(folder) and not _is_dead(process):
            return pid
    return None


def _is_dead(process: Path) -> bool:
    """Whether it only waits to be reaped."""
    return (process / "stat").read_text().rpartition(")")[2].split()[0] in {"Z", "X"}

"""The node's run directory: made, locked, adopted from a node that died, removed on a clean stop.

The lock is an advisory one on the directory itself, so it ends with the supervisor however that
ends, and leaves no file. What a dead node left is swept, but for its HLS files when they are fresh:
playlists then go on where they stopped. Nothing here trusts a directory that another user could
have made.
"""

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ops.clock import SYSTEM, Clock
from ops.errors import Rejected
from ops.node import AUTOMATIC

MEMORY: Final = Path("/dev/shm")  # noqa: S108  checked for owner and mode
_ATTEMPTS_MAX: Final = 5
_OURS: Final = frozenset({"supervisor.json", "hls", "metrics", "tls"})


class RunDirError(Rejected):
    """The run directory cannot be used; the message says why."""

    code = "run_dir.unusable"


def choose(configured: Path, port: int) -> Path:
    """The configured directory, else one in memory named by user and port (0: by process)."""
    if configured != AUTOMATIC:
        return configured.absolute()
    name = f"nexus-{os.getuid()}-{port or f'p{os.getpid()}'}"
    if MEMORY.is_dir() and os.access(MEMORY, os.W_OK | os.X_OK):
        return MEMORY / name
    return Path(tempfile.gettempdir()) / name


class RunDir:
    """A locked run directory. Enter to make and lock it; leave to remove it.

    Owns: the directory and its lock. `keep()` leaves the files where they are.
    """

    def __init__(self, path: Path, *, adopt_seconds: float = 60.0, clock: Clock = SYSTEM) -> None:
        self.path = path
        self.adopted = False
        """Whether HLS files of a node that died were taken over."""
        self.had_leftovers = False
        self._adopt_seconds = adopt_seconds
        self._clock = clock
        self._lock = -1
        self._keep = False

    def __enter__(self) -> Self:
        """Raises RunDirError."""
        for _ in range(_ATTEMPTS_MAX):
            self._lock = self._open()
            if self._is_current():
                break
            os.close(self._lock)
        else:
            raise RunDirError(f"{self.path}: it is made and removed by somebody else all the time")
        os.fchmod(self._lock, 0o700)
        self._sweep()
        (self.path / "hls").mkdir(mode=0o700, exist_ok=True)
        (self.path / "metrics").mkdir(mode=0o700, exist_ok=True)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._keep:
            shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def keep(self) -> None:
        """Leaving will not remove the directory."""
        self._keep = True

    def write_json(self, name: str, data: Any) -> None:
        """A file of mode 0600, replaced as a whole."""
        path = self.path / name
        temporary = self.path / f".{name}.new"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(data, file, indent=1)
        temporary.replace(path)

    def _open(self) -> int:
        """A locked descriptor of the directory."""
        with contextlib.suppress(FileExistsError):
            try:
                self.path.mkdir(mode=0o700, parents=True)
            except OSError as fault:
                if fault.errno == errno.EEXIST:
                    raise FileExistsError from fault
                raise RunDirError(f"{self.path}: {fault.strerror}") from fault
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except OSError as fault:
            raise RunDirError(f"{self.path}: not a directory of its own") from fault
        owner = os.fstat(descriptor).st_uid
        if owner != os.getuid():
            os.close(descriptor)
            raise RunDirError(f"{self.path}: belongs to another user")
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as fault:
            os.close(descriptor)
            raise RunDirError(f"{self.path}: another node runs there{self._who()}") from fault
        return descriptor

    def _is_current(self) -> bool:
        """Whether what we locked is still what stands there, and not a removed one."""
        locked = os.fstat(self._lock)
        try:
            standing = os.lstat(self.path)
        except OSError:
            return False
        same = (locked.st_ino, locked.st_dev) == (standing.st_ino, standing.st_dev)
        return same and stat.S_ISDIR(standing.st_mode)

    def _who(self) -> str:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            return f" (process {json.loads((self.path / 'supervisor.json').read_text())['pid']})"
        return ""

    def _sweep(self) -> None:
        """Only of what a node wrote: a directory that holds a stranger's files is refused."""
        entries = sorted(self.path.iterdir())
        if not entries:
            return
        names = {entry.name for entry in entries}
        if "supervisor.json" not in names and not names <= _OURS:
            raise RunDirError(f"{self.path}: holds files that no node made; choose an empty one")
        self.had_leftovers = True
        now = self._clock.unix()
        for entry in entries:
            if entry.name == "tls":
                continue  # a self-made certificate that somebody has accepted stays the same
            if entry.name == "hls" and now - _newest(entry) <= self._adopt_seconds:
                self.adopted = True
            elif entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                entry.unlink(missing_ok=True)


def sweep_dead(adopt_seconds: float, clock: Clock = SYSTEM) -> list[Path]:
    """Removes what killed nodes of this user left in memory, once it is too old to be adopted.

    Without this a node that is killed and never started again would keep its parts in memory for
    good. Directories of living nodes are locked, those that no supervisor made are not touched.
    """
    swept: list[Path] = []
    if not MEMORY.is_dir():
        return swept
    for path in sorted(MEMORY.glob(f"nexus-{os.getuid()}-*")):
        with contextlib.suppress(OSError):
            if _is_dead(path) and clock.unix() - _newest(path / "hls") > adopt_seconds:
                shutil.rmtree(path, ignore_errors=True)
                swept.append(path)
    return swept


def _is_dead(path: Path) -> bool:
    """Whether a supervisor made it, and none holds its lock any more. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.getuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return (path / "supervisor.json").exists()
    finally:
        os.close(descriptor)


def _newest(path: Path) -> float:
    """The newest change in a folder, two levels deep: a stream's folder changes with each file."""
    newest = 0.0
    with contextlib.suppress(OSError):
        newest = path.lstat().st_mtime
        if path.is_dir():
            with os.scandir(path) as entries:
                for entry in entries:
                    newest = max(newest, entry.stat(follow_symlinks=False).st_mtime)
    return newest

"""The right to a region's state, held by one process at a time: an advisory lock on a file.

It ends with its process however that ends. The file names the holder, for the message that the next
one gets; it is never removed, so that all lock the same file. No file system shared by several
machines is asked to do this.
"""

import asyncio
import contextlib
import fcntl
import json
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ops.clock import SYSTEM
from ops.log import get_logger
from ops.state.errors import StateError
from ops.state.places import Places, Settings, is_embedded, places

_PAUSE_SECONDS: Final = 0.02
_BYTES_MAX: Final = 4_096

_log = get_logger("ops.state")


class Claim:
    """One lock file. Enter to take the lock at once, or `take` it patiently; leave to let it go.

    Owns: the lock.
    """

    def __init__(self, path: Path, *, holder: str = "") -> None:
        """holder: what this process is, for people."""
        self.path = path
        self._holder = holder
        self._file = -1

    def __enter__(self) -> Self:
        """Raises StateError, which names who has it."""
        if not self.try_take():
            raise StateError(self.refusal())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    @property
    def is_held(self) -> bool:
        return self._file >= 0

    async def take(self, patience_seconds: float) -> None:
        """Waits for it. Raises StateError when it is not free in time."""
        deadline = SYSTEM.monotonic() + patience_seconds
        while not self.try_take():
            if SYSTEM.monotonic() >= deadline:
                raise StateError(self.refusal())
            await asyncio.sleep(_PAUSE_SECONDS)

    def try_take(self) -> bool:
        """Takes it when it is free; whether it is held now. Raises StateError: no such folder."""
        if self.is_held:
            return True
        try:
            file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as fault:
            raise StateError(f"{self.path}: {fault.strerror}") from fault
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(file)
            return False
        self._file = file
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps({"pid": os.getpid(), "holder": self._holder}).encode(), 0)
        return True

    def release(self) -> None:
        """Lets it go; more calls do nothing."""
        if self.is_held:
            os.close(self._file)
            self._file = -1

    def refusal(self) -> str:
        """Why it cannot be had now."""
        return f"{self.path.parent}: another node keeps its state there{self._who()}"

    def _who(self) -> str:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads(self.path.read_bytes()[:_BYTES_MAX])
            holder = f", {found['holder']}" if found["holder"] else ""
            return f" (process {found['pid']}{holder}); choose another state.data_dir"
        return "; choose another state.data_dir"


def family_claim(settings: Settings, *, holder: str) -> AbstractContextManager[object]:
    """One node's right to its region's embedded state; nothing where no server of ours is needed.

    Entering raises StateError when another node has it. A directory that cannot be made does not
    keep a node from serving video: it is logged, and the state role says it again.
    """
    if not is_embedded(settings):
        return nullcontext()
    where = places(settings)
    try:
        make_folders(where)
    except StateError as fault:
        _log.warning("no state can be kept", reason=fault.message)
        return nullcontext()
    return Claim(where.family_lock, holder=holder)


def make_folders(where: Places) -> None:
    """The region's folder, which the servers' account may pass through. Raises StateError."""
    missing = [path for path in (where.folder, *where.folder.parents) if not path.exists()]
    try:
        for path in reversed(missing):
            path.mkdir(exist_ok=True)
            path.chmod(0o711)
        if where.folder.stat().st_uid == os.geteuid():
            # Whoever keeps a secret there made it for itself alone; the servers pass through.
            where.folder.chmod(0o711)
    except OSError as fault:
        raise StateError(
            f"{where.folder} cannot be made ({fault.strerror}): set state.data_dir"
        ) from fault

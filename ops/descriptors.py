"""File descriptors of this process: how many it may have, and how many there are.

Connections, HLS files and pipes all come from one number (RLIMIT_NOFILE). Whoever admits
connections asks here first, so that the last descriptors are never spent on strangers.
"""

import contextlib
import errno
import os
import resource
from dataclasses import dataclass
from typing import Final

UNLIMITED: Final = 1_048_576
"""What no limit counts as."""
EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why an accept may fail without the connection's fault."""


@dataclass(frozen=True, slots=True)
class Room:
    """How many connections fit."""

    connections: int
    descriptor_end: int
    """A connection whose descriptor is this or higher has taken what is kept for others."""


def raise_limit() -> int:
    """As many open files as this user may have, also for children; the number."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return UNLIMITED if soft == resource.RLIM_INFINITY else soft


def used() -> int:
    """Descriptors open now. Cost: one directory read."""
    with os.scandir("/proc/self/fd") as found:
        return sum(1 for _ in found) - 1


def room(*, limit: int, taken: int, wanted: int, reserved: int) -> Room:
    """For how many connections of those wanted there is room.

    limit: descriptors that the process may have; taken: those that it has already; reserved: those
    to be kept for all else, at most half of what is left. The kernel gives the lowest free number,
    so a high one tells how many are taken.
    """
    free = max(limit - taken, 2)
    kept = min(reserved, free // 2)
    return Room(max(1, min(wanted, free - kept)), limit - kept // 2)

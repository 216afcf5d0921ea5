"""What the kernel knows of processes: CPU time, memory, children and cores, from /proc."""

import contextlib
import os
from pathlib import Path


def cpu_seconds(*pids: int) -> float:
    """CPU time of all threads of the processes, user and system, to the nanosecond. A thread or a
    process that ends between two calls takes its time with it."""
    return sum(_thread_ns(task) for pid in pids for task in _entries(f"/proc/{pid}/task")) / 1e9


def rss_kib(*pids: int) -> int:
    """Resident memory in KiB. Raises LookupError when one of them has ended."""
    return sum(_resident(pid) for pid in pids)


def family(pid: int) -> list[int]:
    """The process and all its descendants, itself first."""
    found = [pid]
    for known in found:
        with contextlib.suppress(OSError):
            found += children(known)
    return found


def children(pid: int) -> list[int]:
    """Process ids of its children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def pin(pid: int, *cores: int) -> None:
    """Keeps all threads of a process on these cores, and what they start from now on."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), cores)


def _entries(folder: str) -> list[Path]:
    try:
        return [Path(folder, name) for name in os.listdir(folder)]  # noqa: PTH208 - names alone
    except OSError:
        return []


def _thread_ns(task: Path) -> int:
    try:
        return int((task / "schedstat").read_text().split()[0])
    except OSError:
        return 0


def _resident(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    except OSError as fault:
        raise LookupError(f"process {pid} has ended") from fault
    raise LookupError(f"process {pid} has ended")

"""What the kernel knows of a process: CPU time, memory, children and cores, from /proc."""

import json
import os
from pathlib import Path
from urllib.parse import urlsplit


def cpu_seconds(pid: int) -> float:
    """CPU time of all its threads. One that ends between two calls takes its time with it."""
    total_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            total_ns += int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
    return total_ns / 1e9


def rss_kib(pid: int) -> int:
    """Resident memory in KiB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1])
    raise ValueError(f"process {pid} has no memory: it has ended")


def find_media(url: str, run_dir: Path | None = None) -> int:
    """The media process of the node that serves `url` on this machine.

    Raises LookupError when the node's run directory is elsewhere: give it, or the pid.
    """
    port = urlsplit(url).port or 80
    directory = run_dir or Path(f"/dev/shm/nexus-{os.getuid()}-{port}")
    try:
        children = json.loads((directory / "supervisor.json").read_text())["children"]
        return int(next(pid for name, pid in children.items() if name.startswith("media")))
    except (OSError, ValueError, KeyError, StopIteration) as error:
        raise LookupError(f"no media process found by {directory}: give --media-pid") from error


def children(pid: int) -> list[int]:
    """Process ids of its children."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += [int(word) for word in (task / "children").read_text().split()]
    return found


def pin(pid: int, core: int) -> None:
    """Keeps all threads of a process on one core, and what they start."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})

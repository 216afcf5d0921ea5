"""What each process of a node holds: memory, descriptors, threads, tasks; sessions and streams."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from tests.end_to_end.family import Family, fetch

TASKS = re.compile(r'^nexus_process_tasks\{role="(\w+)",slot="(\d+)"\} ([\d.e+]+)$', re.MULTILINE)
TOTAL = re.compile(r"^(nexus_\w+)(?:\{[^}]*\})? ([\d.e+]+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Holding:
    """What one process holds."""

    pid: int
    mib: float
    files: int
    threads: int
    tasks: int


@dataclass(frozen=True, slots=True)
class Sample:
    """A node at one moment."""

    at: float
    processes: Mapping[str, Holding]
    sessions: int
    streams: int
    connections: int

    def counts(self) -> dict[str, int]:
        """All that must come back, by name; memory is not among it."""
        found = {"sessions": self.sessions, "streams": self.streams, "connections": 0}
        found["connections"] = self.connections
        for name, holding in self.processes.items():
            found[f"{name} files"] = holding.files
            found[f"{name} threads"] = holding.threads
            found[f"{name} tasks"] = holding.tasks
        return found


def sample(family: Family) -> Sample:
    """As of now. Raises OSError when the node does not answer. The connection that asks is counted
    as one, with its descriptor and its task, in every sample alike."""
    status, body = fetch(f"{family.url}/metrics", timeout=30)
    assert status == 200, body
    text = body.decode()
    tasks = {f"{role}-{slot}": int(float(count)) for role, slot, count in TASKS.findall(text)}
    totals: dict[str, float] = {}
    for name, value in TOTAL.findall(text):
        totals[name] = totals.get(name, 0.0) + float(value)
    pids = {"supervisor-0": family.pid}
    for role in ("media", "edge"):
        pids.update({f"{role}-{slot}": pid for slot, pid in enumerate(family.pids(role))})
    processes = {name: _holding(pid, tasks.get(name, 0)) for name, pid in pids.items()}
    return Sample(
        at=time.monotonic(),
        processes=processes,
        sessions=int(totals["nexus_webrtc_sessions"]),
        streams=int(totals["nexus_streams"]),
        connections=int(totals["nexus_edge_connections"]),
    )


def counted(family: Family) -> dict[str, float]:
    """Every metric of the node, its series added up."""
    totals: dict[str, float] = {}
    for name, value in TOTAL.findall(fetch(f"{family.url}/metrics", timeout=30)[1].decode()):
        totals[name] = totals.get(name, 0.0) + float(value)
    return totals


def _holding(pid: int, tasks: int) -> Holding:
    process = psutil.Process(pid)
    with process.oneshot():
        return Holding(
            pid=pid,
            mib=process.memory_info().rss / 2**20,
            files=process.num_fds(),
            threads=process.num_threads(),
            tasks=tasks,
        )

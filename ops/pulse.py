"""Once a second a process tells of itself: its tables of metrics, its tasks, its loop's delay.

The file that this renews is also its sign of life (`ops/metric_tables.py`): it stops when the event
loop does. What the kernel knows of a process (CPU, memory, descriptors) the supervisor reads for
all of its family with `tell_costs`, so that it is known of a hung one as well.
"""

import asyncio
import contextlib
import resource
from collections.abc import Iterator, Mapping
from typing import Final

from ops import metric_tables, processes
from ops.log import get_logger

BEAT_SECONDS: Final = 1.0
_PROCESS: Final = ("role", "slot")

_tasks = metric_tables.gauges("nexus_process_tasks", "Tasks on the event loop.", _PROCESS)
_lag = metric_tables.gauges(
    "nexus_process_loop_lag_seconds",
    "How late the event loop came to the last beat, which is one a second.",
    _PROCESS,
)
_cpu = metric_tables.counters(
    "nexus_process_cpu_seconds", "CPU time of the living process.", _PROCESS
)
_resident = metric_tables.gauges(
    "nexus_process_resident_memory_bytes", "Memory it holds.", _PROCESS
)
_threads = metric_tables.gauges("nexus_process_threads", "Threads it has.", _PROCESS)
_files = metric_tables.gauges("nexus_process_open_fds", "Descriptors it holds.", _PROCESS)
_files_max = metric_tables.gauges(
    "nexus_process_max_fds", "Descriptors it may hold at most.", _PROCESS
)
_log = get_logger("ops.pulse")


@contextlib.contextmanager
def beating(role: str, slot: int) -> Iterator[None]:
    """Beats on the running loop until left."""
    pulse = _Pulse((role, str(slot)))
    pulse.beat()
    try:
        yield
    finally:
        pulse.stop()


def tell_costs(pids: Mapping[str, int]) -> None:
    """Takes over what the kernel knows of these processes, by role and slot ("edge-0"). Cost: a
    few reads of /proc each."""
    found = {}
    for name, pid in pids.items():
        with contextlib.suppress(OSError):
            role, _, slot = name.rpartition("-")
            most = resource.prlimit(pid, resource.RLIMIT_NOFILE)[0]
            found[role, slot] = (processes.cost(pid), most)
    _cpu.replace({name: cost.cpu_seconds for name, (cost, _) in found.items()})
    _resident.replace({name: cost.resident_bytes for name, (cost, _) in found.items()})
    _threads.replace({name: cost.threads for name, (cost, _) in found.items()})
    _files.replace({name: cost.files for name, (cost, _) in found.items()})
    _files_max.replace({name: most for name, (_, most) in found.items()})


class _Pulse:
    """Owns one timer, from `beat` to `stop`."""

    def __init__(self, process: tuple[str, str]) -> None:
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        self._failed = False

    def beat(self) -> None:
        now = self._loop.time()
        _lag.replace({self._process: max(0.0, now - self._due)})
        _tasks.replace({self._process: len(asyncio.all_tasks(self._loop))})
        try:
            metric_tables.write()
        except OSError as error:
            if not self._failed:
                _log.error("metrics cannot be written", reason=error.strerror)
            self._failed = True
        else:
            self._failed = False
        self._due = now + BEAT_SECONDS
        self._timer = self._loop.call_at(self._due, self.beat)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

"""Starts a node's children, starts them again when they die, and stops them promptly.

Theory of operation. The supervisor holds every socket, so that a child's death loses none:
connections wait in the listening socket's queue, datagrams in the UDP socket's, until the next
child takes over.

    starting ──ready──▶ running ──exit──▶ pausing ──▶ starting …      pause: 0, 0.2, 0.4, 0.8 … 5 s
        │ exit                                                        (as after 30 s of health)
        ├──▶ pausing
        └──▶ hopeless: exits with EXIT_SETTINGS, or dies FIRST_STARTS_MAX times before the node was
             ever ready: the whole node stops with that child's code

A child that lives and hangs is as bad as a dead one: each beats on its status pipe as long as its
event loop turns, and one that has been silent for `hang_seconds` is killed and started again like
any other. Silence counts only while the supervisor itself was awake to hear.

Children die with it however it ends: by SIGTERM when it stops, by the kernel's parent-death signal
and by the closing life pipe when it is killed. One that `outlives` it has the pipe alone, and ends
when it has handed on what it keeps. It speaks no protocol and knows no role: what to
start, with which sockets, comes in as `Child`.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from ops import inherited, pulse
from ops.clock import SYSTEM, Clock
from ops.log import get_logger
from ops.metrics import counter, gauge
from ops.run_dir import RunDir
from ops.tasks import Restart, SupervisedGroup

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_SETTINGS: Final = 2
FIRST_STARTS_MAX: Final = 5
"""Deaths of one child before the node was ready, after which the node gives up."""
STATUS_BYTES_MAX: Final = 4_096
START_SECONDS: Final = 60.0
"""How long a child may take until its first beat, where hanging is looked for."""
MEASURE_SECONDS: Final = 5.0
"""How often the children's cost is read."""
PATIENCE_SECONDS: Final = 10.0
"""How long the node's "ready" waits for children that are not essential."""

_RESTARTS = counter("nexus_child_restarts", "Children started again after they died.", ("child",))
_HANGS = counter("nexus_child_hangs", "Children killed because they hung.", ("child",))
_RUNNING = gauge("nexus_children_running", "Children that run and are ready.")
_log = get_logger("ops.supervisor")


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep running."""

    name: str
    """Role and slot, such as "edge-0"."""
    command: tuple[str, ...]
    slot: int = 0
    sockets: Mapping[str, Sequence[socket.socket]] = field(default_factory=dict)
    """By the names of `Inherited`: http, https, media, udp."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables beside those that this process has; settings are handed over otherwise."""
    essential: bool = True
    """Whether the node is ready only with it, and gives up when it cannot start."""
    stops_first: bool = False
    """Stopped before the others, so that it can still say goodbye to them."""
    stops_last: bool = False
    """Stopped when the others have ended, since they need it until then."""
    stop_seconds: float = 0.0
    """How long it may take to stop; 0: as the node says."""
    outlives: bool = False
    """Left to end by itself when the supervisor is gone, once it has handed on what it keeps."""
    reloads: bool = False
    """Whether it is sent SIGHUP when the supervisor is."""


@dataclass(slots=True, eq=False)
class _Running:
    """A child and its present process."""

    child: Child
    process: subprocess.Popen[bytes] | None = None
    ready: bool = False
    was_ready: bool = False
    failures: int = 0
    silent_since: float = 0.0
    """When it last beat, or was started; by the supervisor's clock."""
    beats: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Supervisor:
    """Keeps children running until it is told to stop.

    Owns: the processes, the life pipe and the settings' memory file; not the sockets, nor the run
    directory, in which it writes `supervisor.json`.
    """

    def __init__(
        self,
        children: Sequence[Child],
        *,
        run_dir: RunDir,
        settings: Mapping[str, Any],
        facts: Mapping[str, Any],
        stop_seconds: float = 5.0,
        hang_seconds: float = 0.0,
        on_ready: Callable[[], None] | None = None,
        clock: Clock = SYSTEM,
        restart: Restart | None = None,
    ) -> None:
        """facts: what `supervisor.json` says beside pids. hang_seconds: after which a silent child
        is killed; 0: never. on_ready: called once, when all are
        ready, or when the essential ones are and the others have been waited for."""
        self._states = [_Running(child) for child in children]
        self._run_dir = run_dir
        self._facts = dict(facts)
        self._settings = settings
        self._stop_seconds = stop_seconds
        self._hang_seconds = hang_seconds
        self._on_ready = on_ready
        self._clock = clock
        self._restart = restart or Restart()
        self._stop = asyncio.Event()
        self._code = EXIT_OK
        self._node_was_ready = False
        self._announced = False
        self._life_read, self._life_write = -1, -1
        self._memory = -1

    async def run(self) -> int:
        """Runs the children until SIGTERM, SIGINT or `stop`; the exit code of the node.

        A second signal while it stops kills the children at once.
        """
        for state in self._states:
            # So that the first one is an increase.
            for counter_of_child in (_RESTARTS, _HANGS):
                counter_of_child.inc(0, labels=(state.child.name,))
        self._life_read, self._life_write = os.pipe()
        self._memory = inherited.settings_memory(self._settings)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_signal, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            async with SupervisedGroup("supervisor", on_failure=self._on_bug) as group:
                for state in self._states:
                    group.start(state.child.name, self._keep(state))
                group.start("measure", self._measure())
                if self._hang_seconds:
                    group.start("listen", self._listen())
                with pulse.beating("supervisor", 0):
                    await self._stop.wait()
                await self._stop_all()
                # Nothing may be left, whatever happened above.
                self._signal_all(signal.SIGKILL)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                loop.remove_signal_handler(number)
            for descriptor in (self._life_read, self._life_write, self._memory):
                os.close(descriptor)
        return self._code

    def stop(self, code: int = EXIT_OK) -> None:
        """Begins the stop; `run` then returns `code`."""
        if not self._stop.is_set():
            self._code = code
            self._stop.set()

    def pids(self) -> dict[str, int]:
        """The living children's process ids by name."""
        return {
            state.child.name: state.process.pid
            for state in self._states
            if state.process is not None
        }

    async def _keep(self, state: _Running) -> None:
        """Runs one child again and again."""
        while not self._stop.is_set():
            began = self._clock.monotonic()
            code = await self._run_once(state)
            if self._stop.is_set():
                return
            if self._clock.monotonic() - began >= self._restart.healthy_seconds:
                state.failures = 0
            state.failures += 1
            if self._is_hopeless(state, code):
                return
            self._announce_if_complete()
            pause = self._restart.pause_seconds(state.failures)
            _RESTARTS.inc(labels=(state.child.name,))
            _log.warning(
                "child died", child=state.child.name, **_ending(code), restart_in_seconds=pause
            )
            if pause:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._stop.wait()

    def _is_hopeless(self, state: _Running, code: int) -> bool:
        """Stops the node when this child will never come up."""
        if state.was_ready or not state.child.essential or self._node_was_ready:
            return False
        if code != EXIT_SETTINGS and state.failures < FIRST_STARTS_MAX:
            return False
        _log.error("child cannot start: the node stops", child=state.child.name, **_ending(code))
        self.stop(EXIT_SETTINGS if code == EXIT_SETTINGS else EXIT_FAILED)
        return True

    async def _run_once(self, state: _Running) -> int:
        """One life of a child; its exit code, negative for a signal."""
        status_read, status_write = os.pipe()
        os.set_blocking(status_read, False)
        try:
            process = self._spawn(state.child, status_write)
        except OSError as fault:
            os.close(status_read)
            _log.error("child cannot be started", child=state.child.name, reason=str(fault))
            return EXIT_FAILED
        finally:
            os.close(status_write)
        state.process = process
        state.silent_since, state.beats = self._clock.monotonic(), False
        state.ended.clear()
        loop = asyncio.get_running_loop()
        handle = os.pidfd_open(process.pid)
        loop.add_reader(handle, state.ended.set)
        loop.add_reader(status_read, self._on_status, state, status_read)
        self._write_facts()
        try:
            await state.ended.wait()
        finally:
            loop.remove_reader(handle)
            loop.remove_reader(status_read)
            os.close(handle)
            os.close(status_read)
            if process.poll() is None:
                _kill(process, signal.SIGKILL)
            _kill_group(process.pid)
            code = process.wait()
            state.process, state.ready = None, False
            self._count()
        self._write_facts()
        return code

    def _spawn(self, child: Child, status: int) -> subprocess.Popen[bytes]:
        text, descriptors = inherited.describe(
            sockets=child.sockets,
            slot=child.slot,
            life=self._life_read,
            status=status,
            settings=self._memory,
            parent=os.getpid(),
            outlives=child.outlives,
        )
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("NEXUS_") and name != "PROMETHEUS_MULTIPROC_DIR"
        }
        return subprocess.Popen(  # noqa: S603  our own command
            child.command,
            env={**environment, **child.environment, inherited.VARIABLE: text},
            pass_fds=descriptors,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _on_status(self, state: _Running, descriptor: int) -> None:
        """A beat or the line from the child, or the end of its pipe."""
        try:
            data = os.read(descriptor, STATUS_BYTES_MAX)
        except BlockingIOError:
            return
        if not data or state.process is None:
            asyncio.get_running_loop().remove_reader(descriptor)
            return
        state.silent_since = self._clock.monotonic()
        state.beats = state.beats or inherited.BEAT in data
        if state.ready or inherited.READY not in data:
            return
        state.ready = state.was_ready = True
        _log.info("child is ready", child=state.child.name, pid=state.process.pid)
        self._count()
        if not self._node_was_ready and all(
            item.ready for item in self._states if item.child.essential
        ):
            self._node_was_ready = True
            asyncio.get_running_loop().call_later(PATIENCE_SECONDS, self._announce)
        self._announce_if_complete()

    def _announce_if_complete(self) -> None:
        """Waits for no child that has died before it ever was ready."""
        if self._node_was_ready and all(item.was_ready or item.failures for item in self._states):
            self._announce()

    def _announce(self) -> None:
        """Tells whoever started the node that it serves, once."""
        if self._announced or self._stop.is_set():
            return
        self._announced = True
        if self._on_ready is not None:
            self._on_ready()

    async def _measure(self) -> None:
        while True:
            pulse.tell_costs({"supervisor-0": os.getpid(), **self.pids()})
            await asyncio.sleep(MEASURE_SECONDS)

    async def _listen(self) -> None:
        """Kills whoever is silent for too long."""
        pause = self._hang_seconds / inherited.BEATS_IN_A_HANG
        looked = self._clock.monotonic()
        while True:
            await asyncio.sleep(pause)
            now = self._clock.monotonic()
            overslept = now - looked > 2 * pause
            looked = now
            for state in self._states:
                if overslept:
                    # What they said meanwhile still lies in the pipes.
                    state.silent_since = now
                self._kill_if_silent(state, now - state.silent_since)

    def _kill_if_silent(self, state: _Running, seconds: float) -> None:
        allowed = self._hang_seconds
        if not state.beats:
            allowed = max(allowed, START_SECONDS)
        if state.process is None or self._stop.is_set() or seconds <= allowed:
            return
        _HANGS.inc(labels=(state.child.name,))
        _log.error("child hangs: killed", child=state.child.name, silent_seconds=round(seconds, 1))
        state.silent_since = self._clock.monotonic()
        _kill(state.process, signal.SIGKILL)

    def _count(self) -> None:
        _RUNNING.set(sum(state.ready for state in self._states))

    def _write_facts(self) -> None:
        with contextlib.suppress(OSError):
            facts = {"pid": os.getpid(), **self._facts, "children": self.pids()}
            self._run_dir.write_json("supervisor.json", facts)

    def _on_signal(self, number: int) -> None:
        if self._stop.is_set():
            _log.warning("second signal: children are killed")
            self._code = EXIT_FAILED
            self._signal_all(signal.SIGKILL)
            return
        _log.info("stopping", signal=signal.Signals(number).name)
        self.stop()

    def _reload(self) -> None:
        """SIGHUP: a terminal that went away stops the node, anything else means "reload"."""
        if os.isatty(0):
            self.stop()
            return
        for state in self._states:
            if state.child.reloads and state.process is not None:
                _kill(state.process, signal.SIGHUP)

    def _on_bug(self, name: str, error: BaseException) -> None:
        """The keeper of a child failed, a fault of ours: better no node than half of one."""
        _log.error("the node stops", task=name, reason=repr(error))
        self.stop(EXIT_FAILED)

    async def _stop_all(self) -> None:
        first = [state for state in self._states if state.child.stops_first]
        last = [state for state in self._states if state.child.stops_last]
        rest = [state for state in self._states if state not in (*first, *last)]
        await self._end(first, min(1.0, self._stop_seconds))
        await self._end(rest, self._stop_seconds)
        for state in last:
            await self._end([state], state.child.stop_seconds or self._stop_seconds)

    async def _end(self, states: Sequence[_Running], seconds: float) -> None:
        """SIGTERM, then after `seconds` SIGKILL."""
        living = [state for state in states if state.process is not None]
        for state in living:
            assert state.process is not None
            _kill(state.process, signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for state in living:
                    await state.ended.wait()
        for state in living:
            if state.process is not None and not state.ended.is_set():
                _log.warning("child did not stop in time: killed", child=state.child.name)
                _kill(state.process, signal.SIGKILL)
        for state in living:
            await state.ended.wait()

    def _signal_all(self, number: int) -> None:
        for state in self._states:
            if state.process is not None:
                _kill(state.process, number)


def _kill(process: subprocess.Popen[bytes], number: int) -> None:
    """Popen knows whether the process was reaped already, so this never hits a stranger."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(number)


def _kill_group(pid: int) -> None:
    """What the dead child may have started itself. Call it before the child is reaped: its process
    id names its session until then."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _ending(code: int) -> dict[str, str | int]:
    if code >= 0:
        return {"exit_code": code}
    with contextlib.suppress(ValueError):
        return {"signal": signal.Signals(-code).name}
    return {"signal": -code}

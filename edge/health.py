"""Whether a node lives and may get requests: the checks behind /livez and /readyz.

Live: this worker's loop runs (it answers) and so does the supervisor's, told by the file that it
renews each second. A node that is not live should be started anew by whoever started it. Media is
no part of it: the supervisor brings a dead one back, and a restart of the node would cost more.

Ready: media answers a ping through the same link as every request, and has told of all streams;
this worker takes connections; the run directory can be written. A node that is not ready should get
no new viewers for now. Nothing is asked twice within half a second, however many ask.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from edge.media_link import MediaLink
from ops import metric_tables
from ops.errors import NexusError
from ops.tasks import within

PING_SECONDS: Final = 1.0
"""How long media may take to answer."""
SUPERVISOR_SECONDS_MAX: Final = 10.0
"""How old the supervisor's last sign of life may be."""
KEPT_SECONDS: Final = 0.5
"""How long an outcome is given to everybody who asks."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check found; `reason` is empty when all is well."""

    check: str
    reason: str = ""


Check = Callable[[], Awaitable[str]]


class Checks:
    """Some checks, made together, one round at a time."""

    def __init__(self, checks: dict[str, Check]) -> None:
        self._checks = checks
        self._lock = asyncio.Lock()
        self._outcomes: tuple[Outcome, ...] = ()
        self._made_at = 0.0

    async def outcomes(self) -> tuple[Outcome, ...]:
        """What the checks find now, or found half a second ago. Cost: waits for the slowest."""
        async with self._lock:
            loop = asyncio.get_running_loop()
            if not self._outcomes or loop.time() - self._made_at > KEPT_SECONDS:
                reasons = [(name, await check()) for name, check in self._checks.items()]
                self._outcomes = tuple(Outcome(name, reason) for name, reason in reasons)
                self._made_at = loop.time()
            return self._outcomes


def liveness(run_dir: Path, *, supervised: bool) -> Checks:
    """Whether the node should go on as it is. supervised: there is a supervisor."""

    async def worker() -> str:
        return ""

    async def supervisor() -> str:
        seconds = metric_tables.age(run_dir / "metrics", "supervisor-0")
        if seconds is None:
            return "the supervisor has not told of itself"
        if seconds > SUPERVISOR_SECONDS_MAX:
            return f"the supervisor was last heard of {seconds:.0f} s ago"
        return ""

    return Checks({"worker": worker, **({"supervisor": supervisor} if supervised else {})})


def readiness(link: MediaLink, *, listening: Callable[[], bool], run_dir: Path) -> Checks:
    """Whether this worker can serve. listening: whether its sockets take connections."""

    async def media() -> str:
        if not link.ready:
            return "media is not there yet"
        try:
            await within(PING_SECONDS, link.ping(), "media's answer")
        except NexusError as error:
            return error.message
        return ""

    async def sockets() -> str:
        return "" if listening() else "no connections are taken"

    async def directory() -> str:
        probe = run_dir / f"ready-{os.getpid()}"
        try:
            probe.write_bytes(b"1")
            probe.unlink(missing_ok=True)
        except OSError as error:
            return f"the run directory cannot be written: {error.strerror}"
        return ""

    return Checks({"media": media, "sockets": sockets, "run_dir": directory})


def listing(name: str, outcomes: tuple[Outcome, ...]) -> str:
    """The checks one a line, as Kubernetes' own components write them."""
    lines = [
        f"[-]{item.check} failed: {item.reason}" if item.reason else f"[+]{item.check} ok"
        for item in outcomes
    ]
    verdict = "failed" if any(item.reason for item in outcomes) else "passed"
    return "\n".join([*lines, f"{name} check {verdict}"]) + "\n"

"""Runs the jobs of all services in one worker process.

Theory of operation. Three things tell a worker that there is work: a notice (somebody enqueued, or
gave a job back), the time at which it knows something is due, and a look at all schemas in one
question every `poll_seconds`. Schemas that have ready jobs stand in a ring; while places are free
the next in the ring is asked for as many jobs as there are places (`desk.py` shares them between
tenants), and each claimed job is started at once. A job that ends makes its place free.

        notice ─┐                    ┌────────── empty ──────────┐
    time is due ┼─▶ look ─▶ ring ─▶ claim ─▶ attempt ─▶ place free ─▶ …
          poll ─┘     └─▶ sweep: due jobs, ended leases; schedules that fire

Leases of jobs that run long are renewed; one that turns out to be lost ends its attempt. While the
database is away nothing is claimed, and what runs fails by itself. Leaving the runner drains it:
running jobs get `grace_seconds`, then they are cancelled, rolled back and given back.
"""

import asyncio
import contextlib
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from ops.clock import SYSTEM
from ops.db import Database
from ops.db_faults import DatabaseFault
from ops.ids import IdMaker
from ops.log import get_logger
from ops.metrics import counter, gauge, histogram
from ops.tasks import Restart, SupervisedGroup
from services._jobs.attempt import Outcome, Owner, Run, Work, attempt
from services._jobs.desk import SWEEP_MAX, Claim, Desk, Desks
from services._jobs.settings import JobSettings

Loop = tuple[str, Callable[[], Coroutine[Any, Any, None]]]
"""A name, and what to keep running: for a SupervisedGroup's `keep`."""

RENEWALS_IN_A_LEASE: Final = 3
TIDY_SECONDS: Final = 600.0
"""How often a worker forgets old dead jobs, and counts the others."""
RELEASE_SECONDS: Final = 1.0
"""How long giving jobs back may take while a worker stops."""
PAUSE_SECONDS_MAX: Final = 1.0
"""Between tries while the database is away."""
_BUSY_PAUSE_SECONDS: Final = 0.5
_BUCKETS: Final = (0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0, 600.0)

_ended = counter("nexus_jobs_ended", "Attempts at jobs, by how they ended.", ("service", "outcome"))
_running = gauge("nexus_jobs_running", "Jobs that run now.")
_places = gauge("nexus_jobs_running_max", "Jobs that may run at once.")
_waited = histogram(
    "nexus_jobs_wait_seconds", "From when a job was to run until it did.", buckets=_BUCKETS
)
_took = histogram("nexus_jobs_run_seconds", "How long attempts took.", buckets=_BUCKETS)
_expired = counter("nexus_jobs_moved", "Jobs that became due, or whose worker was lost.")
_fired = counter("nexus_jobs_scheduled", "Jobs made by schedules.", ("service",))
_dead = gauge(
    "nexus_jobs_dead", "Jobs that are dead and wait for a replay.", ("service",), combine="max"
)
_log = get_logger("services.jobs")


@dataclass(slots=True, eq=False)
class _Held:
    """A claim of ours that is not settled."""

    work: Work
    claim: Claim
    task: asyncio.Task[None] | None = None


class Runner:
    """One worker's share of all jobs. `async with` it, and keep its `loops` running meanwhile.

    Owns: the tasks of running jobs. The databases are the caller's: one with a connection for each
    of `settings.running_max` jobs, and `claims`, made with `desk.BY_INDEX`, with two or more.
    """

    def __init__(
        self,
        database: Database,
        owners: Iterable[Owner],
        run: Run,
        settings: JobSettings,
        *,
        claims: Database,
        ids: IdMaker,
    ) -> None:
        self._claims = claims
        self._settings = settings
        self._ids = ids
        self._work = {
            owner.schema: Work(owner, Desk(owner.schema, owner.jobs), run, database, claims)
            for owner in owners
            if owner.jobs
        }
        self._desks = Desks(work.desk for work in self._work.values())
        self._ring: dict[str, None] = {}
        """Schemas that may have ready jobs, the next to be asked first."""
        self._held: dict[tuple[str, str, int], _Held] = {}
        self._wake = asyncio.Event()
        self._look_at = 0.0
        self._tidy_at = 0.0
        self._registered = False
        self._stopping = False
        self._group = SupervisedGroup("jobs", tasks_max=settings.running_max)
        _places.inc(settings.running_max)
        for schema in self._work:
            # Told from the start: the first dead job is to be seen as one more than none.
            _ended.inc(0.0, labels=(schema, Outcome.DEAD))

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        self._wake.set()
        tasks = [held.task for held in self._held.values() if held.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.grace_seconds)
        await self._group.stop()
        for held in self._held.values():
            _ended.inc(labels=(held.work.owner.schema, Outcome.RELEASED))
        await self._give_back(list(self._held.values()))
        self._held.clear()

    def loops(self) -> list[Loop]:
        """What to keep running while the runner is entered."""
        return [("jobs", self.claim_jobs), ("leases", self.renew_leases)]

    def heard(self, notice: str) -> None:
        """Takes a notice of `queue.CHANNEL`, or "" when some may have been missed."""
        schema, _, delay = notice.partition(" ")
        if schema not in self._work:
            self._look_by(0.0)
        elif delay.isdecimal() and int(delay) > 0:
            self._look_by(int(delay) / 1_000)
        else:
            self._ring.setdefault(schema)
        self._wake.set()

    async def claim_jobs(self) -> None:
        """Finds, claims and starts jobs until cancelled or the runner is left."""
        restart = Restart(pause_seconds_first=0.2, pause_seconds_max=PAUSE_SECONDS_MAX)
        failures = 0
        while self._work and not self._stopping:
            try:
                await self._round()
            except DatabaseFault as fault:
                failures += 1
                if failures == 1:
                    _log.warning("jobs wait for the database", code=fault.code)
                self._look_at = 0.0
                await asyncio.sleep(restart.pause_seconds(failures))
                continue
            if failures:
                _log.info("jobs go on", failures=failures)
            failures = 0
            await self._rest()
        await asyncio.Event().wait()

    async def renew_leases(self) -> None:
        """Renews the leases of running jobs until cancelled."""
        lease = self._settings.lease_seconds
        while True:
            await asyncio.sleep(lease / RENEWALS_IN_A_LEASE)
            by_desk: dict[Desk, list[_Held]] = defaultdict(list)
            for held in self._held.values():
                by_desk[held.work.desk].append(held)
            for desk, all_held in by_desk.items():
                try:
                    async with self._claims.relay("") as session:
                        claims = [held.claim for held in all_held]
                        kept = await desk.extend(session, claims, lease)
                except DatabaseFault as fault:
                    _log.warning("leases are not renewed", service=desk.schema, code=fault.code)
                    continue
                for held in all_held:
                    if held.claim.id not in kept:
                        self._drop(held)

    async def _round(self) -> None:
        """Looks where it is time to, then fills the free places."""
        if not self._registered:
            async with self._claims.relay("") as session:
                for desk in self._desks.by_schema.values():
                    await desk.register(session)
            self._registered = True
        if SYSTEM.monotonic() >= self._look_at:
            await self._look()
        while self._ring and self._free > 0 and not self._stopping:
            schema = next(iter(self._ring))
            # Out of the ring before it is asked: a notice that comes meanwhile puts it back.
            del self._ring[schema]
            desk = self._desks.by_schema[schema]
            async with self._claims.relay("") as session:
                claims = await desk.claim(session, self._free, self._settings.lease_seconds)
                if self._stopping:
                    await desk.release(session, claims)
                    return
            for claim in claims:
                self._start(self._work[schema], claim)
            if claims:
                self._ring.setdefault(schema)

    @property
    def _free(self) -> int:
        return self._settings.running_max - len(self._held)

    async def _look(self) -> None:
        """Asks all schemas what there is to do, and does what is due."""
        began = SYSTEM.monotonic()
        # Workers that were started together come apart.
        pause = self._settings.poll_seconds * random.uniform(0.8, 1.2)  # noqa: S311
        for schema, outlook in (await self._desks.look(self._claims)).items():
            desk = self._desks.by_schema[schema]
            if outlook.due_seconds is not None:
                if outlook.due_seconds <= 0 and await self._sweep(desk) >= SWEEP_MAX:
                    pause = 0.0
                pause = min(pause, max(outlook.due_seconds, 0.01))
            if outlook.slot_seconds is not None:
                if outlook.slot_seconds <= 0:
                    await self._fire(desk)
                pause = min(pause, max(outlook.slot_seconds, 0.01))
            if outlook.ready:
                self._ring.setdefault(schema)
        self._look_at = began + pause
        if began >= self._tidy_at:
            self._tidy_at = began + TIDY_SECONDS
            await self._tidy()

    async def _sweep(self, desk: Desk) -> int:
        async with self._claims.relay("") as session:
            moved, dead = await desk.sweep(session, self._settings.losses_max)
        _expired.inc(moved)
        for name in dead:
            _ended.inc(labels=(desk.schema, Outcome.DEAD))
            _log.error("job is dead", service=desk.schema, job=name, reason="it lost its workers")
        if moved:
            self._ring.setdefault(desk.schema)
        return moved

    async def _fire(self, desk: Desk) -> None:
        async with self._claims.relay("") as session:
            made = await desk.fire(session, lambda: self._ids.new("job"))
        _fired.inc(made, labels=(desk.schema,))
        if made:
            self._ring.setdefault(desk.schema)

    async def _tidy(self) -> None:
        for desk in self._desks.by_schema.values():
            async with self._claims.relay("") as session:
                count = await desk.forget(session, self._settings.dead_seconds)
            _dead.set(count, labels=(desk.schema,))

    async def _rest(self) -> None:
        """Waits until there may be something to do."""
        pause = max(0.0, self._look_at - SYSTEM.monotonic())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await self._wake.wait()
        self._wake.clear()

    def _start(self, work: Work, claim: Claim) -> None:
        held = _Held(work, claim)
        self._held[_key(held)] = held
        _running.inc()
        _waited.observe(max(0.0, claim.waited_seconds))
        held.task = self._group.start(f"{work.owner.schema}.{claim.job.name}", self._attend(held))

    async def _attend(self, held: _Held) -> None:
        """Runs a job; when cancelled it stays held, for whoever cancelled to settle."""
        began = SYSTEM.monotonic()
        settled = True
        try:
            outcome = await self._settle(held)
            _ended.inc(labels=(held.work.desk.schema, outcome))
            _took.observe(SYSTEM.monotonic() - began)
        except asyncio.CancelledError:
            settled = False
            raise
        finally:
            if settled:
                self._held.pop(_key(held), None)
            _running.dec()
            self._wake.set()

    async def _settle(self, held: _Held) -> Outcome:
        job = held.claim.job
        try:
            outcome = await attempt(held.work, held.claim)
        except DatabaseFault:
            # No fault of the job's: others, or we, try it again once there are connections.
            await asyncio.sleep(_BUSY_PAUSE_SECONDS)
            await self._give_back([held])
            return Outcome.RELEASED
        if outcome is Outcome.FAILED:
            self._look_by(job.backoff.first_seconds * (1 - job.backoff.spread))
        return outcome

    def _drop(self, held: _Held) -> None:
        """Ends an attempt whose lease is lost; one that has just ended is none of those."""
        if self._held.pop(_key(held), None) is not None and held.task is not None:
            _ended.inc(labels=(held.work.desk.schema, Outcome.LOST))
            held.task.cancel()

    async def _give_back(self, all_held: list[_Held]) -> None:
        """Releases claims; when the database is away their leases end by themselves."""
        by_desk: dict[Desk, list[Claim]] = defaultdict(list)
        for held in all_held:
            by_desk[held.work.desk].append(held.claim)
        for desk, claims in by_desk.items():
            with contextlib.suppress(DatabaseFault, TimeoutError):
                async with asyncio.timeout(RELEASE_SECONDS), self._claims.relay("") as session:
                    await desk.release(session, claims)

    def _look_by(self, seconds: float) -> None:
        """Looks in that time at the latest."""
        self._look_at = min(self._look_at, SYSTEM.monotonic() + seconds)


def _key(held: _Held) -> tuple[str, str, int]:
    return held.work.desk.schema, held.claim.id, held.claim.token

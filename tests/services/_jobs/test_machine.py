"""Random histories of one queue, beside a model: whatever happens, states and effects agree."""

import asyncio
from collections import Counter
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run_machine

from services._jobs.desk import Claim, Desk
from tests.fakes.postgres import Postgres
from tests.services._jobs.errands import JOBS, SCHEMA, WRITE, World, world

T = TypeVar("T")

STEP = 10_000
"""Seconds that time moves by: no test takes as long, so the real clock never blurs the model's."""
LOSSES_MAX = 3


@dataclass(slots=True)
class Known:
    """What the model knows of one job; times are seconds after the start."""

    tenant: str
    key: str
    priority: int
    state: str
    run_at: float
    token: int = 0
    lease: float = 0.0
    losses: int = 0
    failures: int = 0


@dataclass(slots=True)
class Scene:
    """One database for all examples, and the loop it is used on."""

    runner: asyncio.Runner
    world: World
    start: datetime = field(default_factory=lambda: datetime.now(UTC))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)


class QueueMachine(RuleBasedStateMachine):
    """Enqueueing, claiming, ending, failing, losing and waiting, in any order."""

    def __init__(self, scene: Scene) -> None:
        super().__init__()
        self.scene = scene
        self.errands = scene.world
        self.offset = STEP / 2
        self.jobs: dict[str, Known] = {}
        self.claims: list[Claim] = []
        self.effects: Counter[tuple[str, str]] = Counter()
        self.desk = Desk(SCHEMA, JOBS)
        self.set_time()

    def set_time(self) -> None:
        self.desk.now = self.scene.start + timedelta(seconds=self.offset)

    def teardown(self) -> None:
        self.errands.postgres.run(f"TRUNCATE {SCHEMA}.job, {SCHEMA}.effect")

    @rule(
        tenant=st.sampled_from(["a", "b", "c"]),
        key=st.sampled_from(["", "", "k", "l"]),
        delay=st.sampled_from([0, 0, STEP, 3 * STEP]),
        priority=st.sampled_from([0, 0, 1]),
    )
    def enqueue(self, tenant: str, key: str, delay: int, priority: int) -> None:
        more = {"unique": key, "delay_seconds": float(delay), "priority": priority}
        made = self.scene.run(self.errands.enqueue(WRITE, "x", tenant=tenant, **more))
        same = [
            name
            for name, job in self.jobs.items()
            if key and (job.tenant, job.key) == (tenant, key) and job.state != "dead"
        ]
        if same:
            assert made == same[0]
            return
        assert made not in self.jobs
        state = "delayed" if delay else "ready"
        self.jobs[made] = Known(tenant, key, priority, state, float(delay))

    @rule(most=st.integers(1, 4), steps=st.integers(1, 4))
    def claim(self, most: int, steps: int) -> None:
        ready = {name: job for name, job in self.jobs.items() if job.state == "ready"}
        claims = self.scene.run(self.errands.claim(self.desk, most, steps * STEP))
        assert len(claims) <= most
        assert bool(claims) == bool(ready)
        top = max((job.priority for job in ready.values()), default=0)
        for claim in claims:
            job = self.jobs[claim.id]
            assert (job.state, job.priority) == ("ready", top)
            assert (claim.tenant, claim.token) == (job.tenant, job.token + 1)
            assert claim.failures == job.failures
            job.state, job.token, job.lease = "running", claim.token, self.offset + steps * STEP
        self.claims += claims

    @precondition(lambda self: self.claims)
    @rule(
        data=st.data(), how=st.sampled_from(["done", "done", "fail", "dead", "release", "extend"])
    )
    def settle(self, data: st.DataObject, how: str) -> None:
        """Whoever holds a claim, old or new, does something with it."""
        claim = data.draw(st.sampled_from(self.claims))
        job = self.jobs.get(claim.id)
        ours = job is not None and (job.state, job.token) == ("running", claim.token)
        if how == "done":
            outcome = self.scene.run(self.errands.attempt(self.desk, claim))
            assert outcome == ("done" if ours else "lost")
        else:
            answer = self.scene.run(self.tell(claim, how))
            assert answer is None or answer == ours
        if job is None or not ours:
            return
        if how == "done":
            del self.jobs[claim.id]
            self.effects[claim.tenant, "x"] += 1
        elif how == "extend":
            job.lease = self.offset + 2 * STEP
        elif how == "release":
            job.state = "ready"
        else:
            job.failures += 1
            job.state = "dead" if how == "dead" else "delayed"
            job.run_at = self.offset + (0 if how == "dead" else STEP)

    async def tell(self, claim: Claim, how: str) -> bool | None:
        async with self.errands.database.relay("") as session:
            if how == "extend":
                return claim.id in await self.desk.extend(session, [claim], 2 * STEP)
            if how == "release":
                await self.desk.release(session, [claim])
                return None
            pause = None if how == "dead" else float(STEP)
            return await self.desk.fail(session, claim, error="no", pause_seconds=pause)

    @rule(steps=st.integers(1, 3))
    def wait(self, steps: int) -> None:
        self.offset += steps * STEP + 1
        self.set_time()

    @rule()
    def sweep(self) -> None:
        moved, dead = self.scene.run(self.errands.sweep(self.desk, LOSSES_MAX))
        expected, died = 0, 0
        for job in self.jobs.values():
            if job.state == "delayed" and job.run_at <= self.offset:
                job.state = "ready"
                expected += 1
            elif job.state == "running" and job.lease <= self.offset:
                job.losses += 1
                job.state = "dead" if job.losses >= LOSSES_MAX else "ready"
                died += job.state == "dead"
                expected += 1
        assert (moved, len(dead)) == (expected, died)

    @precondition(lambda self: any(job.state == "dead" for job in self.jobs.values()))
    @rule(data=st.data())
    def replay(self, data: st.DataObject) -> None:
        dead = [name for name, job in self.jobs.items() if job.state == "dead" and not job.key]
        if dead:
            chosen = data.draw(st.sampled_from(dead))
            assert self.scene.run(self.errands.replay(self.desk, chosen))
            job = self.jobs[chosen]
            job.state, job.failures, job.losses = "ready", 0, 0

    @invariant()
    def states_agree(self) -> None:
        rows = self.scene.run(self.errands.jobs())
        found = {row["id"]: (row["state"], row["token"], row["failures"]) for row in rows}
        assert found == {
            name: (job.state, job.token, job.failures) for name, job in self.jobs.items()
        }

    @invariant()
    def each_effect_once(self) -> None:
        assert Counter(self.scene.run(self.errands.effects())) == self.effects


def test_any_history_keeps_its_promises(postgres: Postgres) -> None:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        made = runner.run(stack.enter_async_context(world(postgres)))
        scene = Scene(runner, made)
        try:
            run_machine(
                lambda: QueueMachine(scene),
                settings=settings(max_examples=25, stateful_step_count=40),
            )
        finally:
            runner.run(stack.aclose())

"""Workers are killed with SIGKILL at random moments: no job is lost, each effect is there once."""

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from services._jobs.queue import enqueue
from tests.services._jobs.doomed_worker import FICKLE
from tests.services._jobs.errands import SCHEMA, What, World

WORKERS = 3
TENANTS = 7
ROOT = Path(__file__).parents[3]
DEADLINE_SECONDS = 540.0


class Workers:
    """Worker processes, forks of one that has everything imported."""

    def __init__(self, stem: Process) -> None:
        self._stem = stem
        self.pids: list[int] = []
        self.started = 0

    async def start(self) -> None:
        """One more worker."""
        assert self._stem.stdin is not None
        assert self._stem.stdout is not None
        self.started += 1
        self._stem.stdin.write(f"{self.started}\n".encode())
        self.pids.append(int(await self._stem.stdout.readline()))

    def kill(self, slot: int) -> None:
        os.kill(self.pids.pop(slot), signal.SIGKILL)


@asynccontextmanager
async def workers(url: str) -> AsyncIterator[Workers]:
    """Some workers; whichever live at the end are killed."""
    module = "tests.services._jobs.doomed_worker"
    stem = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", module, url),
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    found = Workers(stem)
    try:
        for _ in range(WORKERS):
            await found.start()
        yield found
    finally:
        while found.pids:
            found.kill(0)
        stem.kill()
        await stem.wait()


async def kill_until_done(
    errands: World, chance: random.Random, found: Workers, writing: "asyncio.Task[Any]"
) -> int:
    """Kills a worker after each few moments, and starts another; how many were killed. Until all is
    written and run."""
    kills = 0
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not (writing.done() and await errands.is_empty()):
            await asyncio.sleep(chance.uniform(0.05, 0.3))
            found.kill(chance.randrange(WORKERS))
            await found.start()
            kills += 1
    return kills


async def enqueue_slowly(errands: World, count: int) -> Counter[tuple[str, str]]:
    """Enqueues in transactions of ten, one in five of which fails; what was acknowledged."""
    acknowledged: Counter[tuple[str, str]] = Counter()
    for first in range(0, count, 10):
        tenant = f"t{first // 10 % TENANTS}"
        numbers = [str(number) for number in range(first, first + 10)]
        if first % 50:
            await enqueue_together(errands, tenant, numbers)
            acknowledged.update((tenant, number) for number in numbers)
        else:
            with pytest.raises(KeyError):
                await enqueue_together(errands, tenant, [*numbers, "stop"])
    return acknowledged


async def enqueue_together(errands: World, tenant: str, numbers: list[str]) -> None:
    """All or, when "stop" is among them, none."""
    async with errands.database.session(SCHEMA, tenant=tenant) as session, session.transaction():
        for number in numbers:
            if number == "stop":
                raise KeyError(number)
            arguments = What(what=number)
            await enqueue(session, FICKLE, arguments, tenant=tenant, ids=errands.ids)


async def check(errands: World, count: int, seed: int) -> int:
    """Runs that many jobs under kills; how many kills."""
    chance = random.Random(seed)
    async with workers(errands.postgres.url) as found, asyncio.TaskGroup() as group:
        writing = group.create_task(enqueue_slowly(errands, count))
        kills = await kill_until_done(errands, chance, found, writing)
    assert Counter(await errands.effects()) == writing.result()
    return kills


async def test_each_effect_once_under_kills(errands: World) -> None:
    assert await check(errands, 500, seed=1) > 0


@pytest.mark.prove
async def test_ten_thousand_effects_once_under_kills(errands: World) -> None:
    kills = await check(errands, 12_500, seed=2)
    print(f"10000 jobs, {kills} kills")  # noqa: T201
    assert kills >= 20

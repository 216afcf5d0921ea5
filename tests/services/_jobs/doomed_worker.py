"""Worker processes that the test of kills starts, and kills: `python -m … URL`."""

import asyncio
import os
import random
import signal
import sys
from dataclasses import replace

import uvloop

from ops.db import Database, DatabaseSettings
from ops.ids import IdMaker
from ops.inherited import die_with_parent
from ops.notices import Notices
from ops.tasks import SupervisedGroup
from services._jobs.desk import BY_INDEX
from services._jobs.job import Backoff, Job
from services._jobs.queue import CHANNEL
from services._jobs.runner import Runner
from services._jobs.settings import JobSettings
from tests.services._jobs.errands import Errands, Hands, What, run_handler

FAILING_PART = 0.05
SETTINGS = JobSettings(
    running_max=8, lease_seconds=1.0, poll_seconds=0.3, grace_seconds=0.2, losses_max=1_000
)


async def fickle(store: Hands, arguments: What) -> None:
    """Writes its effect in two moments, and fails now and then after it."""
    await asyncio.sleep(random.uniform(0, 0.004))
    await store.write(arguments.what)
    await asyncio.sleep(random.uniform(0, 0.004))
    if random.random() < FAILING_PART:
        raise ConnectionError("a fickle friend")


FICKLE = Job(
    "fickle", fickle, timeout_seconds=30, retries_max=100, backoff=Backoff(0.02, 1.0, 0.02, 0.5)
)


async def main(url: str, seed: int) -> None:
    """Works until it is killed."""
    random.seed(seed)
    settings = replace(DatabaseSettings(), connections_max=12)
    notices = Notices(url, settings)
    async with (
        Database(url, settings) as database,
        Database(url, settings, options=BY_INDEX) as claims,
        SupervisedGroup("doomed") as group,
        Runner(
            database, [Errands((FICKLE,))], run_handler, SETTINGS, claims=claims, ids=IdMaker()
        ) as runner,
    ):
        notices.subscribe(CHANNEL, runner.heard)
        for name, make in [*runner.loops(), ("notices", notices.run)]:
            group.keep(name, make)
        await asyncio.Event().wait()


def sprout(url: str) -> None:
    """Forks a worker for each line on standard input, and says its process id: a fork is there in
    milliseconds, so that kills meet workers at work."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            die_with_parent(os.getppid())
            os.dup2(2, 1)
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                loop.run(main(url, int(line)))
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sprout(sys.argv[1])

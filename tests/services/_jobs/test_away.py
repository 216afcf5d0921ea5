"""The database is killed under a worker: nothing is lost or doubled, and it goes on by itself."""

import asyncio
from collections import Counter
from functools import partial

from ops.db_faults import DatabaseFault
from tests.fakes.postgres import PostgresServer
from tests.services._jobs.errands import WRITE, World, until, world

RECOVERY_SECONDS = 10.0
"""Of a busy machine; the promise of two seconds is shown by the platform's own test."""


async def enqueue_all(errands: World, count: int) -> list[str]:
    """Enqueues jobs one after another; those that were acknowledged."""
    acknowledged = []
    for number in range(count):
        try:
            await errands.enqueue(WRITE, str(number))
        except DatabaseFault:
            await asyncio.sleep(0.02)
        else:
            acknowledged.append(str(number))
    return acknowledged


async def test_a_killed_database_is_waited_for() -> None:
    with PostgresServer() as server:
        made = server.database()
        # A process is killed, not the machine: what is handed to the kernel at commit is enough.
        made.run(f'ALTER DATABASE "{made.name}" SET synchronous_commit = on')
        async with world(made) as errands, errands.runner():
            async with asyncio.TaskGroup() as group:
                writing = group.create_task(enqueue_all(errands, 300))
                await until(partial(errands.has_done, 20))
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            before = asyncio.get_running_loop().time()
            await errands.enqueue(WRITE, "after")
            await until(errands.is_empty)
            assert asyncio.get_running_loop().time() - before < RECOVERY_SECONDS
            effects = Counter(what for _, what in await errands.effects())
            assert set(effects.values()) == {1}
            assert {*writing.result(), "after"} <= effects.keys()

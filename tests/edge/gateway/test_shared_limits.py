"""Limits that all workers share, on a real Valkey: exact while it is there, nearly so without."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from edge.gateway import redis_script
from edge.gateway.limits import Rule
from edge.gateway.settings import GatewaySettings
from edge.gateway.shared_limits import SharedLimits
from ops.tasks import SupervisedGroup
from services.platform.backend_api.api import Limit
from tests.edge.gateway.conftest import Made
from tests.fakes.valkey import ValkeyServer

WORKERS = 4
RULE = Rule.of(Limit(name="all", requests=200, burst=100, shared=True))
ASKERS = 4
"""At once, in each worker."""
ERROR_MAX = 0.05


@pytest.fixture
def valkey() -> Iterator[ValkeyServer]:
    # A socket's path is short: not below pytest's own folders.
    with tempfile.TemporaryDirectory() as folder, ValkeyServer(Path(folder)) as server:
        yield server


@asynccontextmanager
async def started(valkey: ValkeyServer, seconds_max: float) -> AsyncIterator[list[SharedLimits]]:
    """Workers that wait so long for Redis."""
    async with AsyncExitStack() as stack:
        made = []
        for _ in range(WORKERS):
            client = redis_script.client(valkey.url, connections_max=8)
            stack.push_async_callback(client.aclose)
            tasks = await stack.enter_async_context(SupervisedGroup("limits"))
            made.append(
                SharedLimits(
                    redis_script.script(client),
                    shares=WORKERS,
                    seconds_max=seconds_max,
                    pause_seconds=0.2,
                    tasks=tasks,
                    clock=asyncio.get_running_loop().time,
                )
            )
        yield made


@pytest.fixture
async def workers(valkey: ValkeyServer) -> AsyncIterator[list[SharedLimits]]:
    # A busy machine is not a Redis that is away.
    async with started(valkey, 5.0) as made:
        yield made


class Load:
    """Asks from all workers, more than the limit allows, until it is told to end."""

    def __init__(self, workers: list[SharedLimits]) -> None:
        self._workers = workers
        self.allowed = 0
        self.asked = 0

    async def run(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        async with asyncio.TaskGroup() as group:
            for worker in self._workers * ASKERS:
                group.create_task(self._ask(worker, until))

    async def _ask(self, worker: SharedLimits, until: float) -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < until:
            said = await worker.take("all|", RULE, 1.0)
            self.asked += 1
            self.allowed += said.allowed
            await asyncio.sleep(0.001)


def expected(seconds: float) -> float:
    return RULE.burst + RULE.rate * seconds


async def measured(
    load: Load, *steps: tuple[float, str], valkey: ValkeyServer
) -> tuple[int, float]:
    """What was allowed while these things happened, and in how many seconds."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    for seconds, then in steps:
        await load.run(seconds)
        if then:
            await asyncio.to_thread(getattr(valkey, then))
    return load.allowed, loop.time() - began


async def test_all_workers_together_are_allowed_what_the_limit_says(
    workers: list[SharedLimits], valkey: ValkeyServer
) -> None:
    load = Load(workers)
    allowed, seconds = await measured(load, (1.0, ""), valkey=valkey)
    assert load.asked > expected(seconds) * 1.2, "there was more to refuse"
    assert allowed <= expected(seconds) * (1 + ERROR_MAX)
    assert allowed >= expected(seconds) * 0.85, "what a busy machine asked for was there"


@pytest.mark.parametrize(
    "steps",
    [
        ((0.5, "kill"), (1.0, "")),
        ((0.5, "freeze"), (1.0, "thaw"), (0.5, "")),
        ((0.5, "kill"), (0.5, "start"), (0.8, "")),
    ],
    ids=["killed", "frozen", "restarted empty"],
)
async def test_without_it_each_goes_on_with_its_share(
    valkey: ValkeyServer, steps: tuple[tuple[float, str], ...]
) -> None:
    async with started(valkey, 0.1) as workers:
        allowed, seconds = await measured(Load(workers), *steps, valkey=valkey)
    assert allowed <= expected(seconds) * (1 + ERROR_MAX)
    assert allowed >= expected(seconds) * 0.7, "and it does not stop serving"


async def test_what_many_ask_at_once_is_one_call(workers: list[SharedLimits]) -> None:
    worker, calls = workers[0], 0
    script = worker._script

    async def counted(**options: object) -> object:
        nonlocal calls
        calls += 1
        return await script(**options)  # type: ignore[arg-type]

    worker._script = counted
    said = await asyncio.gather(*(worker.take("all|", RULE, 1.0) for _ in range(250)))
    assert sum(one.allowed for one in said) in range(100, 115)
    assert calls <= 3


async def test_a_reply_that_cannot_be_read_leaves_nobody_waiting(
    workers: list[SharedLimits],
) -> None:
    worker = workers[0]

    async def short(**_options: object) -> object:
        return [1, "99"]

    worker._script = short
    async with asyncio.timeout(5):
        said = await asyncio.gather(*(worker.take("all|", RULE, 1.0) for _ in range(4)))
    assert all(one.allowed for one in said), "by the worker's own share"
    async with asyncio.timeout(5):
        assert (await worker.take("all|", RULE, 1.0)).allowed, "and the next one is asked"


async def test_a_worker_with_too_much_to_do_decides_by_its_share(valkey: ValkeyServer) -> None:
    client = redis_script.client(valkey.url, connections_max=1)
    async with SupervisedGroup("full", tasks_max=0) as full:
        worker = SharedLimits(
            redis_script.script(client),
            shares=2,
            seconds_max=5.0,
            pause_seconds=0.2,
            tasks=full,
            clock=asyncio.get_running_loop().time,
        )
        async with asyncio.timeout(5):
            said = [await worker.take("all|", RULE, 40.0) for _ in range(2)]
    await client.aclose()
    assert [one.allowed for one in said] == [True, False]


async def test_what_was_given_back_can_be_taken_again(workers: list[SharedLimits]) -> None:
    one, two = workers[:2]
    rule = Rule.of(Limit(name="few", requests=1, seconds=3_600, burst=10, shared=True))
    assert (await one.take("few|a", rule, 10.0)).allowed
    assert not (await two.take("few|a", rule, 1.0)).allowed
    one.give_back("few|a", 10.0)
    assert (await one.take("few|a", rule, 1.0)).allowed
    assert (await two.take("few|a", rule, 9.0)).allowed


async def test_two_gateways_share_a_limit(made: Made, valkey: ValkeyServer) -> None:
    settings = GatewaySettings(shared_seconds_max=5.0)
    gateways = [await made(redis_url=valkey.url, settings=settings) for _ in range(2)]
    for gateway in gateways:
        gateway.configure(
            limits=[{"name": "few", "requests": 5, "seconds": 3_600, "shared": True}],
            overrides=[{"operations": "*", "limits": ["few"]}],
        )
    headers = gateways[0].bearer()
    said = [await gateways[n % 2].get("/v1/stall/items/7", headers=headers) for n in range(8)]
    assert [one.status for one in said] == [200] * 5 + [429] * 3

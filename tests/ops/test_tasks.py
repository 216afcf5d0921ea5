"""Groups of tasks: independent failures, prompt ends, restarts with a growing pause, a limit."""

import asyncio

import pytest

from ops.errors import Unavailable
from ops.tasks import Restart, SupervisedGroup, within


async def _forever() -> None:
    await asyncio.Event().wait()


async def _fail() -> None:
    raise ValueError("broken")


async def test_a_failure_ends_no_sibling() -> None:
    seen: list[tuple[str, str]] = []
    async with SupervisedGroup(
        "g", on_failure=lambda name, e: seen.append((name, str(e)))
    ) as group:
        lives = group.start("lives", _forever())
        failed = group.start("fails", _fail())
        await asyncio.wait([failed])
        assert not lives.done()
        assert len(group) == 1
    assert seen == [("g/fails", "broken")]
    assert group.failures == 1
    assert lives.cancelled()


async def test_leaving_cancels_and_waits() -> None:
    ended: list[str] = []

    async def tidy() -> None:
        try:
            await _forever()
        finally:
            await asyncio.sleep(0)
            ended.append("tidied")

    async with SupervisedGroup("g") as group:
        group.start("tidy", tidy())
        await asyncio.sleep(0)
    assert ended == ["tidied"]
    assert len(group) == 0
    with pytest.raises(RuntimeError, match="not entered"):
        group.start("late", _forever())


async def test_results_can_be_awaited() -> None:
    async def seven() -> int:
        return 7

    async with SupervisedGroup("g") as group:
        assert await group.start("seven", seven()) == 7


async def test_a_full_group_refuses() -> None:
    async with SupervisedGroup("g", tasks_max=1) as group:
        group.start("first", _forever())
        with pytest.raises(Unavailable) as caught:
            group.start("second", _forever())
    assert caught.value.code == "tasks.too_many"
    assert caught.value.retryable


async def test_a_kept_task_is_started_again() -> None:
    runs = 0
    done = asyncio.Event()

    async def flaky() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError(runs)
        done.set()

    async with SupervisedGroup("g") as group:
        group.keep("flaky", flaky, Restart(pause_seconds_step=0.001))
        await asyncio.wait_for(done.wait(), 5)
    assert runs == 3
    assert group.failures == 2


async def test_a_kept_task_is_given_up_after_its_attempts() -> None:
    async with SupervisedGroup("g") as group:
        task = group.keep("hopeless", _fail, Restart(attempts_max=3, pause_seconds_step=0.001))
        await asyncio.wait([task])
    assert group.failures == 3
    assert isinstance(task.exception(), ValueError)


def test_the_pause_grows_to_its_limit() -> None:
    restart = Restart()
    pauses = [restart.pause_seconds(failures) for failures in range(1, 9)]
    assert pauses == [0.0, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert restart.pause_seconds(10_000) == 5.0


async def test_join_waits_for_all() -> None:
    async with SupervisedGroup("g") as group:
        gate = asyncio.Event()

        async def wait() -> None:
            await gate.wait()

        tasks = [group.start(str(number), wait()) for number in range(5)]
        asyncio.get_running_loop().call_soon(gate.set)
        await group.join()
        assert all(task.done() for task in tasks)


async def test_within_names_what_took_too_long() -> None:
    assert await within(1, asyncio.sleep(0, "x"), "nothing") == "x"
    with pytest.raises(Unavailable, match="the hook took too long"):
        await within(0.01, _forever(), "the hook")

"""Owned background work: the one place that starts asyncio tasks.

A `SupervisedGroup` is held in an `async with`. One task's failure is logged and counted and ends no
sibling; leaving the group cancels what still runs and waits for it. Where siblings stand and fall
together, use `asyncio.TaskGroup` instead. Nothing is restarted unless it was started by `keep`.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from ops.clock import SYSTEM, Clock
from ops.errors import Unavailable
from ops.log import get_logger

T = TypeVar("T")
Work = Coroutine[Any, Any, T]

STOP_SECONDS: Final = 5.0
"""How long leaving a group waits for cancelled tasks before it says which ones do not listen."""

_log = get_logger("ops.tasks")


@dataclass(frozen=True, slots=True)
class Restart:
    """When a kept task is started again, and how long it pauses before."""

    pause_seconds_first: float = 0.0
    pause_seconds_step: float = 0.2
    pause_seconds_max: float = 5.0
    healthy_seconds: float = 30.0
    """A run as long as this makes the next failure a first one again."""
    attempts_max: int = 0
    """Failures in a row after which it is given up; 0: never."""
    after_return: bool = False
    """Whether a run that returned is started again too."""

    def pause_seconds(self, failures: int) -> float:
        """The pause after that many failures in a row (1 is the first): 0, 0.2, 0.4, 0.8 … 5."""
        if failures <= 1:
            return self.pause_seconds_first
        doublings = min(failures - 2, 20)
        return min(self.pause_seconds_step * 2.0**doublings, self.pause_seconds_max)


class SupervisedGroup:
    """Tasks of one owner, whose failures are independent of each other.

    Owns: every task it started. Leaving cancels them and waits for their end.
    """

    def __init__(
        self,
        name: str,
        *,
        tasks_max: int = 10_000,
        on_failure: Callable[[str, BaseException], None] | None = None,
        clock: Clock = SYSTEM,
    ) -> None:
        self._name = name
        self._tasks_max = tasks_max
        self._on_failure = on_failure
        self._clock = clock
        self._tasks: set[asyncio.Task[Any]] = set()
        self._open = False
        self.failures = 0

    def __len__(self) -> int:
        return len(self._tasks)

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def start(self, name: str, work: Work[T]) -> asyncio.Task[T]:
        """Runs `work` until it ends, fails or the group is left. The result may be awaited, not
        must.

        Raises Unavailable (`tasks.too_many`) when the group is full.
        """
        if not self._open:
            work.close()
            raise RuntimeError(f"group {self._name} is not entered")
        if len(self._tasks) >= self._tasks_max:
            work.close()
            raise Unavailable(
                "too much is being done at once",
                code="tasks.too_many",
                fields={"group": self._name, "limit": self._tasks_max},
                retry_after_seconds=1,
            )
        task = asyncio.get_running_loop().create_task(work, name=f"{self._name}/{name}")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def keep(
        self, name: str, make: Callable[[], Work[None]], restart: Restart | None = None
    ) -> asyncio.Task[None]:
        """Runs `make()`, and runs it again when it fails, as `restart` says."""
        return self.start(name, self._kept(name, make, restart or Restart()))

    async def stop(self) -> None:
        """Cancels everything and waits for it. Idempotent; a group may be used again after."""
        self._open = False
        current = asyncio.current_task()
        waiting = {task for task in self._tasks if task is not current}
        for task in waiting:
            task.cancel()
        if not waiting:
            return
        _, deaf = await asyncio.wait(waiting, timeout=STOP_SECONDS)
        if deaf:
            names = sorted(task.get_name() for task in deaf)
            _log.error("tasks ignore their cancellation", group=self._name, tasks=names[:20])
            await asyncio.wait(deaf)

    async def join(self) -> None:
        """Waits until nothing runs in the group any more."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self._failed(task.get_name(), error)

    def _failed(self, name: str, error: BaseException) -> None:
        self.failures += 1
        _log.error("task failed", group=self._name, task=name, exc_info=error)
        if self._on_failure is not None:
            self._on_failure(name, error)

    async def _kept(self, name: str, make: Callable[[], Work[None]], restart: Restart) -> None:
        failures = 0
        while True:
            began = self._clock.monotonic()
            try:
                await make()
            except Exception as error:
                if self._clock.monotonic() - began >= restart.healthy_seconds:
                    failures = 0
                failures += 1
                if restart.attempts_max and failures >= restart.attempts_max:
                    raise
                self._failed(name, error)
            else:
                if not restart.after_return:
                    return
                failures = 1
            await asyncio.sleep(restart.pause_seconds(failures))


async def outcome(work: Awaitable[T]) -> T | Exception:
    """What `work` gives, or the error that it ends with, for those who go on without it.

    Whoever calls this answers for the error: a bug is to be logged.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001  that is what it is for
        return error


async def within(seconds: float, work: Awaitable[T], what: str) -> T:
    """Waits for `work` that long. Raises Unavailable (`timeout`) naming `what`."""
    try:
        async with asyncio.timeout(seconds):
            return await work
    except TimeoutError:
        raise Unavailable(f"{what} took too long", code="timeout") from None

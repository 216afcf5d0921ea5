"""A load generator as its parent holds it: started, told what to do, stopped."""

import asyncio
import json
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from benchmarks.target import Door

OUTCOME_SECONDS_MAX: Final = 120.0
OUTCOME_BYTES_MAX: Final = 4 * 1024 * 1024
STOP_SECONDS: Final = 10.0


class GeneratorProcess:
    """`benchmarks/generator.py` in a process of its own. Enter to start, leave to stop."""

    def __init__(self, *, cores: str = "") -> None:
        """`cores`: those it may run on, as for taskset; empty: all."""
        self._wrapper = ["taskset", "--cpu-list", cores] if cores else []
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *self._wrapper,
            sys.executable,
            "-m",
            "benchmarks.generator",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=OUTCOME_BYTES_MAX,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def publish(self, door: Door, *, clip: str = "camera", stamp: bool = True) -> None:
        """Publishes until the process ends. `clip`: "camera" (720p30, 1.55 Mb/s) or "quiet"."""
        await self._ask("publish", door=_pair(door), clip=clip, stamp=stamp)

    async def join(
        self,
        doors: Sequence[Door],
        *,
        parallel: int = 1,
        open_every: int = 1,
        feedback: bool = True,
        retry_seconds: float = 0.0,
    ) -> list[float]:
        """One viewer a door; each one's time from POST to connected, in milliseconds."""
        outcome = await self._ask(
            "join",
            doors=[_pair(door) for door in doors],
            parallel=parallel,
            open_every=open_every,
            feedback=feedback,
            retry_seconds=retry_seconds,
        )
        return [us / 1000 for us in outcome["connect_us"]]

    async def leave(self) -> None:
        """All viewers go."""
        await self._ask("leave")

    async def count(self) -> dict[str, Any]:
        """What the present viewers have received: see `Generator.count`."""
        return await self._ask("count")

    async def latency(self, *, reset: bool) -> list[tuple[int, int]]:
        """(microseconds at most, pictures) of all viewers, ascending."""
        counts = (await self._ask("latency", reset=reset))["counts"]
        return [(int(us), int(n)) for us, n in counts]

    async def _ask(self, order: str, **details: object) -> dict[str, Any]:
        """Raises LookupError with what went wrong there, TimeoutError."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write((json.dumps({"order": order, **details}) + "\n").encode())
        async with asyncio.timeout(OUTCOME_SECONDS_MAX):
            line = await process.stdout.readline()
        if not line:
            raise LookupError(f"the load generator ended while it should {order}")
        outcome: dict[str, Any] = json.loads(line)
        if "fault" in outcome:
            raise LookupError(outcome["fault"])
        return outcome


def _pair(door: Door) -> tuple[str, dict[str, str]]:
    return door.url, dict(door.headers)


def percentile_ms(counts: Sequence[tuple[int, int]], share: float) -> float | None:
    """The latency in milliseconds below which `share` (0 to 1) of a histogram lies; None: empty."""
    left = sum(n for _, n in counts) * share
    for us, n in counts:
        left -= n
        if left <= 0:
            return round(us / 1000, 2)
    return None

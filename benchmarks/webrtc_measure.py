"""What one server can do over WebRTC: measured with a publisher and many viewers, one server at a
time.

Publisher and viewers are two processes beside the server. CPU time is that of all the server's
processes, from /proc. `fanout` counts packets as the viewers receive them, while nobody joins;
`join` uses a stream with next to nothing in it, so that its CPU time is that of joining.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.generator_process import GeneratorProcess, percentile_ms
from benchmarks.process import cpu_seconds, rss_kib
from benchmarks.progress import Progress
from benchmarks.results import Figure, Row, percentile
from benchmarks.target import Target
from media._native import send_floor

STREAM: Final = "load"
QUIET_STREAM: Final = "load-quiet"
WARM_UP_VIEWERS: Final = 3
"""Come first and go again: the first of all wait for the stream, and load what is loaded late."""
LIVE_SECONDS_MAX: Final = 20.0
SETTLE_SECONDS: Final = 2.0
PROGRESS_SECONDS: Final = 0.5
FANOUT_PARALLEL: Final = 8
OPEN_EVERY: Final = 10
CROWD_PARALLEL: Final = 50
FANOUT_STEPS: Final = 12
JOIN_STEPS: Final = 14
"""What the progress bar counts as, in seconds, beside the seconds of counting."""
FLOOR_SINKS: Final = 300
FLOOR_PACKETS: Final = 120_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How much of it."""

    viewers: int
    seconds: float
    joins: int
    """Viewers of the join measurement; 0 leaves it out."""
    stream: str = STREAM
    publish: bool = True
    open_every: int = OPEN_EVERY
    """One viewer in so many decrypts all it gets and times pictures; the others count by headers:
    generators that take as much CPU as the server would show their own queue as its latency."""
    cores: str = ""
    """Those that the generators may run on, as for taskset; empty: all."""
    note: str = ""

    @property
    def steps(self) -> float:
        """For the progress bar: about the seconds that a server takes."""
        return FANOUT_STEPS + self.seconds + (JOIN_STEPS if self.joins else 0)


async def fanout(target: Target, load: Load, progress: Progress) -> Row:
    """One stream to many viewers: CPU a packet, memory a viewer, latency of pictures, loss.

    Raises LookupError, TimeoutError.
    """
    async with (
        GeneratorProcess(cores=load.cores) as publisher,
        GeneratorProcess(cores=load.cores) as viewers,
    ):
        progress.say(f"{target.who}: publishing")
        if load.publish:
            await publisher.publish(target.publish(load.stream))
        await _warm_up(target, viewers, load.stream)
        resident = rss_kib(*target.pids()), rss_kib(*target.media_pids())
        progress.advance(FANOUT_STEPS / 2)
        progress.say(f"{target.who}: {load.viewers} viewers join")
        doors = [target.play(load.stream, number) for number in range(load.viewers)]
        joined = await viewers.join(doors, parallel=FANOUT_PARALLEL, open_every=load.open_every)
        await asyncio.sleep(SETTLE_SECONDS)
        progress.advance(FANOUT_STEPS / 2)
        progress.say(f"{target.who}: counting for {load.seconds:.0f} s")
        before, counts = await _over(load.seconds, target, viewers, progress)
        after = _Usage.of(target, await viewers.count())
        grown = rss_kib(*target.pids()) - resident[0], rss_kib(*target.media_pids()) - resident[1]
        await viewers.leave()
        return _fanout_row(target.who, load, _Seen(before, after, counts, joined, grown))


async def join(target: Target, load: Load, progress: Progress) -> list[Row]:
    """Joins, each from POST to connected: one after another with what one costs, then a crowd.

    Raises LookupError, TimeoutError.
    """
    rows = []
    async with (
        GeneratorProcess(cores=load.cores) as publisher,
        GeneratorProcess(cores=load.cores) as viewers,
    ):
        await publisher.publish(target.publish(QUIET_STREAM), clip="quiet", stamp=False)
        await _warm_up(target, viewers, QUIET_STREAM)
        for bench, parallel in (("webrtc.join", 1), ("webrtc.join_crowd", CROWD_PARALLEL)):
            progress.say(f"{target.who}: {load.joins} join, {parallel} at a time")
            doors = [target.play(QUIET_STREAM, number) for number in range(load.joins)]
            before = cpu_seconds(*target.pids())
            times = await viewers.join(doors, parallel=parallel)
            cpu = cpu_seconds(*target.pids()) - before
            rows.append(
                Row(
                    bench=bench,
                    who=target.who,
                    clients=load.joins,
                    unit="join",
                    cpu_us=round(cpu * 1e6 / load.joins, 1),
                    p50_ms=percentile(times, 0.5),
                    p95_ms=percentile(times, 0.95),
                    p99_ms=percentile(times, 0.99),
                    note=load.note,
                )
            )
            await viewers.leave()
            await asyncio.sleep(SETTLE_SECONDS)
            progress.advance(JOIN_STEPS / 2)
    return rows


def floor(note: str = "") -> Row:
    """The kernel's floor: copy, AES-128-GCM and sendmmsg of 1,196-byte packets on one thread; with
    segmentation offload beside it. Takes about a second."""
    plain = send_floor(packets=FLOOR_PACKETS, sinks=FLOOR_SINKS)
    merged = send_floor(packets=FLOOR_PACKETS, sinks=FLOOR_SINKS, gso=True)
    return Row(
        bench="webrtc.fanout",
        who="floor",
        clients=FLOOR_SINKS,
        unit="packet",
        cpu_us=round(plain["cpu_ns"] / plain["packets"] / 1000, 3),
        lost=plain["lost"],
        note=note,
        more={"gso_cpu_us": round(merged["cpu_ns"] / merged["packets"] / 1000, 3)},
    )


async def _warm_up(target: Target, viewers: GeneratorProcess, stream: str) -> None:
    for number in range(WARM_UP_VIEWERS):
        door = target.play(stream, -1 - number)
        await viewers.join([door], retry_seconds=LIVE_SECONDS_MAX)
    await viewers.leave()
    await asyncio.sleep(SETTLE_SECONDS)


@dataclass(frozen=True, slots=True)
class _Usage:
    """What the server has used at one moment, and what viewers had received."""

    cpu_seconds: float
    media_cpu_seconds: float
    received: Mapping[str, Any]

    @classmethod
    def of(cls, target: Target, received: Mapping[str, Any]) -> "_Usage":
        return cls(cpu_seconds(*target.pids()), cpu_seconds(*target.media_pids()), received)


async def _over(
    seconds: float, target: Target, viewers: GeneratorProcess, progress: Progress
) -> tuple[_Usage, list[tuple[int, int]]]:
    """The state at the beginning, and the latencies of the time that follows."""
    await viewers.latency(reset=True)
    before = _Usage.of(target, await viewers.count())
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        pause = min(left, PROGRESS_SECONDS)
        await asyncio.sleep(pause)
        progress.advance(pause)
    return before, await viewers.latency(reset=False)


@dataclass(frozen=True, slots=True)
class _Seen:
    """The readings of one fan-out."""

    before: _Usage
    after: _Usage
    latencies: Sequence[tuple[int, int]]
    join_ms: Sequence[float]
    grown_kib: tuple[int, int]
    """All processes, and those that carry packets."""


def _fanout_row(who: str, load: Load, seen: _Seen) -> Row:
    before, after, counts = seen.before, seen.after, seen.latencies

    def new(name: str) -> Any:
        return after.received[name] - before.received[name]

    seconds, packets = new("at"), max(new("packets"), 1)
    cpu = after.cpu_seconds - before.cpu_seconds
    media_cpu = after.media_cpu_seconds - before.media_cpu_seconds
    more: dict[str, Figure] = {
        "media_cpu_us": round(media_cpu * 1e6 / packets, 3),
        "media_rss_kib_per_client": round(seen.grown_kib[1] / load.viewers, 1),
        "connected": after.received["connected"],
        "frames_timed": sum(n for _, n in counts),
        "megabits_per_second": round(new("bytes") * 8 / seconds / 1e6, 1),
        "rtx": new("rtx"),
        "reordered": new("reordered"),
        "decrypt_errors": after.received["decrypt_errors"],
        "index_repeats": after.received["index_repeats"],
        "join_busy_p50_ms": percentile(seen.join_ms, 0.5),
        "cores_busy": round(cpu / seconds, 2),
    }
    more |= _split(before.received["ports"], after.received["ports"])
    return Row(
        bench="webrtc.fanout",
        who=who,
        clients=load.viewers,
        unit="packet",
        cpu_us=round(cpu * 1e6 / packets, 3),
        rss_kib_per_client=round(seen.grown_kib[0] / load.viewers, 1),
        p50_ms=percentile_ms(counts, 0.5),
        p95_ms=percentile_ms(counts, 0.95),
        p99_ms=percentile_ms(counts, 0.99),
        per_second=round(packets / seconds),
        lost=new("lost"),
        note=load.note,
        more=more,
    )


def _split(before: Mapping[str, int], after: Mapping[str, int]) -> dict[str, Figure]:
    """How evenly the server's ports, one a worker, share the packets."""
    packets = [count - before.get(port, 0) for port, count in after.items()]
    if len(packets) < 2 or not sum(packets):
        return {}
    return {"largest_share_percent": round(max(packets) * 100 / sum(packets), 1)}

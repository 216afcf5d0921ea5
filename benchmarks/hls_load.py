"""`nexus bench hls`: what a request costs the server, and how soon a part is with who waits for it.

    hls.request    CPU µs a request of one edge worker, keep-alive HTTP/1.1: a playlist (a delta
                   update of 2 kB), a part (39 kB), a segment (200 kB), without a key. nginx serves
                   the same bytes as files, turn by turn with us; the median of `repeat` turns.
    hls.part_wake  age of a part: from its lying in the run directory to its last byte at a player.
                   With players that follow the playlist, each by two connections and with a key of
                   its own (p50, p95, p99); and with a herd that waits for one part (`last_ms`: the
                   last of them, `rss_kib_per_client`: what one who waits takes of memory).

The server is one worker on one core, the load a process on another; publisher and media share the
load's. CPU is the worker's, user and system: it pays for delivery into the players' sockets, as
nginx does. A server at `--url` must run on this machine; its players show one key or none.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import msgspec

from benchmarks.hls_client import HerdJob, Job, Parts, PlayersJob, RequestJob, Requests
from benchmarks.hls_stream import Stream, live
from benchmarks.peers import nginx
from benchmarks.process import pin, rss_kib
from benchmarks.progress import Progress
from benchmarks.results import Row, percentile
from benchmarks.server import free_port

PART_BYTES: Final = 39_000
"""The part that is asked for is the one whose size is nearest to this."""
JOB_SECONDS_MAX: Final = 120.0
_PLAYLIST: Final = "live.m3u8?_HLS_skip=YES"

F = TypeVar("F", Requests, Parts)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nexus bench hls`."""
    parser.add_argument("--run-dir", type=Path, help="of the node at --url, when not the default")
    parser.add_argument("--connections", type=int, default=64, help="that ask again and again")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each turn and of playing")
    parser.add_argument("--viewers", type=int, default=500, help="blocked viewers; 0: none")
    parser.add_argument("--herd", type=int, default=2_000, help="who wait for one part; 0: none")
    parser.add_argument(
        "--nginx", action=argparse.BooleanOptionalAction, default=True, help="compare with nginx"
    )


async def run(chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    """Rows of all measurements, one each time. Raises LookupError, OSError, TimeoutError."""
    progress.say("starting")
    progress.expect(chosen.repeat * (6 if chosen.nginx else 3) + chosen.repeat)
    keys = 0 if chosen.url else chosen.viewers
    async with live(
        url=chosen.url, run_dir=chosen.run_dir, key=chosen.key, keys=keys, flags=chosen.flags
    ) as stream:
        return await asyncio.to_thread(_measure, stream, chosen, progress)


def _measure(stream: Stream, chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    rows: list[Row] = []
    with _cores(stream) as core:
        for number in range(chosen.repeat):
            progress.say("parts")
            if chosen.herd:
                # Memory that one herd gave back serves the next: the first one tells what it takes.
                rows.append(_herd(stream, chosen, fresh=not number))
            if chosen.viewers:
                rows.append(_players(stream, chosen))
            progress.advance()
        rows += _requests(stream, core, chosen, progress)
    return rows


@contextmanager
def _cores(stream: Stream) -> Iterator[int]:
    """The worker's core; all else, and what is started from now on, is on another."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        for pid in (os.getpid(), stream.pid("media")):
            pin(pid, cores[1])
    pin(stream.pid("edge"), cores[0])
    try:
        yield cores[0]
    finally:
        # Every thread, not this one alone: who measures in a thread of a test would slow its rest.
        pin(os.getpid(), *cores)


# -- a request's price ----------------------------------------------------------------------


def _requests(
    stream: Stream, core: int, chosen: argparse.Namespace, progress: Progress
) -> list[Row]:
    """The rows of `hls.request`."""
    edge = stream.pid("edge")
    names = _names(stream)
    folder = stream.folder() if chosen.url else stream.open_folder
    rows: list[Row] = []

    def turn(who: str, unit: str, address: tuple[str, int], target: str, pid: int) -> None:
        progress.say(f"{unit}: {who}")
        job = RequestJob(address, target, chosen.connections, chosen.seconds, pid)
        rows.append(_request_row(who, unit, launch(job, Requests), chosen))
        progress.advance()

    if not chosen.nginx:
        for _ in range(chosen.repeat):
            for unit, name in names.items():
                turn(chosen.who, unit, stream.address, folder + name, edge)
        return rows
    files = {f"{unit}{_suffix(name)}": stream.read(name) for unit, name in names.items()}
    with nginx.Nginx(free_port(), files) as rival:
        pin(rival.worker, core)
        for _ in range(chosen.repeat):
            for unit, name in names.items():
                turn(chosen.who, unit, stream.address, folder + name, edge)
                turn("nginx", unit, rival.address, f"/{unit}{_suffix(name)}", rival.worker)
    return rows


def _names(stream: Stream) -> dict[str, str]:
    """What is asked for: the playlist, a part of the usual size, a segment; both fresh."""
    parts = stream.parts()
    if not parts:
        raise LookupError("the stream has no parts")
    newest = max(msn for msn, _ in parts)
    usual = [key for key in parts if newest - 3 <= key[0] < newest]
    msn, index = min(usual, key=lambda key: abs(parts[key].size - PART_BYTES))
    return {"playlist": _PLAYLIST, "part": f"s{msn}.{index}.m4s", "segment": f"s{newest - 1}.m4s"}


def _request_row(who: str, unit: str, found: Requests, chosen: argparse.Namespace) -> Row:
    return Row(
        bench="hls.request",
        who=who,
        clients=chosen.connections,
        unit=unit,
        cpu_us=round(found.cpu_seconds / max(found.answers, 1) * 1e6, 2),
        per_second=round(found.answers / found.seconds),
        lost=found.failed,
        note=chosen.note,
        more={"bytes": found.bytes},
    )


def _suffix(name: str) -> str:
    return Path(name.partition("?")[0]).suffix


# -- a part's age ---------------------------------------------------------------------------


def _players(stream: Stream, chosen: argparse.Namespace) -> Row:
    folders = [stream.folder(player) for player in range(chosen.viewers)]
    job = PlayersJob(stream.address, folders, chosen.seconds, stream.pid("edge"))
    found = launch(job, Parts)
    ages = [age for part in _ages(stream, found).values() for age in part]
    return Row(
        bench="hls.part_wake",
        who=chosen.who,
        clients=chosen.viewers,
        unit="request",
        cpu_us=round(found.cpu_seconds / max(found.answers, 1) * 1e6, 2),
        p50_ms=percentile(ages, 0.5),
        p95_ms=percentile(ages, 0.95),
        p99_ms=percentile(ages, 0.99),
        lost=found.failed,
        note=chosen.note,
    )


def _herd(stream: Stream, chosen: argparse.Namespace, *, fresh: bool) -> Row:
    edge = stream.pid("edge")
    before = rss_kib(edge)
    parts = max(round(chosen.seconds), 1)
    job = HerdJob(stream.address, stream.folder(), chosen.herd, parts, edge)
    found = launch(job, Parts)
    waited = [part for part in _ages(stream, found).values() if len(part) == chosen.herd]
    lasts = [max(part) for part in waited]
    return Row(
        bench="hls.part_wake",
        who=chosen.who,
        clients=chosen.herd,
        unit="part",
        cpu_us=round(found.cpu_seconds / max(found.answers, 1) * 1e6, 2),
        rss_kib_per_client=round((rss_kib(edge) - before) / chosen.herd, 1) if fresh else None,
        p50_ms=percentile([age for part in waited for age in part], 0.5),
        lost=found.failed,
        note=chosen.note,
        more={
            "last_ms": round(statistics.median(lasts), 2) if lasts else None,
            "parts": len(lasts),
        },
    )


def _ages(stream: Stream, found: Parts) -> dict[str, list[float]]:
    """Milliseconds from each part's lying there to its last byte, at those who had asked before."""
    ages: dict[str, list[float]] = {}
    for (msn, index), record in stream.parts().items():
        name, written = f"s{msn}.{index}.m4s", record.written_us / 1e6
        seen = found.seen.get(name, [])
        ages[name] = [(received - written) * 1e3 for asked, received in seen if asked < written]
    return {name: part for name, part in ages.items() if part}


# -- the load's process ---------------------------------------------------------------------


def launch(job: Job, kind: type[F]) -> F:
    """Runs a job in a process of its own; what it found. Raises: ConnectionError."""
    ran = subprocess.run(
        [sys.executable, "-m", "benchmarks.hls_client", msgspec.json.encode(job).decode()],
        capture_output=True,
        timeout=JOB_SECONDS_MAX,
        check=False,
    )
    if ran.returncode:
        lines = ran.stderr.decode(errors="replace").strip().splitlines()
        raise ConnectionError(lines[-1] if lines else f"the load ended with {ran.returncode}")
    return msgspec.json.decode(ran.stdout, type=kind)

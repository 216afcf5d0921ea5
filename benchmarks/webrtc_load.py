"""`nexus bench webrtc`: one publisher, many viewers, on one machine with the server.

Rows: `webrtc.fanout` (CPU a packet, memory a viewer, latency of pictures), `webrtc.join` and
`webrtc.join_crowd` (POST to connected, CPU a join), `webrtc.workers` (with --workers 1,2), and the
kernel's `floor`. Rivals whose programs are given are measured turn by turn with the same
generators in the same run. How each is measured stands in `benchmarks/webrtc_measure.py`.
"""

import argparse
import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks import options, target, webrtc_measure
from benchmarks.peers import sfu
from benchmarks.progress import Progress
from benchmarks.results import Row
from benchmarks.target import Starter
from benchmarks.webrtc_measure import Load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nexus bench webrtc`."""
    yes_or_no = argparse.BooleanOptionalAction
    parser.add_argument("--viewers", type=options.count, default=200)
    parser.add_argument("--seconds", type=options.seconds, default=20.0, help="to count for")
    parser.add_argument("--joins", type=int, default=100, help="to measure joining; 0: do not")
    parser.add_argument("--stream", default=webrtc_measure.STREAM)
    parser.add_argument("--publish", action=yes_or_no, default=True, help="or watch what is there")
    parser.add_argument(
        "--open-every",
        type=options.count,
        default=webrtc_measure.OPEN_EVERY,
        metavar="N",
        help="one viewer in N decrypts and times pictures, the others count by headers",
    )
    parser.add_argument("--floor", action=yes_or_no, default=True, help="measure the kernel's too")
    parser.add_argument(
        "--workers",
        type=options.counts,
        default=(),
        metavar="LIST",
        help="compare numbers of packet workers: 1,2",
    )
    parser.add_argument("--cores", default="", help="for the generators, as for taskset: 1 or 2-3")
    parser.add_argument("--run-dir", type=Path, help="of the node at --url, to find its processes")
    sfu.add_arguments(parser)


async def run(chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    """One row a measurement and repeat. Raises LookupError, OSError, TimeoutError."""
    load = Load(
        viewers=chosen.viewers,
        seconds=chosen.seconds,
        joins=max(chosen.joins, 0) if chosen.publish else 0,
        stream=chosen.stream,
        publish=chosen.publish,
        open_every=chosen.open_every,
        cores=chosen.cores,
        note=chosen.note,
    )
    starters = _starters(chosen)
    fanout_alone = replace(load, joins=0)
    progress.expect(
        chosen.repeat * (len(starters) * load.steps + len(chosen.workers) * fanout_alone.steps)
    )
    rows: list[Row] = []
    for _ in range(chosen.repeat):
        if chosen.floor:
            progress.say("the kernel's floor")
            rows.append(await asyncio.to_thread(webrtc_measure.floor, chosen.note))
        for start in starters:
            rows += await measure(start, load, progress)
        for count in chosen.workers:
            rows.append(await measure_workers(chosen.flags, count, fanout_alone, progress))
    return rows


async def measure(start: Starter, load: Load, progress: Progress) -> list[Row]:
    """All of one server, which runs for it. Raises LookupError, OSError, TimeoutError."""
    async with start() as server:
        rows = [await webrtc_measure.fanout(server, load, progress)]
        if load.joins:
            rows += await webrtc_measure.join(server, load, progress)
    return rows


async def measure_workers(flags: dict[str, str], count: int, load: Load, progress: Progress) -> Row:
    """The fan-out of a node of ours with so many packet workers. Raises as `measure`."""
    async with target.own({**flags, "webrtc.workers": str(count)}) as server:
        row = await webrtc_measure.fanout(server, load, progress)
    said = f"{count} worker{'s' if count > 1 else ''}"
    note = f"{said}; {load.note}" if load.note else said
    return replace(row, bench="webrtc.workers", note=note, more={"workers": count, **row.more})


def _starters(chosen: argparse.Namespace) -> Sequence[Starter]:
    if not chosen.url:
        return [lambda: target.own(chosen.flags, who=chosen.who), *sfu.starters(chosen)]
    node = target.running(chosen.url, key=chosen.key, who=chosen.who, run_dir=chosen.run_dir)
    return [lambda: contextlib.nullcontext(node), *sfu.starters(chosen)]

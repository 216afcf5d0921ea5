"""`nexus bench BENCH`: chooses the benchmark, shows progress, prints and records.

    nexus bench webrtc [--viewers 200] [--seconds 20] [--repeat 3] [--url http://127.0.0.1:8080]
    nexus bench hls ...
    nexus bench report                        draws the recorded results into docs/figures
    nexus bench webrtc --webrtc.workers=1     a setting of the server that it starts for itself

Each benchmark is a module with `add_arguments(parser)` and `async def run(chosen, progress)`, which
returns its rows (`benchmarks/results.py`), one for each repeat; the median of repeats is made here.
Exit codes: 0 measured; 1 something failed; 2 arguments cannot be used.
"""

import argparse
import asyncio
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol, cast

from benchmarks import options, report, results
from benchmarks.progress import Progress
from benchmarks.results import Row
from benchmarks.table import table
from ops.settings import SettingsError, split_flags

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_ARGUMENTS: Final = 2

BENCHES: Final = {
    "webrtc": ("benchmarks.webrtc_load", "WHIP in, WHEP out: CPU a packet, latency, joins, memory"),
    "graphql": ("benchmarks.graphql_query", "GraphQL without network or database: CPU a query"),
    "gateway": ("benchmarks.gateway_load", "Business requests under wrk, layer by layer"),
    "events": ("benchmarks.events_load", "Events from outbox to effect, over PostgreSQL alone"),
    "jobs": ("benchmarks.jobs_load", "durable jobs: CPU a job, jobs a second"),
    "services": ("benchmarks.services_load", "loading many services: milliseconds at a start"),
    "hls": ("benchmarks.hls_load", "LL-HLS: CPU a request, age of a part at blocked viewers"),
}


class Bench(Protocol):
    """What a benchmark's module offers."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds its own options. The common ones are there already: url, key, who, repeat, note,
        results, record, and `flags`: settings for the server that it starts for itself."""

    async def run(self, chosen: argparse.Namespace, progress: Progress) -> list[Row]:
        """Measures `chosen.repeat` times. Raises LookupError, OSError or TimeoutError."""


def run(arguments: Sequence[str]) -> int:
    """Runs one benchmark; its exit code. `arguments`: what follows `nexus bench`."""
    try:
        flags, others = split_flags(arguments)
    except SettingsError as fault:
        sys.stderr.write(f"nexus bench: {'; '.join(fault.problems)}\n")
        return EXIT_ARGUMENTS
    chosen = parser().parse_args(others)
    chosen.flags = flags
    if chosen.bench == "report":
        return draw(chosen.results, chosen.figures)
    bench = _module(chosen.bench)
    # Before it runs: the commit may move meanwhile, and the load is soon our own.
    origin = results.origin()
    try:
        with Progress() as progress:
            rows = asyncio.run(bench.run(chosen, progress))
    except (LookupError, OSError, TimeoutError) as fault:
        sys.stderr.write(f"nexus bench: {str(fault) or type(fault).__name__}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_FAILED
    sys.stdout.write(table(found := results.median(rows)))
    if chosen.record:
        results.append(found, chosen.results, origin)
        sys.stdout.write(f"appended to {chosen.results} as {origin['run']}\n")
    return EXIT_OK


def draw(path: Path, folder: Path) -> int:
    """Draws the results of a file into a folder; an exit code."""
    try:
        written = report.write(results.read(path), folder)
    except (OSError, ValueError, KeyError) as fault:
        sys.stderr.write(f"nexus bench: {path}: {fault}\n")
        return EXIT_FAILED
    sys.stdout.write("".join(f"{drawn}\n" for drawn in written))
    return EXIT_OK


def parser() -> argparse.ArgumentParser:
    """The command line of `nexus bench`."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--url", default="", help="a server that runs already, on this machine; else one is started"
    )
    common.add_argument("--key", default="", help="bearer key, when the server wants one")
    common.add_argument("--who", default="nexus", help="whose name the rows get")
    common.add_argument("--repeat", type=options.count, default=1, help="times; the median is kept")
    common.add_argument("--note", default="", help="kept with the rows")
    common.add_argument(
        "--results", type=Path, default=results.default_path(), help="file to append to"
    )
    common.add_argument(
        "--record", action=argparse.BooleanOptionalAction, default=True, help="append or not"
    )
    whole = argparse.ArgumentParser(
        prog="nexus bench",
        description="Load generators: what a server on this machine can do (docs/benchmarks.md).",
        epilog="Settings of the server that is started may be given as --section.field=value.",
    )
    commands = whole.add_subparsers(dest="bench", required=True, metavar="BENCH")
    for name, (_, about) in BENCHES.items():
        one = commands.add_parser(name, parents=[common], help=about, description=about)
        _module(name).add_arguments(one)
    about = "draw the recorded results"
    drawing = commands.add_parser("report", help=about, description=about)
    drawing.add_argument("--results", type=Path, default=results.default_path())
    drawing.add_argument("--figures", type=Path, default=report.default_folder(), help="folder")
    return whole


def _module(name: str) -> Bench:
    """Benchmarks are imported by name: one of them must not cost the other's start."""
    return cast(Bench, importlib.import_module(BENCHES[name][0]))

"""`nexus bench services`: how long a worker takes to load many services, in a fresh interpreter.

The services are the real ones and others that `nexus new` would have written; their byte code is
there already, as in an installed copy. Measured is from the first import of a service to the
route table that answers requests: registry, signatures, runtime, routes.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from benchmarks import options
from benchmarks.progress import Progress
from benchmarks.results import Row
from benchmarks.services_tree import environment, grow

_PATIENCE_SECONDS: Final = 120.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of this benchmark."""
    parser.add_argument(
        "--services", type=options.count, default=44, help="how many, ours included"
    )


async def run(chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    """Measures `chosen.repeat` times. Raises LookupError, TimeoutError."""
    progress.expect(chosen.repeat)
    with tempfile.TemporaryDirectory(prefix="nexus-bench-") as folder:
        tree = grow(Path(folder), chosen.services)
        progress.say("compiling")
        await loaded(tree)
        rows = []
        for _ in range(chosen.repeat):
            progress.say("loading")
            rows.append(_row(await loaded(tree), chosen))
            progress.advance(1)
    return rows


async def loaded(tree: Path) -> dict[str, Any]:
    """What a fresh interpreter says of loading the tree's services. Raises LookupError: it
    failed; TimeoutError."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "benchmarks.services_loading"),
        env=environment(tree),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(_PATIENCE_SECONDS):
        text, faults = await process.communicate()
    if process.returncode:
        raise LookupError(f"the services do not load: {faults.decode()[-2_000:]}")
    told: dict[str, Any] = json.loads(text)
    return told


def _row(told: dict[str, Any], chosen: argparse.Namespace) -> Row:
    return Row(
        bench="services.load",
        who=chosen.who,
        clients=told["services"],
        unit=f"load of {told['services']} services",
        cpu_us=told["load_cpu_us"],
        p50_ms=told["load_ms"],
        note=chosen.note,
        more={name: told[name] for name in ("operations", "openapi_ms", "graphql_ms")},
    )

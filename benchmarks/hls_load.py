"""`nexus bench hls`: what LL-HLS costs and how soon a part arrives. Measures nothing yet."""

import argparse

from benchmarks.progress import Progress
from benchmarks.results import Row


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `nexus bench hls`."""
    parser.add_argument("--viewers", type=int, default=500, help="blocked viewers")


async def run(chosen: argparse.Namespace, progress: Progress) -> list[Row]:
    """One row a measurement and repeat."""
    progress.say(f"{chosen.viewers} viewers")
    return []

"""Rival WebRTC servers, given their programs by path: none is part of this project.

Each is a module with `started(program)`, an async context manager that writes a configuration into
a scratch folder, starts the program on loopback, and yields a `Target`.
"""

import argparse
import os
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.peers import livekit, mediamtx
from benchmarks.target import Starter, Target

RIVALS: Final[dict[str, Callable[[Path], AbstractAsyncContextManager[Target]]]] = {
    "mediamtx": mediamtx.started,
    "livekit": livekit.started,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """An option a rival: where its program is."""
    for name in RIVALS:
        variable = variable_of(name)
        parser.add_argument(
            f"--{name}",
            type=Path,
            metavar="PATH",
            default=os.environ.get(variable) or None,
            help=f"program to measure beside ours ({variable})",
        )


def variable_of(name: str) -> str:
    """The environment variable that says where a rival's program is."""
    return f"NEXUS_PEER_{name.upper()}"


def starters(chosen: argparse.Namespace) -> list[Starter]:
    """Those whose program was given. Raises LookupError when it is not there."""
    given = {name: getattr(chosen, name) for name in RIVALS}
    for name, path in given.items():
        if path is not None and not Path(path).is_file():
            raise LookupError(f"--{name}: there is no program {path}")
    return [partial(RIVALS[name], Path(path)) for name, path in given.items() if path is not None]

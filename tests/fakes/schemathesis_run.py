"""Runs Schemathesis, as its users do, against a server that describes itself."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.tidy.tree import ROOT

CONFIG = ROOT / "tests/fakes/schemathesis.toml"


@dataclass(frozen=True, slots=True)
class Found:
    """How it ended; `text` is its report."""

    code: int
    text: str


def schemathesis(url: str, *options: str, token: str, paths: str, seconds_max: float) -> Found:
    """paths: a regular expression of those that are asked. options: of `schemathesis run`."""
    # It leaves files where it runs.
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"),
                f"--config-file={CONFIG}",
                "run",
                f"{url}/openapi.json",
                f"--include-path-regex={paths}",
                "--no-color",
                *options,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_TOKEN": token},
            check=False,
            timeout=seconds_max,
        )
    return Found(done.returncode, done.stdout.decode(errors="replace"))

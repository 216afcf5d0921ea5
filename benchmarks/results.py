"""Appends measurements to `benchmarks/results.jsonl`, one line each, never changing old ones."""

import json
import secrets
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

RESULTS: Final = Path(__file__).parent / "results.jsonl"


def new_run() -> str:
    """A name for the lines that belong together: when, and four characters."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}-{secrets.token_hex(2)}"


def commit() -> str:
    """The commit that is checked out, or "unknown"."""
    here = Path(__file__).parent
    asked = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() or "unknown"


def append(lines: Sequence[dict[str, object]], path: Path = RESULTS) -> None:
    """Writes the lines with run and commit in front."""
    head = {"run": new_run(), "commit": commit()}
    with path.open("a", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps({**head, **line}) + "\n")

"""Percentiles, and one line a measurement: printed, so that a test's figures can be quoted, and by
`make prove` kept among the results (`docs/benchmarks.md`)."""

import functools
import os
import sys
from collections.abc import Sequence

from benchmarks import results
from benchmarks.results import Figure, Row


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` from 0 to 1. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def say(what: str, **figures: object) -> None:
    """One line that `pytest -rP` and `make prove` show, and that `make prove` keeps."""
    words = ", ".join(
        f"{k}={v:.1f}" if isinstance(v, float) else f"{k}={v}" for k, v in figures.items()
    )
    sys.stdout.write(f"FIGURE {what}: {words}\n")
    if os.environ.get("NEXUS_PROVE") == "1":
        kept: dict[str, Figure] = {"what": what}
        kept |= {name: _figure(value) for name, value in figures.items()}
        row = Row(bench="prove", clients=1, unit="test", more=kept)
        results.append([row], results.default_path(), _origin())


def _figure(value: object) -> Figure:
    """As it stands in a line: numbers as they are, all else in words."""
    if isinstance(value, float):
        return round(value, 2)
    return value if isinstance(value, int) else str(value)


@functools.cache
def _origin() -> dict[str, Figure]:
    return results.origin()

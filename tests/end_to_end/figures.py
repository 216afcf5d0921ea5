"""Percentiles, and one printed line a measurement, so that a test's figures can be quoted."""

import sys
from collections.abc import Sequence


def percentile(values: Sequence[float], share: float) -> float:
    """The nearest-rank percentile; `share` from 0 to 1. Raises ValueError for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def say(what: str, **figures: object) -> None:
    """One line that `pytest -rP` and `make prove` show."""
    words = ", ".join(
        f"{k}={v:.1f}" if isinstance(v, float) else f"{k}={v}" for k, v in figures.items()
    )
    sys.stdout.write(f"FIGURE {what}: {words}\n")

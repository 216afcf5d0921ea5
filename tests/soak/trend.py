"""Whether a series of figures grows: least squares, and how sure that line is.

The standard error is widened for figures that follow each other: memory read every few seconds is
not as many independent facts as there are readings. With first-order autocorrelation r of the
residuals, n readings count as n (1 - r) / (1 + r).
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Trend:
    """The line through some points."""

    slope: float
    """Per unit of x."""
    error: float
    """Standard error of the slope."""

    def flat(self, *, allowed: float, hopeless: float) -> bool:
        """Whether it does not grow: the slope is at most `allowed`, or lies within two standard
        errors of it; more than `hopeless` is growth, however noisy."""
        return self.slope <= hopeless and self.slope - 2 * self.error <= allowed


def trend(points: Sequence[tuple[float, float]]) -> Trend:
    """The trend of (x, y) in order of x. Raises ValueError for fewer than four points."""
    count = len(points)
    if count < 4:
        raise ValueError(f"{count} points have no trend")
    mean_x = sum(x for x, _ in points) / count
    mean_y = sum(y for _, y in points) / count
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    left = [y - mean_y - slope * (x - mean_x) for x, y in points]
    square = sum(value**2 for value in left)
    if square == 0:
        return Trend(slope, 0.0)
    follow = sum(a * b for a, b in itertools.pairwise(left)) / square
    follow = min(max(follow, 0.0), 0.95)
    free = max(count * (1 - follow) / (1 + follow) - 2, 1.0)
    return Trend(slope, math.sqrt(square / free / spread))


def second_half(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points of the later half of the time."""
    middle = (points[0][0] + points[-1][0]) / 2
    return [point for point in points if point[0] >= middle]


def first_half(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The points before the second half."""
    return list(points[: len(points) - len(second_half(points))])

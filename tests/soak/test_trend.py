"""The statistic of the soak: it finds a leak in noise, and takes noise for noise."""

import random

import pytest

from tests.soak.trend import first_half, second_half, trend

SECONDS = range(0, 900, 10)


def memory(*, leak_per_hour: float, wander: float, seed: int) -> list[tuple[float, float]]:
    """MiB over hours: a level, a leak, and steps up and down that last a while."""
    chance = random.Random(seed)
    points, away = [], 0.0
    for second in SECONDS:
        away = 0.8 * away + chance.gauss(0, wander)
        points.append((second / 3600, 200 + leak_per_hour * second / 3600 + away))
    return points


@pytest.mark.parametrize("seed", range(20))
def test_noise_is_flat(seed: int) -> None:
    found = trend(second_half(memory(leak_per_hour=0, wander=0.3, seed=seed)))
    assert found.flat(allowed=8, hopeless=60)


@pytest.mark.parametrize("seed", range(20))
def test_a_leak_is_found(seed: int) -> None:
    found = trend(second_half(memory(leak_per_hour=40, wander=0.3, seed=seed)))
    assert not found.flat(allowed=8, hopeless=60)
    found = trend(second_half(memory(leak_per_hour=200, wander=2, seed=seed)))
    assert not found.flat(allowed=8, hopeless=60)


def test_growth_while_it_warms_up_is_not_counted() -> None:
    points = [(float(x), 10.0 * min(x, 5)) for x in range(20)]
    assert trend(second_half(points)).slope == pytest.approx(0)
    assert trend(first_half(points)).slope > 3
    assert first_half(points) + second_half(points) == points


def test_an_exact_line() -> None:
    found = trend([(0, 1), (1, 3), (2, 5), (3, 7)])
    assert found.slope == pytest.approx(2)
    assert found.error == pytest.approx(0)


def test_too_few_points() -> None:
    with pytest.raises(ValueError, match="3 points"):
        trend([(0, 0), (1, 1), (2, 2)])

"""Pacing by the clock: instants on a grid, late ones left out."""

from edge.demo.tracks import Pace


def test_instants_lie_on_the_grid_of_unix_time() -> None:
    pace = Pace(30)
    number, wait = pace.next(1_000.001)
    assert (number, round(wait, 6)) == (30_000, 0)
    number, wait = pace.next(1_000.002)
    assert number == 30_001
    assert abs(1_000.002 + wait - 30_001 / 30) < 1e-9


def test_an_instant_at_most_an_interval_late_is_served_and_others_are_skipped() -> None:
    pace = Pace(10)
    assert pace.next(100.0) == (999, 0.0)
    assert pace.next(100.05)[0] == 1000
    assert pace.next(100.19)[0] == 1001
    assert pace.skipped == 0
    assert pace.next(100.75)[0] == 1007
    assert pace.skipped == 5


def test_no_instant_is_served_twice_when_time_stands_still() -> None:
    pace = Pace(50)
    numbers = [pace.next(7.0)[0] for _ in range(10)]
    assert numbers == list(range(numbers[0], numbers[0] + 10))

"""Schedules fire when a reader of cron expects it, also where clocks are put forward or back."""

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from services._jobs.job import Job
from services._jobs.slots import next_cron, next_interval
from tests.services._jobs.errands import tick


def slots(cron: str, zone: str, after: str, count: int) -> list[str]:
    """That many times after one, both as the zone's wall clock tells them."""
    tz = ZoneInfo(zone)
    now = datetime.fromisoformat(after).replace(tzinfo=tz)
    found = []
    for _ in range(count):
        now = next_cron(cron, now, time_zone=zone)
        found.append(now.astimezone(tz).isoformat(timespec="minutes"))
    return found


def test_spring_gap_fires_right_after_it() -> None:
    # 2026-03-29: 02:00 becomes 03:00 in Berlin.
    assert slots("30 2 * * *", "Europe/Berlin", "2026-03-27T12:00", 4) == [
        "2026-03-28T02:30+01:00",
        "2026-03-29T03:00+02:00",
        "2026-03-30T02:30+02:00",
        "2026-03-31T02:30+02:00",
    ]


def test_autumn_hour_fires_once() -> None:
    # 2026-10-25: 03:00 becomes 02:00 in Berlin.
    assert slots("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00", 2) == [
        "2026-10-25T02:30+02:00",
        "2026-10-26T02:30+01:00",
    ]


def test_second_autumn_hour_does_not_fire_again() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    second = datetime(2026, 10, 25, 2, 10, tzinfo=berlin, fold=1)
    found = next_cron("30 2 * * *", second, time_zone="Europe/Berlin")
    assert found == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)


def test_stars_follow_the_elapsed_time() -> None:
    assert slots("*/30 * * * *", "America/New_York", "2026-11-01T00:45", 4) == [
        "2026-11-01T01:00-04:00",
        "2026-11-01T01:30-04:00",
        "2026-11-01T01:00-05:00",
        "2026-11-01T01:30-05:00",
    ]


def test_half_hour_of_lord_howe() -> None:
    # 2026-10-04: 02:00 becomes 02:30 there.
    assert slots("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T12:00", 2) == [
        "2026-10-04T02:30+11:00",
        "2026-10-05T02:15+11:00",
    ]


def test_last_friday_and_leap_day() -> None:
    assert slots("0 9 * * 5L", "UTC", "2026-11-01T00:00", 1) == ["2026-11-27T09:00+00:00"]
    assert slots("0 0 29 2 *", "UTC", "2026-11-01T00:00", 1) == ["2028-02-29T00:00+00:00"]


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe"])
def test_a_year_of_days_has_as_many_slots(zone: str) -> None:
    now, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
    count = 0
    while (found := next_cron("30 2 * * *", now, time_zone=zone)) < end:
        assert found > now
        now, count = found, count + 1
    assert count == 365


def test_interval_keeps_step_with_1970() -> None:
    after = datetime(2026, 11, 23, 16, 59, 59, 999_999, tzinfo=UTC)
    first = next_interval(3_600, after)
    assert first == datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
    assert next_interval(3_600, first) - first == timedelta(hours=1)


@pytest.mark.parametrize(
    "options",
    [
        {"cron": "0 0 31 2 *"},
        {"cron": "0 0 30 2 *"},
        {"cron": "nonsense"},
        {"cron": "0 3 * * *", "time_zone": "Mars/Olympus"},
        {"cron": "0 3 * * *", "every_seconds": 60},
        {"every_seconds": 0.01},
        {"tenants_of": "guest"},
        {"name": "Not A Name"},
        {"timeout_seconds": 0},
        {"retries_max": -1},
    ],
)
def test_what_never_could_run_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        Job(**{"name": "tick", "handler": tick, "timeout_seconds": 10} | options)

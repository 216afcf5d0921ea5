"""When a schedule fires: the times of a cron expression or of an interval, one after another.

Cron is read as Debian's cron reads it (by cronsim): a time of day that the clock skips in spring
fires right after the gap, one that comes twice in autumn fires the first time alone; an expression
whose minute or hour begins with a star follows the elapsed time instead. It reads no clock.
"""

import math
from datetime import UTC, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError


def next_interval(every_seconds: float, after: datetime) -> datetime:
    """The first multiple of the interval since 1970 after that time."""
    count = math.floor(after.timestamp() / every_seconds) + 1
    return datetime.fromtimestamp(count * every_seconds, UTC)


def next_cron(cron: str, after: datetime, *, time_zone: str) -> datetime:
    """The first time of a cron expression after that time, in UTC.

    Raises ValueError: not an expression or zone, or a time that never comes.
    """
    try:
        found = CronSim(cron, after.astimezone(ZoneInfo(time_zone)))
        for slot in found:
            # In the hour that comes twice cronsim tells the first one's times in the second too.
            if slot.astimezone(UTC) > after:
                return slot.astimezone(UTC)
    except (CronSimError, ZoneInfoNotFoundError) as fault:
        raise ValueError(f"{cron!r} in {time_zone!r}: {fault}") from fault
    raise ValueError(f"{cron!r} never comes")

"""The Date field is there at once, is the clock's, and is made anew when a second has passed."""

import asyncio
from email.utils import parsedate_to_datetime

from edge.http_date import HttpDate
from tests.edge.conftest import eventually
from tests.fakes.clock import FakeClock


async def test_the_date_is_the_clocks_and_goes_on() -> None:
    clock = FakeClock(unix=1_700_000_000.95)
    date = HttpDate(asyncio.get_running_loop(), clock)
    date.start()
    assert date.value == b"Tue, 14 Nov 2023 22:13:20 GMT"
    first = date.value
    clock.advance(1)
    await eventually(lambda: date.value is not first)
    assert parsedate_to_datetime(date.value.decode()).timestamp() == int(clock.unix())
    date.stop()

"""One track's clock: RTP timestamps give the steps, the stream's clock says where they lie.

The distance of two units is what their timestamps say, so jitter of the stream's clock moves
nothing. Where the two drift apart by more than `_IDLE_MS`, parts are made longer or shorter by at
most `_SLEW_MS_MAX` until they meet again. A jump is the caller's affair: `jumped` only tells.
"""

JUMP_MS = 500
"""A unit this far from where its timestamp puts it belongs to another timeline."""

_IDLE_MS = 5
_SLEW_MS_MAX = 4
_SMOOTHING = 16


class Pace:
    """Ticks from `timestamp` and the true time, both in the track's timescale."""

    def __init__(self, timescale: int) -> None:
        self._jump = timescale * JUMP_MS // 1000
        self._idle = timescale * _IDLE_MS // 1000
        self._slew_max = timescale * _SLEW_MS_MAX // 1000
        self._shift: int | None = None
        self._error = 0.0

    def reset(self) -> None:
        """The next unit starts anew."""
        self._shift = None

    def jumped(self, timestamp: int, *, true: int) -> bool:
        """Whether this unit does not belong to the timeline of those before it."""
        shift = self._shift
        return shift is not None and abs(true - timestamp - shift - self._error) > self._jump

    def ticks(self, timestamp: int, *, true: int) -> int:
        """Where the unit lies."""
        if self._shift is None:
            self._shift, self._error = true - timestamp, 0.0
            return true
        ticks = timestamp + self._shift
        self._error += (true - ticks - self._error) / _SMOOTHING
        return ticks

    def slew(self) -> int:
        """By how much the part that ends now is to be longer than its samples; 0 nearly always."""
        if self._shift is None or abs(self._error) <= self._idle:
            return 0
        step = int(max(-self._slew_max, min(self._slew_max, self._error / _SMOOTHING)))
        self._shift += step
        self._error -= step
        return step

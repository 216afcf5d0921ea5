"""One rendition: samples in, parts and ends of segments out. No I/O and no clock.

The rules, for all renditions alike:

- Parts follow on without a hole: each starts where the one before it ended. A sample that comes
  late is shown from there on; its true time sets when the next one is.
- A part leaves as soon as one more sample of the usual length would not fit; it does not wait for
  the next sample. One exception: a part that may be its segment's last waits until `limit` (how
  far the leading rendition has come without a boundary) has passed its end, since a playlist must
  announce the right next part.
- A segment ends at the boundary that the timeline gives (`boundaries`, in ticks), at the sample
  nearest to it. What was published beyond a boundary stays; the next segment is shorter then.
- A sample's time is bridged, up to `HOLE_MS`, by the sample before it: a publisher slower than one
  frame a part (a still screen) gets parts as long as its frames, over the part target. The other
  choices, gaps or parts without samples, lose picture or stall in players.
- Where nothing comes for `HOLE_MS`, gap parts fill the time, so that sequence numbers go on in
  step.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from media.cmaf.chunk import chunk
from media.hls.pace import Pace

HOLE_MS = 1500
"""Shorter holes are bridged by a longer sample, longer ones become gap parts."""

SHORTEST_PERCENT = 85
"""Of the part target that a part must last, if its segment goes on after it (RFC 8216bis-15,
section 4.4.3.7)."""
LONGER_MS = 450
"""A segment may be so much longer than the target duration, to be rounded down to it."""
_GAP_MS_MIN = 5
"""Shortest gap part, for a segment that would have nothing."""
_BOUNDARIES_MAX = 64
_LENGTHS = 8


class MadePart(NamedTuple):
    """A finished part. `start` and `duration` in ticks; `pieces` joined are its bytes."""

    rendition: str
    msn: int
    part: int
    start: int
    duration: int
    at_ms: int
    """Unix time of the first sample."""
    samples: int
    independent: bool
    last: bool
    discontinuity: bool
    gap: bool
    pieces: Sequence[bytes]


class MadeEnd(NamedTuple):
    """The open segment ends without a further part."""

    rendition: str
    msn: int


Made = MadePart | MadeEnd


class Boundary(NamedTuple):
    """Where a segment ends. broken: what follows does not follow on."""

    at: int
    broken: bool


class Track:
    """The open segment of one rendition, and the samples that no part holds yet."""

    def __init__(
        self, name: str, *, timescale: int, part_ms: int, segment_ms: int, msn: int, video: bool
    ) -> None:
        self.name, self.timescale, self.video = name, timescale, video
        self.msn, self.index = msn, 0
        self.origin_ns = 0
        """Unix time of tick 0."""
        self.end: int | None = None
        """Where what was published ends; None: nothing yet since the run began."""
        self.broken = False
        """The next segment gets a discontinuity."""
        self.boundaries: deque[Boundary] = deque(maxlen=_BOUNDARIES_MAX)
        self.pace = Pace(timescale)
        self.made: list[Made] = []
        """Taken and emptied by the timeline."""
        self.nominal = timescale // 30 if video else timescale // 50
        self.due = timescale * segment_ms // 1000
        """Ticks after a segment's start from when it may end."""
        self.segment_start = 0
        self.independent = True
        """Whether the open segment starts with a key frame."""
        self.ripe = False
        """Whether `settle` may have something to do, apart from boundaries."""
        self._part = timescale * part_ms // 1000
        self._shortest = -(-timescale * part_ms * SHORTEST_PERCENT // 100_000)
        self._longest = timescale * (-(-segment_ms // 1000) * 1000 + LONGER_MS) // 1000
        self._hole = timescale * HOLE_MS // 1000
        self._gap_min = timescale * _GAP_MS_MIN // 1000
        self._floor = 0
        self._gapped = False
        """The newest part is a gap."""
        self._sequence = 0
        self._data: list[bytes] = []
        self._times: list[int] = []
        self._keys: list[bool] = []
        self._last_length = self.nominal
        self._heard = 0
        """Distances that the usual one is the mean of, at most `_LENGTHS`."""
        self._odd = 0
        """The last distance that was far from the usual one."""

    # -- what the timeline tells ----------------------------------------------------------

    def begin(self, floor: int, *, origin_ns: int) -> None:
        """A run of the timeline begins at `floor`; nothing is pending."""
        assert not self._data, "the run before was flushed"
        self.origin_ns = origin_ns
        self.end, self._floor, self.segment_start = None, floor, floor
        self.boundaries.clear()
        self.pace.reset()

    def add(self, at: int, data: bytes, *, length: int, key: bool = True) -> bool:
        """A sample at `at`, `length` ticks long as far as is known. False: it came too late, its
        time has been told of."""
        times = self._times
        if self.boundaries and at - self.newest() > self._part:
            self._pass_boundaries(at)
        if not self.video and not times and self.end is not None and at < self.end - length:
            return False
        if times:
            if self.video:
                self._learn(at - times[-1])
            start = times[0] if self.end is None else self.end
            if at - start > self._part - 3 * self.nominal:
                self._make_room(at, start)
        elif self.video and self.end is not None:
            self._learn(at - self.end + self.nominal)
        hole = self.nominal if self._gapped else self._hole
        if not times and self.end is not None and at - self.end > hole:
            self._gap(at)
        if not times and self.index == 0:
            self.segment_start = at if self.end is None else self.end
        if not self.video:
            self.nominal = length
        times.append(at if not times or at > times[-1] else times[-1] + 1)
        self._data.append(data)
        self._keys.append(key)
        self._last_length = length
        if at - (times[0] if self.end is None else self.end) > self._part - 3 * self.nominal:
            self.ripe = True
        return True

    def _pass_boundaries(self, at: int) -> None:
        """Closes what a hole before `at` leaves behind; a short hole is bridged up to there."""
        while self.boundaries and self.boundaries[0].at <= at:
            boundary = self.boundaries.popleft()
            short = boundary.at - self.newest() <= self._hole
            self.close(boundary, following=boundary.at if short else None)

    def _make_room(self, at: int, start: int) -> None:
        """Publishes what is pending if a sample at `at` does not fit to it."""
        times = self._times
        if at - times[-1] > self._hole:
            self._publish_before_gap(len(times), at)
        elif self.video and at - start >= self._least():
            self._publish(len(times), max(times[-1] + 1, min(at, self._bound(start, at))))
        elif at - max(self._estimate(), start + self._part) > self.nominal // 2:
            self._publish(len(times), max(times[-1] + 1, self._bound(start, at)))

    def settle(self, limit: int, *, may_end: int) -> None:
        """Publishes what is full. `limit`: up to here the leader has given all boundaries;
        `may_end`: so long the open segment must be to get one."""
        self.ripe = False
        while self._times:
            estimate = self._estimate()
            if self.boundaries and estimate >= self.boundaries[0].at - self.nominal // 2:
                self.close(self.boundaries.popleft())
                continue
            count, end = self._full_part(estimate)
            if not count:
                return
            waits = not self.boundaries and end - self.segment_start >= may_end
            long = not self.boundaries and end - self.segment_start > self._longest
            if (waits and end > limit) or long:
                self.ripe = True
                return
            self._publish(count, end)

    def close(self, boundary: Boundary, *, following: int | None = None) -> None:
        """The open segment ends at the boundary. `following`: where the next sample lies."""
        times = self._times
        latest = self.segment_start + self._longest
        if times or self.index:
            boundary = Boundary(min(boundary.at, latest), boundary.broken)
        near = boundary.at - (0 if self.video else self.nominal // 2)
        count = sum(1 for time in times if time < near) if times else 0
        if count:
            end = times[count] if count < len(times) else following
            if end is not None and end - boundary.at > self.nominal:
                end = max(boundary.at, times[count - 1] + 1)
            stalled = end is None and self._estimate() < boundary.at - self.nominal
            if stalled or (end is not None and end - times[count - 1] > self._hole):
                self._publish_before_gap(count, boundary.at)
                self._gap(boundary.at, last=True)
            else:
                end = min(self._estimate() if end is None else end, latest)
                self._publish_last(count, max(end, times[count - 1] + 1))
        elif following is None and self._short_of(boundary.at):
            self._gap(boundary.at, last=True)
        elif self.index:
            self.made.append(MadeEnd(self.name, self.msn))
        else:
            start = self._floor if self.end is None else self.end
            to = min(boundary.at, start + self._longest)
            self._gap(max(to, start + self._gap_min), last=True)
        self.msn, self.index = self.msn + 1, 0
        self.broken |= boundary.broken
        if self.end is not None:
            self.segment_start = self.end

    def flush(self) -> None:
        """Publishes all that is pending; the last part may be short. Boundaries passed count."""
        while self._times and self.boundaries:
            if self._estimate() < self.boundaries[0].at - self.nominal // 2:
                break
            self.close(self.boundaries.popleft())
        while self._times:
            room = self._start() + self._part - self.nominal
            fit = next((n for n, time in enumerate(self._times) if n and time > room), 0)
            end = self._times[fit] if fit else self._estimate()
            if self.index and end - self.segment_start > self._longest:
                self.made.append(MadeEnd(self.name, self.msn))
                self.msn, self.index = self.msn + 1, 0
            self._publish(fit or len(self._times), end)

    def align(self, msn: int, *, at: int) -> None:
        """Ends segments, with gaps where there is nothing, until `msn` is the open one."""
        while self.msn < msn:
            if self.boundaries:
                self.close(self.boundaries.popleft())
            elif self.index:
                self.made.append(MadeEnd(self.name, self.msn))
                self.msn, self.index = self.msn + 1, 0
            else:
                at = min(at, self._start() + self.due)
                self.close(Boundary(at, broken=False))
        self.boundaries.clear()

    def may_end(self) -> int:
        """How long the open segment must be to end before a key frame, less half a sample."""
        due = self.due if self.independent else self.due // 5
        return due - self.nominal // 2

    def newest(self) -> int:
        """Where the newest sample starts, or what was published ends."""
        return self._times[-1] if self._times else self._start()

    def pending(self) -> bool:
        """Whether samples wait for their part."""
        return bool(self._times)

    # -- how parts are cut ----------------------------------------------------------------

    def _start(self) -> int:
        if self.end is not None:
            return self.end
        return self._times[0] if self._times else self._floor

    def _learn(self, length: int) -> None:
        """The usual distance of frames, from those that are near it; others must come twice."""
        if length <= 0:
            return
        if self.nominal // 2 < length < self.nominal * 3 // 2:
            self._heard = min(self._heard + 1, _LENGTHS)
            self.nominal = max(1, self.nominal + round((length - self.nominal) / self._heard))
            self._odd = 0
        elif self._odd and abs(length - self._odd) * 4 < self._odd:
            self.nominal, self._odd, self._heard = min(length, self._hole), 0, 1
        else:
            self._odd = length

    def _estimate(self) -> int:
        """Where the pending samples will end, so far as is known."""
        times = self._times
        if not self.video:
            return times[-1] + self._last_length
        end, even = times[-1] + self.nominal, self._start() + len(times) * self.nominal
        if abs(end - even) * 2 < self.nominal and even > times[-1]:
            return even
        return end

    def _least(self) -> int:
        """How long what is pending must be to make a part before a sample that comes now. Frames
        that come together, or earlier than usual, make none that is too short."""
        full = self._estimate() + self.nominal > self._start() + self._part
        return self._shortest if full else max(self._shortest, self._part - self.nominal // 2 + 1)

    def _full_part(self, estimate: int) -> tuple[int, int]:
        """How many pending samples make a full part, and where it ends; 0: not full yet."""
        times, room = self._times, self._start() + self._part - self.nominal
        if estimate <= room:
            return 0, 0
        if self.video:
            return len(times), max(times[-1] + 1, min(estimate, self._start() + self._part))
        if times[-1] <= room:
            return len(times), estimate
        for count in range(1, len(times)):
            if times[count] > room:
                return count, times[count]
        return len(times), estimate

    def _bound(self, start: int, at: int) -> int:
        """The end of a part that a late sample at `at` closes: within the longest part if it can
        be, while the rest of the wait fits into the next one."""
        bound = max(start + self._part, at - self._part + self.nominal)
        if self.index == 0:
            return bound
        return min(bound, self.segment_start + self._longest)

    def _publish(self, count: int, end: int, *, last: bool = False) -> None:
        """The first `count` pending samples become a part that ends at `end`."""
        start = self._start()
        slew = self.pace.slew() if count == len(self._times) else 0
        data, times, keys = self._data[:count], self._times[:count], self._keys[:count]
        del self._data[:count], self._times[:count], self._keys[:count]
        times[0] = start
        if any(map(int.__ge__, times, times[1:])):
            for at in range(1, count):
                times[at] = max(times[at], times[at - 1] + 1)
        end = max(end + slew, times[-1] + 1)
        times.append(end)
        durations = list(map(int.__sub__, times[1:], times))
        self._sequence += 1
        if self.index == 0:
            self.independent = keys[0]
            self.segment_start = start
        pieces = chunk(
            data,
            durations,
            sequence=self._sequence,
            decode_time=start,
            keys=keys if self.video else None,
            first=self.index == 0,
        )
        self._made(start, end - start, count, pieces, last=last, independent=True in keys)

    def _publish_last(self, count: int, end: int) -> None:
        """The first `count` pending samples end the segment, in as many parts as they need."""
        while not self.video and count > 1:
            room = self._start() + self._part - self.nominal
            fit = next((index for index in range(1, count) if self._times[index] > room), 0)
            if not fit:
                break
            self._publish(fit, self._times[fit])
            count -= fit
        self._publish(count, end, last=True)

    def _publish_before_gap(self, count: int, to: int) -> None:
        """The first `count` pending samples become a part that is as long as one may be."""
        end = max(self._estimate(), min(to, self._start() + self._part))
        end = min(end, self.segment_start + self._longest)
        self._publish(count, max(end, self._times[count - 1] + 1))

    def _short_of(self, at: int) -> bool:
        """Whether so much lacks before `at` that a gap must tell of it."""
        return self.index > 0 and self.end is not None and at - self.end > self.nominal

    def _gap(self, to: int, *, last: bool = False) -> None:
        """Gap parts from what was published until `to`."""
        start = self._floor if self.end is None else self.end
        total = max(to - start, 1)
        count = -(-total // self._part)
        if self.index == 0:
            self.independent, self.segment_start = True, start
        for part in range(count):
            done = total * part // count
            length = total * (part + 1) // count - done
            ends = last and part == count - 1
            self._made(start + done, length, 0, (), last=ends, independent=False)

    def _made(
        self,
        start: int,
        duration: int,
        samples: int,
        pieces: Sequence[bytes],
        *,
        last: bool,
        independent: bool,
    ) -> None:
        broken = self.broken and self.index == 0
        at_ms = (self.origin_ns + start * 1_000_000_000 // self.timescale + 500_000) // 1_000_000
        self.made.append(
            MadePart(
                self.name, self.msn, self.index, start, duration, at_ms, samples, independent,
                last, broken, not samples, pieces,
            )
        )  # fmt: skip
        if broken:
            self.broken = False
        self._gapped = not samples
        self.index += 1
        self.end = start + duration

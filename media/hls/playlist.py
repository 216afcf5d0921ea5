"""One rendition's LL-HLS media playlist. No I/O and no clock: parts in, playlist bytes out.

The text of a segment is made once, when it ends; a render joins what is finished, so it costs what
has changed. Segments that a delta update may skip lie in one buffer, trimmed from the front.
Durations are counted in ticks, so that the same records give the same bytes in every process.

Boundaries, counted back from the end of the playlist: parts are listed for the two newest whole
segments and the open one (RFC 8216bis allows three target durations), segments are skippable beyond
six target durations.
"""

from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import NamedTuple

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEGMENTS_MAX = 1 << 17
"""A day of segments of a second, and some more; writers trim long before."""
_SKIP_TARGETS, _HOLD_TARGETS = 6, 3
_DETAILED_SEGMENTS = 2
"""Whole segments that keep their parts: with the open one never beyond three targets from the
end."""


class Report(NamedTuple):
    """Where another rendition of the stream stands."""

    uri: str
    msn: int
    part: int


class Piece(NamedTuple):
    """A finished part, as far as a playlist tells of it. `duration` in ticks."""

    duration: int
    at_ms: int
    independent: bool
    gap: bool
    discontinuity: bool


class _Segment(NamedTuple):
    msn: int
    plain: bytes
    """Everything but the parts: what stands before them, EXTINF and the URI."""
    detailed: bytes
    """The same with the parts."""
    ticks: int
    discontinuity: bool
    dependent: bool
    init: int


class Playlist:
    """Names: `init.<n>.mp4`, `s<msn>.m4s`, `s<msn>.<part>.m4s`; all relative, none with a query."""

    def __init__(
        self,
        *,
        timescale: int,
        target_seconds: int,
        part_target_ms: int,
        msn: int,
        discontinuities: int,
    ) -> None:
        self.target_seconds = target_seconds
        self.msn, self.part = msn, -1
        """The open segment, and its last finished part."""
        self.first = msn
        self.ended = False
        self._scale = timescale
        self._advance_parts = ceil(3000 / part_target_ms)
        self._discontinuities = discontinuities
        self._old = bytearray()
        self._old_from = 0
        self._skippable: deque[_Segment] = deque(maxlen=_SEGMENTS_MAX)
        self._recent: deque[_Segment] = deque(maxlen=_SEGMENTS_MAX)
        self._recent_ticks = 0
        self._dependents = 0
        self._init = self._next_init = -1
        self._first_init = -1
        self._open()
        self._previous_parts = 0
        self._full: bytes | None = None
        self._delta: bytes | None = None
        hold = max(3 * part_target_ms / 1000, 0.001)
        self._top = (
            f"#EXTM3U\n#EXT-X-VERSION:9\n#EXT-X-TARGETDURATION:{target_seconds}\n"
            f"#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold:.3f},"
            f"HOLD-BACK={target_seconds * _HOLD_TARGETS}.0,"
            f"CAN-SKIP-UNTIL={target_seconds * _SKIP_TARGETS}.0\n"
            f"#EXT-X-PART-INF:PART-TARGET={part_target_ms / 1000:.3f}\n"
        )

    def _open(self) -> None:
        self._lead, self._lines = "", list[str]()
        self._ticks, self._fresh, self._gap = 0, True, True
        self._broken = self._dependent = False

    # -- what happened --------------------------------------------------------------------

    def use_init(self, number: int) -> None:
        """`init.<number>.mp4` holds from the next segment on."""
        self._next_init = number

    def add(self, piece: Piece) -> None:
        """A part of the open segment is finished."""
        self.part += 1
        if self._fresh:
            self._begin(piece)
        self._gap &= piece.gap
        self._lines.append(
            f"#EXT-X-PART:DURATION={piece.duration / self._scale:.5f},"
            f'URI="s{self.msn}.{self.part}.m4s"'
            + (",INDEPENDENT=YES" if piece.independent else "")
            + (",GAP=YES" if piece.gap else "")
            + "\n"
        )
        self._ticks += piece.duration
        self.changed()

    def _begin(self, piece: Piece) -> None:
        self._fresh = False
        self._broken = piece.discontinuity
        self._dependent = not (piece.independent or piece.gap)
        self._dependents += self._dependent
        lead = "#EXT-X-DISCONTINUITY\n" if piece.discontinuity else ""
        if self._next_init != self._init:
            if self._init < 0:
                self._first_init = self._next_init
            else:
                lead += f'#EXT-X-MAP:URI="init.{self._next_init}.mp4"\n'
            self._init = self._next_init
        self._lead = lead + f"#EXT-X-PROGRAM-DATE-TIME:{_date(piece.at_ms)}\n"

    def end_segment(self) -> None:
        """The open segment is complete; the next one opens. One without a part is not listed."""
        assert self.part >= 0, "a segment has parts"
        lead = self._lead.encode()
        gap = "#EXT-X-GAP\n" if self._gap else ""
        tail = f"{gap}#EXTINF:{self._ticks / self._scale:.5f},\ns{self.msn}.m4s\n".encode()
        parts = "".join(self._lines).encode()
        self._recent.append(
            _Segment(
                self.msn, lead + tail, lead + parts + tail,
                self._ticks, self._broken, self._dependent, self._init,
            )
        )  # fmt: skip
        self._recent_ticks += self._ticks
        self._previous_parts = self.part + 1
        self.msn, self.part = self.msn + 1, -1
        self._open()
        boundary = self.target_seconds * _SKIP_TARGETS * self._scale
        while self._recent_ticks - self._recent[0].ticks >= boundary:
            segment = self._recent.popleft()
            self._recent_ticks -= segment.ticks
            self._old += segment.plain
            self._skippable.append(segment)
        self.changed()

    def trim(self, msn: int) -> None:
        """Segments before `msn` leave the playlist."""
        while self._skippable and self._skippable[0].msn < msn:
            segment = self._skippable.popleft()
            self._old_from += len(segment.plain)
            self._left(segment)
        while self._recent and self._recent[0].msn < msn:
            segment = self._recent.popleft()
            self._recent_ticks -= segment.ticks
            self._left(segment)
        head = next(iter(self._skippable or self._recent), None)
        self._first_init = self._init if head is None else head.init
        if self._old_from > 65_536 and self._old_from * 2 > len(self._old):
            del self._old[: self._old_from]
            self._old_from = 0
        self.changed()

    def _left(self, segment: _Segment) -> None:
        self._discontinuities += segment.discontinuity
        self._dependents -= segment.dependent
        self.first = segment.msn + 1

    def end(self) -> None:
        """The stream is over."""
        self.ended = True
        self.changed()

    def changed(self) -> None:
        """What is reported has changed: the next render makes new text."""
        self._full = self._delta = None

    # -- what is told ---------------------------------------------------------------------

    @property
    def last(self) -> tuple[int, int]:
        """Media sequence number and part of the newest part; a part of -1: there is none."""
        if self.part < 0 and self._previous_parts:
            return self.msn - 1, self._previous_parts - 1
        return self.msn, self.part

    @property
    def empty(self) -> bool:
        """Whether nothing was ever listed."""
        return self.part < 0 and not self._previous_parts

    @property
    def begun(self) -> bool:
        """Whether a whole segment is listed: players that know no parts have something to load."""
        return bool(self._recent or self._skippable)

    def has(self, msn: int, part: int | None) -> bool | None:
        """Whether that part, or that whole segment, is listed. None: too far ahead, answer 400."""
        if part is not None and msn == self.msn - 1 and part >= self._previous_parts:
            msn, part = self.msn, 0
        if self.ended or msn < self.msn:
            return True
        if msn > self.msn + 1:
            return None
        if part is None or msn > self.msn:
            return False
        if part > self.part + self._advance_parts:
            return None
        return part <= self.part

    def newest(self, msn: int, part: int | None) -> bool:
        """Whether a request for that part, or that whole segment, names what was listed last."""
        if part is None:
            return (msn, -1) == (self.msn - 1, self.part)
        if msn == self.msn - 1 and part >= self._previous_parts:
            msn, part = self.msn, 0
        return (msn, part) == self.last

    def render(self, reports: Sequence[Report] = (), *, skip: bool = False) -> bytes:
        """The playlist now: the same bytes until something changes. Cost: as its length."""
        if skip and self._skippable:
            if self._delta is None:
                mark = f"#EXT-X-SKIP:SKIPPED-SEGMENTS={len(self._skippable)}\n"
                self._delta = self._build(mark.encode(), reports)
            return self._delta
        if self._full is None:
            mapped = b""
            number = self._first_init if self._first_init >= 0 else self._next_init
            if number >= 0:
                mapped = f'#EXT-X-MAP:URI="init.{number}.mp4"\n'.encode()
            with memoryview(self._old) as old:
                self._full = self._build(mapped + bytes(old[self._old_from :]), reports)
        return self._full

    def _build(self, start: bytes, reports: Sequence[Report]) -> bytes:
        top = self._top + ("" if self._dependents else "#EXT-X-INDEPENDENT-SEGMENTS\n")
        top += f"#EXT-X-MEDIA-SEQUENCE:{self.first}\n"
        if self._discontinuities:
            top += f"#EXT-X-DISCONTINUITY-SEQUENCE:{self._discontinuities}\n"
        out = [top.encode(), start]
        plain = max(len(self._recent) - _DETAILED_SEGMENTS, 0)
        for number, segment in enumerate(self._recent):
            out.append(segment.plain if number < plain else segment.detailed)
        tail = [self._lead, *self._lines]
        if self.ended:
            tail.append("#EXT-X-ENDLIST\n")
        else:
            tail.append(f'#EXT-X-PRELOAD-HINT:TYPE=PART,URI="s{self.msn}.{self.part + 1}.m4s"\n')
        tail += [
            f'#EXT-X-RENDITION-REPORT:URI="{r.uri}",LAST-MSN={r.msn},LAST-PART={r.part}\n'
            for r in reports
        ]
        out.append("".join(tail).encode())
        return b"".join(out)


def _date(unix_ms: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=unix_ms)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

"""What a stream's journal holds and for how long: grouped by segment, so that it can be trimmed and
written anew. No I/O: the writer keeps the files.

A segment leaves the playlist when those after it fill the window, or when the stream has more bytes
than it may; it stays readable for `KEPT_TARGETS` target durations more.
"""

from collections import deque
from dataclasses import dataclass, field

from media.hls import records

KEPT_TARGETS = 3


@dataclass(slots=True)
class _Kept:
    msn: int
    lines: list[bytes] = field(default_factory=list)
    init: int = -1
    """The init segment that begins to hold here; -1: none."""
    ticks: int = 0
    size: int = 0
    breaks: int = 0


@dataclass(slots=True)
class _Rendition:
    begun: records.Rendition
    kept: deque[_Kept] = field(default_factory=deque)  # bounded by the window
    """The last one is open, and has no parts yet when the segment before it has just ended."""
    first: int = 0
    init_line: bytes = b""
    init: int = -1
    """What held before the first kept segment."""


class Dropped:
    """Files that nobody may ask for any more."""

    __slots__ = ("inits", "rendition", "segments")

    def __init__(self, rendition: str) -> None:
        self.rendition = rendition
        self.segments: list[int] = []
        self.inits: list[int] = []


class Ledger:
    """The records of one stream that are still of use."""

    def __init__(self, head: records.Head, *, bytes_max: int) -> None:
        self.head = head
        self.size = 0
        """Bytes of media that are kept."""
        self._bytes_max = bytes_max
        self._ended = False
        """A segment has ended since `trims` was last asked."""
        self._renditions: dict[str, _Rendition] = {}

    def note(self, record: records.Record) -> bytes:
        """Takes a record in and gives its line."""
        line = records.line(record)
        match record:
            case records.Part():
                self._part(record, line)
            case records.End():
                rendition = self._renditions[record.rendition]
                rendition.kept[-1].lines.append(line)
                rendition.kept.append(_Kept(record.msn + 1))
                self._ended = True
            case records.Init():
                kept = self._renditions[record.rendition].kept[-1]
                kept.lines.append(line)
                kept.init = record.number
            case records.Trim():
                self._renditions[record.rendition].first = record.msn
            case records.Rendition():
                rendition = _Rendition(record, first=record.msn)
                rendition.kept.append(_Kept(record.msn))
                self._renditions[record.rendition] = rendition
            case records.Stop():
                stopped = self._renditions.pop(record.rendition)
                self.size -= sum(kept.size for kept in stopped.kept)
            case _:
                pass
        return line

    def trims(self) -> list[records.Trim]:
        """What leaves the playlists now, to be noted."""
        found: list[records.Trim] = []
        if not self._ended:
            return found
        self._ended = False
        for name, rendition in self._renditions.items():
            window = self.head.window_seconds * rendition.begun.timescale
            listed = sum(kept.ticks for kept in rendition.kept if kept.msn >= rendition.first)
            first, excess = rendition.first, self._excess(rendition)
            for kept in list(rendition.kept)[:-2]:
                if kept.msn < first:
                    continue
                if listed - kept.ticks < window and excess <= 0:
                    break
                first, listed = kept.msn + 1, listed - kept.ticks
                excess -= kept.size
            if first > rendition.first:
                found.append(records.Trim(name, first))
        return found

    def drop(self) -> list[Dropped]:
        """Forgets what has been out of the playlists for long enough; its files may go."""
        found: list[Dropped] = []
        for name, rendition in self._renditions.items():
            dropped = Dropped(name)
            stay = KEPT_TARGETS * self.head.target_seconds * rendition.begun.timescale
            out = sum(kept.ticks for kept in rendition.kept if kept.msn < rendition.first)
            while rendition.kept[0].msn < rendition.first:
                kept = rendition.kept[0]
                if out - kept.ticks < stay and self.size <= self._bytes_max:
                    break
                out -= kept.ticks
                self._forget(rendition, dropped)
            if dropped.segments:
                found.append(dropped)
        return found

    def text(self) -> bytes:
        """A journal that says the same, from what is kept."""
        lines = [records.line(self.head)]
        for name, rendition in self._renditions.items():
            lines += [records.line(rendition.begun), rendition.init_line]
            for kept in rendition.kept:
                lines += kept.lines
            if rendition.first > rendition.begun.msn:
                lines.append(records.line(records.Trim(name, rendition.first)))
        return b"".join(lines)

    def _part(self, record: records.Part, line: bytes) -> None:
        rendition = self._renditions[record.rendition]
        kept = rendition.kept[-1]
        kept.lines.append(line)
        kept.ticks += record.duration
        kept.size += record.size
        kept.breaks += record.discontinuity
        self.size += record.size
        if record.last:
            self._ended = True
            rendition.kept.append(_Kept(record.msn + 1))

    def _excess(self, rendition: _Rendition) -> int:
        """Bytes that the rendition has over its share of what is allowed."""
        if self.size <= self._bytes_max:
            return 0
        own = sum(kept.size for kept in rendition.kept)
        return own - self._bytes_max * own // max(self.size, 1)

    def _forget(self, rendition: _Rendition, dropped: Dropped) -> None:
        kept = rendition.kept.popleft()
        self.size -= kept.size
        dropped.segments.append(kept.msn)
        if kept.init >= 0:
            if rendition.init >= 0:
                dropped.inits.append(rendition.init)
            rendition.init = kept.init
            rendition.init_line = [line for line in kept.lines if line.startswith(b'["i"')][-1]
        begun = rendition.begun
        rendition.begun = records.Rendition(
            begun.rendition,
            begun.timescale,
            kept.msn + 1,
            begun.discontinuities + kept.breaks,
        )

"""What a stream's journal says, applied: renditions, their playlists, where each part's bytes lie.

No I/O: records in, state out. Edge workers read it to answer, a new media process to go on.
"""

from dataclasses import dataclass, field

from media.hls import records
from media.hls.playlist import Piece, Playlist, Report

KEPT_SEGMENTS = 16
"""Segments that stay readable after they left the playlist, as long as their files are there."""


@dataclass(slots=True)
class Segment:
    """Where one segment's bytes lie in its file."""

    parts: list[records.Part] = field(default_factory=list)
    size: int = 0
    ticks: int = 0
    samples: int = 0
    complete: bool = False


@dataclass(slots=True)
class Shelved:
    """One rendition."""

    name: str
    timescale: int
    playlist: Playlist
    segments: dict[int, Segment]
    inits: dict[int, records.Init]
    init: records.Init | None = None
    """The newest."""
    heard_msn: int = -1
    """The newest segment with media in it."""
    discontinuities: int = 0
    """EXT-X-DISCONTINUITY-SEQUENCE of the newest segment."""
    end: int = 0
    """Ticks at the end of the newest part."""
    origin_ns: int = 0
    """Unix time of tick 0, by the newest part."""

    @property
    def current(self) -> bool:
        """Whether media has come lately: a rendition of gaps is not offered to new players."""
        return self.heard_msn < 0 or self.heard_msn >= self.playlist.msn - 3


class Book:
    """One stream as its journal tells it."""

    def __init__(self) -> None:
        self.head: records.Head | None = None
        self.renditions: dict[str, Shelved] = {}
        self.over = False

    def apply(self, record: records.Record) -> None:
        """Raises: ValueError when the record does not follow from those before it, or holds a
        number that cannot be."""
        match record:
            case records.Part():
                self._part(record)
            case records.End():
                self._end(self._of(record.rendition), record.msn)
            case records.Trim():
                self._trim(self._of(record.rendition), record.msn)
            case records.Rendition():
                self._begin(record)
            case records.Init():
                shelved = self._of(record.rendition)
                shelved.inits[record.number] = shelved.init = record
                shelved.playlist.use_init(record.number)
            case records.Stop():
                self.renditions.pop(record.rendition, None)
            case records.Over():
                self.over = True
                for shelved in self.renditions.values():
                    shelved.playlist.end()
            case records.Head():
                if record.format != records.FORMAT:
                    raise ValueError(f"a journal of format {record.format}")
                self.head = record
        for shelved in self.renditions.values():
            shelved.playlist.changed()

    def reports(self, name: str) -> list[Report]:
        """Where the renditions beside `name` stand."""
        return [
            Report(f"../{other.name}/live.m3u8", *other.playlist.last)
            for other in self.renditions.values()
            if other.name != name and not other.playlist.empty
        ]

    def _of(self, name: str) -> Shelved:
        shelved = self.renditions.get(name)
        if shelved is None:
            raise ValueError(f"no rendition {name!r} has begun")
        return shelved

    def _begin(self, record: records.Rendition) -> None:
        if self.head is None or record.rendition not in records.RENDITIONS:
            raise ValueError("a rendition without a head, or an unknown one")
        playlist = Playlist(
            timescale=record.timescale,
            target_seconds=self.head.target_seconds,
            part_target_ms=self.head.part_target_ms,
            msn=record.msn,
            discontinuities=record.discontinuities,
        )
        self.renditions[record.rendition] = Shelved(
            record.rendition,
            record.timescale,
            playlist,
            segments={},
            inits={},
            discontinuities=record.discontinuities,
        )

    def _part(self, record: records.Part) -> None:
        shelved = self._of(record.rendition)
        playlist = shelved.playlist
        if (record.msn, record.index) != (playlist.msn, playlist.part + 1):
            raise ValueError(
                f"part {record.msn}.{record.index} after {playlist.msn}.{playlist.part}"
            )
        segment = shelved.segments.setdefault(record.msn, Segment())
        segment.parts.append(record)
        segment.size += record.size
        segment.ticks += record.duration
        segment.samples += record.samples
        shelved.discontinuities += record.discontinuity
        shelved.end = record.start + record.duration
        shelved.origin_ns = (
            record.at_ms * 1_000_000 - record.start * 1_000_000_000 // shelved.timescale
        )
        if not record.gap:
            shelved.heard_msn = record.msn
        playlist.add(
            Piece(
                record.duration,
                record.at_ms,
                record.independent,
                record.gap,
                record.discontinuity,
            )
        )
        if record.last:
            self._end(shelved, record.msn)

    def _end(self, shelved: Shelved, msn: int) -> None:
        if msn != shelved.playlist.msn or shelved.playlist.part < 0:
            raise ValueError(f"segment {msn} is not open")
        shelved.segments[msn].complete = True
        shelved.playlist.end_segment()

    def _trim(self, shelved: Shelved, msn: int) -> None:
        shelved.playlist.trim(msn)
        for old in [each for each in shelved.segments if each < msn - KEPT_SEGMENTS]:
            del shelved.segments[old]
        if shelved.segments and len(shelved.inits) > 1:
            oldest = min(shelved.segments)
            numbers = [number for number in shelved.inits if number <= oldest]
            for number in sorted(numbers)[:-1]:
                del shelved.inits[number]

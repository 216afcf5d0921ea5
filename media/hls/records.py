"""The lines of a stream's journal, and how they are written and read.

A journal is append-only text, one JSON array a line, in `hls/<stream>/journal`. Its first line is a
`Head`. A line without its newline was not finished and does not count. `Part` says all that a
reader must know of one part; the bytes lie at `offset` in the segment's file and were written
before it.
"""

from collections.abc import Iterable
from typing import Annotated

import msgspec

FORMAT = 1
"""The first number in every head; a journal of another format is not continued."""

RENDITIONS = ("v", "a", "c")
"""H.264, Opus, AAC: the folders of a stream and the names in its records."""

_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 53)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]
_UnixMs = Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799_000)]
"""Up to the year 9999, which is as far as dates go."""


class Head(msgspec.Struct, frozen=True, array_like=True, tag="h"):
    """What holds for the stream's whole life. Times in milliseconds unless named otherwise."""

    format: int
    stream: str
    target_seconds: _Size
    part_target_ms: _Size
    segment_ms: _Size
    window_seconds: int
    origin_ns: int
    """Unix time of tick 0."""
    msn: _Count
    """The stream's first media sequence number."""


class Rendition(msgspec.Struct, frozen=True, array_like=True, tag="r"):
    """A rendition begins, or begins anew, with segment `msn`."""

    rendition: str
    timescale: _Size
    msn: _Count
    discontinuities: _Count
    """EXT-X-DISCONTINUITY-SEQUENCE of that segment."""


class Init(msgspec.Struct, frozen=True, array_like=True, tag="i"):
    """`init.<number>.mp4` holds from the next segment on."""

    rendition: str
    number: _Count
    size: _Count
    codec: str
    width: _Count
    height: _Count


class Part(msgspec.Struct, frozen=True, array_like=True, tag="p"):
    """A part is complete. `start` and `duration` in ticks, `at_ms` unix time of its first
    sample."""

    rendition: str
    msn: _Count
    index: _Count
    start: int
    duration: _Count
    at_ms: _UnixMs
    offset: _Count
    size: _Count
    samples: _Count
    independent: bool = False
    last: bool = False
    """Ends its segment."""
    discontinuity: bool = False
    """The segment that this part opens does not follow on."""
    gap: bool = False
    written_us: int = 0
    """Unix time in microseconds at which its bytes lay in the file: what its age is counted from.
    """


class End(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """The open segment ends without a further part."""

    rendition: str
    msn: _Count


class Trim(msgspec.Struct, frozen=True, array_like=True, tag="t"):
    """Segments before `msn` leave the playlist."""

    rendition: str
    msn: _Count


class Stop(msgspec.Struct, frozen=True, array_like=True, tag="s"):
    """The rendition is no longer made: nobody asks for it."""

    rendition: str


class Over(msgspec.Struct, frozen=True, array_like=True, tag="x"):
    """The stream has ended: EXT-X-ENDLIST."""


Record = Head | Rendition | Init | Part | End | Trim | Stop | Over

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[Record] = msgspec.json.Decoder(Record)


def line(record: Record) -> bytes:
    """The record's line, newline included."""
    return _encoder.encode(record) + b"\n"


def parse(data: bytes | memoryview) -> tuple[list[Record], int]:
    """The whole lines at the start of `data`, and how many bytes they take.

    Raises: ValueError when a whole line is no record (the journal is damaged).
    """
    whole = bytes(data)
    end = whole.rfind(b"\n") + 1
    try:
        return [_decoder.decode(each) for each in whole[:end].splitlines()], end
    except msgspec.DecodeError as error:
        raise ValueError(f"damaged journal: {error}") from error


def text(records: Iterable[Record]) -> bytes:
    """The records' lines."""
    return b"".join([line(record) for record in records])

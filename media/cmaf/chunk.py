"""CMAF chunks: moof and mdat of one track, as pieces for one gathered write.

Bytes in, bytes out: it neither joins the access units nor keeps them.
"""

import struct
from collections.abc import Sequence

SYNC, NOT_SYNC = 0x0200_0000, 0x0101_0000
"""sample_flags: a sync sample depends on nothing, any other on an earlier one."""

_STYP = struct.pack(">I4s4sI8s", 24, b"styp", b"msdh", 0, b"msdhcmfs")
_MOOF = struct.Struct(">I4s I4sII I4s I4sIIII I4sIQ I4sIII".replace(" ", ""))
_BOX = struct.Struct(">I4s")
_BASE_IS_MOOF, _DURATION, _FLAGS = 0x020000, 0x000008, 0x000020
_TRUN_OFFSET, _TRUN_FIRST_FLAGS = 0x001, 0x004
_TRUN_DURATION, _TRUN_SIZE, _TRUN_FLAGS = 0x100, 0x200, 0x400


def chunk(
    data: Sequence[bytes],
    durations: Sequence[int],
    *,
    sequence: int,
    decode_time: int,
    keys: Sequence[bool] | None = None,
    first: bool = False,
) -> list[bytes]:
    """The pieces of a chunk: its head, then the samples as they were given.

    data: AVCC access units or audio frames; durations: in the track's timescale, as many as data;
    keys: which samples are sync samples, None: all; first: of a segment (a styp goes in front).
    """
    count = len(data)
    assert 0 < count == len(durations), "a chunk has samples, each with a duration"
    duration, sizes = durations[0], list(map(len, data))
    trun, first_flags, default = _TRUN_OFFSET | _TRUN_SIZE, b"", SYNC
    mixed = False
    if keys is not None:
        default = NOT_SYNC
        mixed = True in keys[1:]
        if mixed:
            trun |= _TRUN_FLAGS
        elif keys[0]:
            trun |= _TRUN_FIRST_FLAGS
            first_flags = SYNC.to_bytes(4, "big")
    if durations.count(duration) != count:
        trun |= _TRUN_DURATION
    table = _table(sizes, durations, keys if mixed else None, timed=bool(trun & _TRUN_DURATION))
    rest = len(first_flags) + len(table)
    moof = _MOOF.size + rest
    head = _MOOF.pack(
        moof, b"moof",
        16, b"mfhd", 0, sequence & 0xFFFFFFFF,
        moof - 24, b"traf",
        24, b"tfhd", _BASE_IS_MOOF | _DURATION | _FLAGS, 1, duration, default,
        20, b"tfdt", 0x0100_0000, decode_time,
        20 + rest, b"trun", 0x0100_0000 | trun, count, moof + 8,
    )  # fmt: skip
    mdat = _BOX.pack(8 + sum(sizes), b"mdat")
    return [b"".join((_STYP if first else b"", head, first_flags, table, mdat)), *data]


def _table(
    sizes: list[int], durations: Sequence[int], keys: Sequence[bool] | None, *, timed: bool
) -> bytes:
    if keys is None and not timed:
        values: Sequence[int] = sizes
    elif keys is None:
        values = [value for pair in zip(durations, sizes, strict=True) for value in pair]
    else:
        flags = [SYNC if key else NOT_SYNC for key in keys]
        columns = (durations, sizes, flags) if timed else (sizes, flags)
        values = [value for row in zip(*columns, strict=True) for value in row]
    return struct.pack(f">{len(values)}I", *values)

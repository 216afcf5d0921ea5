"""Reads fragmented MP4 as far as times go. Independent of the code under test."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Chunk:
    """One moof and mdat: `start` and `duration` in the track's timescale."""

    start: int
    duration: int
    samples: int
    key: bool
    """Whether the first sample is a sync sample."""


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[str, int, int]]:
    """Name, start and end of the content of each box. Raises: ValueError when they do not fit."""
    end = len(data) if end is None else end
    while start < end:
        size, name = struct.unpack_from(">I4s", data, start)
        if size < 8 or start + size > end:
            raise ValueError(f"box {name!r} of {size} bytes at {start} of {end}")
        yield name.decode("ascii"), start + 8, start + size
        start += size


def find(data: bytes, *path: str) -> tuple[int, int]:
    """Where the content of the box at `path` lies. Raises: KeyError."""
    start, end = 0, len(data)
    for wanted in path:
        for name, inner, stop in boxes(data, start, end):
            if name == wanted:
                start, end = inner, stop
                break
        else:
            raise KeyError(wanted)
    return start, end


def timescale(init: bytes) -> int:
    """Of the one track of an init segment."""
    start, _ = find(init, "moov", "trak", "mdia", "mdhd")
    return int(struct.unpack_from(">I", init, start + 12)[0])


def chunks(data: bytes) -> list[Chunk]:
    """All chunks of a part or a segment. Raises: ValueError, KeyError when it is none."""
    found: list[Chunk] = []
    sizes: list[int] = []
    for name, start, end in boxes(data):
        if name == "moof":
            chunk, sizes = _moof(data, start, end)
            found.append(chunk)
        elif name == "mdat":
            if sum(sizes) != end - start:
                raise ValueError(f"samples of {sum(sizes)} bytes in mdat of {end - start}")
        elif name != "styp":
            raise ValueError(f"unexpected box {name}")
    return found


def _moof(data: bytes, start: int, end: int) -> tuple[Chunk, list[int]]:
    moof = data[start - 8 : end]
    tfhd, _ = find(moof, "moof", "traf", "tfhd")
    tfdt, _ = find(moof, "moof", "traf", "tfdt")
    trun, _ = find(moof, "moof", "traf", "trun")
    head = struct.unpack_from(">I", moof, tfhd)[0] & 0xFFFFFF
    assert head == 0x020028, "default-base-is-moof, default duration and flags"
    duration, default = struct.unpack_from(">II", moof, tfhd + 8)
    decode = struct.unpack_from(">Q", moof, tfdt + 4)[0]
    kind, count, offset = struct.unpack_from(">III", moof, trun)
    assert offset == end - start + 16, "data starts right after the header of mdat"
    at, kind = trun + 12, kind & 0xFFFFFF
    flags = default
    if kind & 4:
        flags = struct.unpack_from(">I", moof, at)[0]
        at += 4
    total, sizes = 0, []
    for index in range(count):
        length = duration
        if kind & 0x100:
            length = struct.unpack_from(">I", moof, at)[0]
            at += 4
        sizes.append(struct.unpack_from(">I", moof, at)[0])
        at += 4
        if kind & 0x400:
            flags = struct.unpack_from(">I", moof, at)[0] if index == 0 else flags
            at += 4
        total += length
    return Chunk(decode, total, count, not flags & 0x10000), sizes

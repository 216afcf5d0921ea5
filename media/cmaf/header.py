"""Init segments: ftyp and moov of one track, for players that append chunks to it."""

import struct
from typing import NamedTuple

from media.cmaf.boxes import box, full_box

_UNITY = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_NONE = bytes(4)
_LANGUAGE = 0x55C4
"""`und`, five bits a letter."""


class Track(NamedTuple):
    """What an init segment says of its one track."""

    timescale: int
    entry: bytes
    """The sample entry box: avc1, Opus or mp4a."""
    codec: str
    """RFC 6381, for CODECS and for MSE."""
    width: int = 0
    """0: audio."""
    height: int = 0
    roll: int = 0
    """Audio pre-roll: samples to decode before the one wanted, negative; 0: none."""


def init_segment(track: Track) -> bytes:
    """ftyp and moov; durations, flags and sizes stand in the chunks."""
    video = track.width > 0
    mvhd = full_box(
        b"mvhd", 0, struct.pack(">IIIIIH10x", 0, 0, track.timescale, 0, 0x10000, 0x100),
        _UNITY, bytes(24), struct.pack(">I", 2),
    )  # fmt: skip
    volume = 0 if video else 0x100
    tkhd = full_box(
        b"tkhd", 3, struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, 0, 0, 0 if video else 1, volume, 0),
        _UNITY, struct.pack(">II", track.width << 16, track.height << 16),
    )  # fmt: skip
    mdhd = full_box(b"mdhd", 0, struct.pack(">IIIIHH", 0, 0, track.timescale, 0, _LANGUAGE, 0))
    handler = (b"vide", b"video\0") if video else (b"soun", b"audio\0")
    hdlr = full_box(b"hdlr", 0, _NONE, handler[0], bytes(12), handler[1])
    kind = full_box(b"vmhd", 1, bytes(8)) if video else full_box(b"smhd", 0, _NONE)
    dinf = box(b"dinf", full_box(b"dref", 0, struct.pack(">I", 1), full_box(b"url ", 1)))
    minf = box(b"minf", kind, dinf, _sample_tables(track))
    trak = box(b"trak", tkhd, box(b"mdia", mdhd, hdlr, minf))
    trex = full_box(b"trex", 0, struct.pack(">IIIII", 1, 1, 0, 0, 0))
    moov = box(b"moov", mvhd, box(b"mvex", trex), trak)
    return box(b"ftyp", b"iso6", _NONE, b"iso6cmfc") + moov


def _sample_tables(track: Track) -> bytes:
    tables = [
        full_box(b"stsd", 0, struct.pack(">I", 1), track.entry),
        full_box(b"stts", 0, _NONE),
        full_box(b"stsc", 0, _NONE),
        full_box(b"stsz", 0, bytes(8)),
        full_box(b"stco", 0, _NONE),
    ]
    if track.roll:
        roll = struct.pack(">IIh", 2, 1, track.roll)
        tables.append(full_box(b"sgpd", 0, b"roll", roll, version=1))
    return box(b"stbl", *tables)

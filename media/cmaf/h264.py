"""H.264 out of band: what a sequence parameter set says, and the `avc1` sample entry.

Reads only what the sample entry and a playlist need; it decodes no picture.
"""

import struct
from collections.abc import Sequence
from typing import NamedTuple

from media.cmaf.boxes import box
from media.cmaf.header import Track

CLOCK_HZ = 90_000

_NAL_SPS = 7
_HIGH_PROFILES = frozenset((100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135))
_AVCC_EXTENDED = frozenset((100, 110, 122, 144))
_PIXELS_MAX = 16_384
"""Widest and highest picture believed, in pixels."""


class Picture(NamedTuple):
    """What a sequence parameter set says of its pictures."""

    width: int
    height: int
    chroma: int
    luma_bits: int
    chroma_bits: int


def picture(sps: bytes) -> Picture:
    """Reads a sequence parameter set, NAL header included.

    Raises: ValueError when it is cut short or says what cannot be.
    """
    if len(sps) < 4 or sps[0] & 31 != _NAL_SPS:
        raise ValueError("not a sequence parameter set")
    bits = _Bits(sps[1:])
    profile = bits.take(8)
    bits.take(16)
    bits.unsigned()
    chroma, planes, luma_bits, chroma_bits = 1, 0, 8, 8
    if profile in _HIGH_PROFILES:
        chroma = bits.unsigned()
        planes = bits.take(1) if chroma == 3 else 0
        luma_bits, chroma_bits = 8 + bits.unsigned(), 8 + bits.unsigned()
        bits.take(1)
        if bits.take(1):
            _skip_scaling(bits, 12 if chroma == 3 else 8)
    bits.unsigned()
    _skip_order(bits)
    bits.unsigned()
    bits.take(1)
    columns, rows = bits.unsigned() + 1, bits.unsigned() + 1
    fields = 2 - bits.take(1)
    if fields == 2:
        bits.take(1)
    bits.take(1)
    crop = [bits.unsigned() for _ in range(4)] if bits.take(1) else [0, 0, 0, 0]
    unit_x = 2 if chroma in (1, 2) and not planes else 1
    unit_y = (2 if chroma == 1 and not planes else 1) * fields
    width = columns * 16 - unit_x * (crop[0] + crop[1])
    height = rows * 16 * fields - unit_y * (crop[2] + crop[3])
    if not (0 < width <= _PIXELS_MAX and 0 < height <= _PIXELS_MAX and chroma <= 3):
        raise ValueError(f"impossible picture of {width} x {height}")
    if luma_bits > 14 or chroma_bits > 14:
        raise ValueError(f"impossible depth of {luma_bits} and {chroma_bits} bits")
    return Picture(width, height, chroma, luma_bits, chroma_bits)


def video_track(sps: bytes, pps: Sequence[bytes]) -> Track:
    """The track of pictures that follow these parameter sets.

    Raises: ValueError when the sequence parameter set cannot be read or a set is too long.
    """
    if not pps or len(pps) > 255 or len(sps) > 65_535 or any(len(p) > 65_535 for p in pps):
        raise ValueError("parameter sets missing or too long")
    shown = picture(sps)
    record = bytes((1, sps[1], sps[2], sps[3], 0xFF, 0xE1)) + struct.pack(">H", len(sps)) + sps
    record += bytes((len(pps),)) + b"".join(struct.pack(">H", len(p)) + p for p in pps)
    if sps[1] in _AVCC_EXTENDED:
        depths = (0xF8 | shown.luma_bits - 8, 0xF8 | shown.chroma_bits - 8)
        record += bytes((0xFC | shown.chroma, *depths, 0))
    fixed = struct.pack(
        ">6xH16xHHIIIH32xHh", 1, shown.width, shown.height, 72 << 16, 72 << 16, 0, 1, 24, -1
    )
    entry = box(b"avc1", fixed, box(b"avcC", record))
    return Track(CLOCK_HZ, entry, f"avc1.{sps[1:4].hex()}", shown.width, shown.height)


class _Bits:
    """Reads bits and Exp-Golomb codes after taking out the emulation prevention bytes."""

    def __init__(self, data: bytes) -> None:
        plain = data.replace(b"\0\0\3", b"\0\0")
        self._value = int.from_bytes(plain, "big")
        self._left = len(plain) * 8

    def take(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("parameter set cut short")
        return self._value >> self._left & ((1 << count) - 1)

    def unsigned(self) -> int:
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("impossible Exp-Golomb code")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def _skip_scaling(bits: _Bits, lists: int) -> None:
    for index in range(lists):
        if not bits.take(1):
            continue
        last = step = 8
        for _ in range(16 if index < 6 else 64):
            if step:
                step = (last + bits.signed()) & 255
            last = step or last


def _skip_order(bits: _Bits) -> None:
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.take(1)
        bits.signed()
        bits.signed()
        cycle = bits.unsigned()
        if cycle > 255:
            raise ValueError("impossible picture order cycle")
        for _ in range(cycle):
            bits.signed()

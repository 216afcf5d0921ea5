"""The machine-readable strip in the demo's picture: when a frame was made, and its number.

Its layout is a contract with whoever measures latency from pixels (the pages, the tests):

- The picture is `COLUMNS` = 80 cells wide; a cell is a square of `width / 80` pixels, so it scales
  with the picture: 16 pixels at 1280, 8 at 640. Two rows lie in the top left corner.
- A white cell is 1, a black cell 0, most significant bit first.
- Row 0: the start pattern 10110010, then 48 bits: unix time in milliseconds.
- Row 1: the start pattern 01001101, then 24 bits: the frame's number modulo 2^24, then 8 bits: the
  CRC-8 (polynomial 0x07, first value 0, not reflected) of the 9 bytes before it, time then number.

To read it from a canvas that a video of `w` pixels was drawn on: `cell = w / 80`; the bit at
(row, column) is the mean luma of the middle of that cell, `((column + .5) * cell, (row + .5) *
cell)`, against the threshold halfway between the means of the cells that the two start patterns
say are white and black. Reject the frame when a start pattern or the CRC does not fit. In
JavaScript the time needs `high * 2 ** 24 + low`: 48 bits are more than bit operators take.

This module only makes bits; `picture.py` paints them.
"""

from collections.abc import Sequence
from typing import Final

COLUMNS: Final = 80
ROWS: Final = 2
START_TIME: Final = 0b10110010
START_NUMBER: Final = 0b01001101
TIME_BITS: Final = 48
NUMBER_BITS: Final = 24
_POLYNOMIAL: Final = 0x07


def crc8(data: bytes) -> int:
    """CRC-8 with polynomial 0x07, first value 0, not reflected."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = ((crc << 1) ^ _POLYNOMIAL) & 0xFF if crc & 0x80 else crc << 1
    return crc


def rows(*, unix_ms: int, number: int) -> tuple[Sequence[bool], Sequence[bool]]:
    """The cells of both rows, from the left; true is white. Row 0 has 56, row 1 has 40."""
    time_bytes = (unix_ms % (1 << TIME_BITS)).to_bytes(6, "big")
    number_bytes = (number % (1 << NUMBER_BITS)).to_bytes(3, "big")
    crc = crc8(time_bytes + number_bytes)
    return (
        _bits(bytes([START_TIME]) + time_bytes),
        _bits(bytes([START_NUMBER]) + number_bytes + bytes([crc])),
    )


def _bits(data: bytes) -> list[bool]:
    return [bool(byte >> shift & 1) for byte in data for shift in range(7, -1, -1)]

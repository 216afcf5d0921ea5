"""A bitmap font of our own, five by seven dots, for what the test picture burns in.

Only the characters the picture needs; an unknown one is a bug of the caller (KeyError).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

Mask = npt.NDArray[np.uint8]

DOTS_WIDE: Final = 5
DOTS_HIGH: Final = 7
_DOTS: Final = {
    " ": (0, 0, 0, 0, 0, 0, 0),
    "0": (0b01110, 0b10001, 0b10011, 0b10101, 0b11001, 0b10001, 0b01110),
    "1": (0b00100, 0b01100, 0b00100, 0b00100, 0b00100, 0b00100, 0b01110),
    "2": (0b01110, 0b10001, 0b00001, 0b00110, 0b01000, 0b10000, 0b11111),
    "3": (0b01110, 0b10001, 0b00001, 0b00110, 0b00001, 0b10001, 0b01110),
    "4": (0b00010, 0b00110, 0b01010, 0b10010, 0b11111, 0b00010, 0b00010),
    "5": (0b11111, 0b10000, 0b11110, 0b00001, 0b00001, 0b10001, 0b01110),
    "6": (0b00110, 0b01000, 0b10000, 0b11110, 0b10001, 0b10001, 0b01110),
    "7": (0b11111, 0b00001, 0b00010, 0b00100, 0b01000, 0b01000, 0b01000),
    "8": (0b01110, 0b10001, 0b10001, 0b01110, 0b10001, 0b10001, 0b01110),
    "9": (0b01110, 0b10001, 0b10001, 0b01111, 0b00001, 0b00010, 0b01100),
    ":": (0, 0b00100, 0b00100, 0, 0b00100, 0b00100, 0),
    ".": (0, 0, 0, 0, 0, 0b00110, 0b00110),
    "A": (0b01110, 0b10001, 0b10001, 0b11111, 0b10001, 0b10001, 0b10001),
    "C": (0b01110, 0b10001, 0b10000, 0b10000, 0b10000, 0b10001, 0b01110),
    "D": (0b11110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b11110),
    "E": (0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b11111),
    "F": (0b11111, 0b10000, 0b10000, 0b11110, 0b10000, 0b10000, 0b10000),
    "M": (0b10001, 0b11011, 0b10101, 0b10101, 0b10001, 0b10001, 0b10001),
    "N": (0b10001, 0b11001, 0b10101, 0b10011, 0b10001, 0b10001, 0b10001),
    "O": (0b01110, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110),
    "R": (0b11110, 0b10001, 0b10001, 0b11110, 0b10100, 0b10010, 0b10001),
    "S": (0b01111, 0b10000, 0b10000, 0b01110, 0b00001, 0b00001, 0b11110),
    "T": (0b11111, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100, 0b00100),
    "U": (0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b10001, 0b01110),
    "X": (0b10001, 0b10001, 0b01010, 0b00100, 0b01010, 0b10001, 0b10001),
}


class Font:
    """Letters of one size, made once each. A cell is six dots wide: five and a gap."""

    def __init__(self, dot_pixels: int) -> None:
        self._dot = dot_pixels
        self._masks: dict[str, Mask] = {}

    @property
    def height(self) -> int:
        """Pixels."""
        return DOTS_HIGH * self._dot

    def width(self, text: str) -> int:
        """Pixels, with the gap after the last letter."""
        return (DOTS_WIDE + 1) * self._dot * len(text)

    def draw(self, luma: Mask, text: str, *, left: int, top: int) -> None:
        """Lightens `luma` where the letters are; it must be darker than them there."""
        step = (DOTS_WIDE + 1) * self._dot
        for index, letter in enumerate(text):
            mask = self._mask(letter)
            x = left + index * step
            area = luma[top : top + mask.shape[0], x : x + mask.shape[1]]
            np.maximum(area, mask, out=area)

    def _mask(self, letter: str) -> Mask:
        mask = self._masks.get(letter)
        if mask is None:
            mask = self._masks[letter] = _rounded(_DOTS[letter], self._dot)
        return mask


def _rounded(rows: tuple[int, ...], dot: int) -> Mask:
    """Dots blown up to squares, blurred and sharpened again, which rounds the corners."""
    dots = np.array(
        [[row >> (DOTS_WIDE - 1 - x) & 1 for x in range(DOTS_WIDE)] for row in rows], np.float64
    )
    big = np.kron(dots, np.ones((dot, dot)))
    if dot >= 4:
        kernel = np.ones(dot) / dot
        for axis in (0, 1):
            big = np.apply_along_axis(np.convolve, axis, big, kernel, "same")
        big = np.clip((big - 0.4) * dot * 0.6 + 0.5, 0.0, 1.0)
    return (big * 235).astype(np.uint8)

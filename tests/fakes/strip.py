"""Reads the strip that `edge/demo/strip.py` describes from a frame's luma plane.

Written from the description alone, with none of the writer's code, so that both must be right.
"""

import numpy as np
import numpy.typing as npt

START = (0b10110010, 0b01001101)


def read_strip(luma: npt.NDArray[np.uint8]) -> tuple[int, int] | None:
    """Unix milliseconds and frame number, or None when no sound strip is there."""
    cell = luma.shape[1] / 80
    means = [[_mean(luma, row, column, cell) for column in range(56)] for row in range(2)]
    start = [int(bit) for pattern in START for bit in f"{pattern:08b}"]
    known = means[0][:8] + means[1][:8]
    white = float(np.mean([m for m, bit in zip(known, start, strict=True) if bit]))
    black = float(np.mean([m for m, bit in zip(known, start, strict=True) if not bit]))
    if white - black < 40:
        return None
    bits = [[int(mean > (white + black) / 2) for mean in row] for row in means]
    if bits[0][:8] + bits[1][:8] != start:
        return None
    payload = bits[0][8:56] + bits[1][8:32]
    if _remainder(payload + bits[1][32:40]):
        return None
    return _number(payload[:48]), _number(payload[48:])


def _mean(luma: npt.NDArray[np.uint8], row: int, column: int, cell: float) -> float:
    quarter = cell / 4
    top, left = (row + 0.5) * cell, (column + 0.5) * cell
    area = luma[
        int(top - quarter) : int(top + quarter) + 1, int(left - quarter) : int(left + quarter) + 1
    ]
    return float(area.mean())


def _number(bits: list[int]) -> int:
    return int("".join(map(str, bits)), 2)


def _remainder(bits: list[int]) -> int:
    """Of the long division by x^8 + x^2 + x + 1: zero for a sound codeword."""
    work = list(bits)
    for index in range(len(work) - 8):
        if work[index]:
            for offset, bit in enumerate((1, 0, 0, 0, 0, 0, 1, 1, 1)):
                work[index + offset] ^= bit
    return _number(work[-8:])

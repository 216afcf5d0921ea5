"""The demo's sound: a 1 kHz beep of 100 ms on each full second, silence between.

It starts on the second exactly, as the picture's flash does, so that lip-sync can be measured.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

from edge.demo.picture import FLASH_MS

Samples = npt.NDArray[np.int16]

SAMPLE_RATE: Final = 48_000
FRAME_MS: Final = 20
FRAME_SAMPLES: Final = SAMPLE_RATE * FRAME_MS // 1000
_PITCH_HZ: Final = 1000
_FADE_MS: Final = 2
_LOUDNESS: Final = 6_000
"""Of 32,767: about -15 dBFS."""


class Tone:
    """One second of sound, cut into frames of 20 ms; every second sounds the same."""

    def __init__(self) -> None:
        second = _second()
        self._frames = [
            np.ascontiguousarray(second[:, start : start + FRAME_SAMPLES])
            for start in range(0, SAMPLE_RATE, FRAME_SAMPLES)
        ]

    def frame(self, unix_ms: int) -> Samples:
        """960 stereo samples, interleaved, shape (1, 1920). `unix_ms` must be a multiple of 20."""
        assert unix_ms % FRAME_MS == 0
        return self._frames[unix_ms % 1000 // FRAME_MS].T.reshape(1, -1)


def _second() -> Samples:
    count = SAMPLE_RATE * FLASH_MS // 1000
    fade = SAMPLE_RATE * _FADE_MS // 1000
    wave = np.sin(np.arange(count) * (2 * np.pi * _PITCH_HZ / SAMPLE_RATE))
    ramp = np.clip(np.minimum(np.arange(count), np.arange(count)[::-1]) / fade, 0.0, 1.0)
    second = np.zeros((2, SAMPLE_RATE), np.int16)
    second[:, :count] = (wave * ramp * _LOUDNESS).astype(np.int16)
    return second

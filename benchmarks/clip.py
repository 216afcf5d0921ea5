"""A short clip in units, as an encoder would give them: for load publishers and for tests.

The demo's picture with film grain over half of it, so that the encoder spends its bit rate as it
does on a camera's pictures; x264 baseline, Opus every 20 ms. The same every time. It begins when
the encoder's rate control has settled: one of its first key pictures is three times the usual.
"""

import functools
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge.demo.encoder import VIDEO_CLOCK_HZ, AudioEncoder, VideoEncoder
from edge.demo.picture import MovingPicture
from edge.demo.tone import FRAME_MS, FRAME_SAMPLES, Tone

FIRST_UNIX_MS: Final = 1_790_000_000_000
FRAME_RATE: Final = 30
SETTLE_MS: Final = 4_000
_GRAIN: Final = 14
_GRAINS: Final = 8

ClipUnit = tuple[bool, int, bool, bytes]
"""Video, milliseconds from the start, key frame, H.264 in Annex B or an Opus packet."""


@dataclass(frozen=True, slots=True)
class Clip:
    """Units in order of time; `loop_ms` after its start the clip begins anew."""

    units: tuple[ClipUnit, ...]
    loop_ms: int

    @property
    def video_bits_per_second(self) -> int:
        """Mean over the clip."""
        return sum(len(u[3]) for u in self.units if u[0]) * 8_000 // self.loop_ms


@functools.lru_cache(maxsize=4)
def make_clip(
    *,
    width: int = 1280,
    height: int = 720,
    bit_rate: int = 1_550_000,
    gop_ms: int = 1_000,
    seconds: int = 4,
) -> Clip:
    """Cost: about ten milliseconds a picture at 1280x720, those of four seconds before it too."""
    video = _video(width=width, height=height, bit_rate=bit_rate, gop_ms=gop_ms, seconds=seconds)
    units = sorted([*video, *_audio(seconds)], key=lambda unit: unit[1])
    return Clip(tuple(units), seconds * 1_000)


@functools.lru_cache(maxsize=1)
def quiet_clip() -> Clip:
    """One small key picture and one Opus packet a second: next to nothing to send, so that what
    joining costs can be told from what watching costs."""
    clip = make_clip(width=320, height=180, bit_rate=60_000, seconds=4)
    kept = tuple(unit for unit in clip.units if unit[2] and unit[1] % 1_000 == 0)
    return Clip(kept, clip.loop_ms)


def _video(*, width: int, height: int, bit_rate: int, gop_ms: int, seconds: int) -> list[ClipUnit]:
    picture = MovingPicture(width=width, height=height)
    encoder = VideoEncoder(
        width=width, height=height, frame_rate=FRAME_RATE, bit_rate=bit_rate, gop_ms=gop_ms
    )
    random = np.random.default_rng(1)
    rows = slice(height // 2, height)
    shape = (height - height // 2, width)
    grains = [random.integers(0, _GRAIN, shape, np.uint8) for _ in range(_GRAINS)]
    units: list[ClipUnit] = []
    skipped = -(-SETTLE_MS // gop_ms) * gop_ms * FRAME_RATE // 1000
    pictures = seconds * FRAME_RATE
    for number in range(-skipped, pictures):
        at_ms = number * 1000 // FRAME_RATE
        image = picture.paint(unix_ms=FIRST_UNIX_MS + at_ms, number=number % pictures)
        image[:height][rows] += grains[number % _GRAINS]
        pts = (number + skipped) * VIDEO_CLOCK_HZ // FRAME_RATE
        packet = encoder.encode(image, pts=pts, keyframe=False)
        assert packet is not None, "the encoder has no delay"
        if number >= 0:
            units.append((True, at_ms, packet.is_keyframe, bytes(packet)))
    return units


def _audio(seconds: int) -> list[ClipUnit]:
    tone, encoder = Tone(), AudioEncoder(bit_rate=64_000)
    units: list[ClipUnit] = []
    for index in range(seconds * 1_000 // FRAME_MS):
        at_ms = index * FRAME_MS
        packet = encoder.encode(tone.frame(FIRST_UNIX_MS + at_ms), pts=index * FRAME_SAMPLES)
        assert packet is not None, "the encoder has no delay"
        units.append((False, at_ms, True, bytes(packet)))
    return units

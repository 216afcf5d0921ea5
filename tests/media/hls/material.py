"""Real H.264 and Opus for tests: made once a run with PyAV, then dated as a test wants it."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from functools import lru_cache
from random import Random
from typing import NamedTuple

import av
import numpy as np

from media.hls.units import Unit

START_NS = 1_790_000_000_000_000_000


class Frame(NamedTuple):
    """One access unit, as the native plane hands it over."""

    key: bool
    data: bytes
    sps: bytes
    pps: tuple[bytes, ...]


@lru_cache(maxsize=16)
def pictures(
    *, width: int = 320, height: int = 180, fps: int = 30, gop: int = 60, count: int = 120
) -> tuple[Frame, ...]:
    """A loop of `count` frames, a multiple of `gop`."""
    codec = av.VideoCodecContext.create("libx264", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base, codec.framerate = Fraction(1, fps), Fraction(fps, 1)
    codec.options = {
        "preset": "ultrafast",
        "tune": "zerolatency",
        "profile": "baseline",
        "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:annexb=1:aud=0",
    }
    made = []
    for index in range(count):
        image = np.full((height * 3 // 2, width), 128, np.uint8)
        image[:height, (index * 4) % width : (index * 4) % width + 16] = 235
        frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
        frame.pts, frame.time_base = index, codec.time_base
        made += [_frame(bytes(packet)) for packet in codec.encode(frame)]
    return tuple(made)


def _frame(annexb: bytes) -> Frame:
    units = [unit for unit in annexb.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1") if unit]
    by_kind: dict[int, list[bytes]] = {}
    for unit in units:
        by_kind.setdefault(unit[0] & 31, []).append(unit)
    coded = [unit for unit in units if unit[0] & 31 in (1, 5)]
    data = b"".join(len(unit).to_bytes(4, "big") + unit for unit in coded)
    sps = by_kind.get(7, [b""])[0]
    return Frame(5 in by_kind, data, sps, tuple(by_kind.get(8, [])))


@lru_cache(maxsize=4)
def sound(seconds: int = 4, tone_hz: int = 440) -> tuple[bytes, ...]:
    """20 ms Opus packets of a tone."""
    codec = av.AudioCodecContext.create("libopus", "w")
    codec.sample_rate, codec.layout, codec.format = 48_000, "stereo", av.AudioFormat("s16")
    codec.bit_rate = 64_000
    made = []
    for index in range(seconds * 50):
        phase = (np.arange(960) + index * 960) * (2 * np.pi * tone_hz / 48_000)
        wave = (np.sin(phase) * 8000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(np.repeat(wave, 2)[None], format="s16", layout="stereo")
        frame.sample_rate, frame.pts = 48_000, index * 960
        made += [bytes(packet) for packet in codec.encode(frame)]
    return tuple(made)


def _still(at_ns: int) -> int:
    return at_ns


def show(
    frames: Sequence[Frame] = (),
    packets: Sequence[bytes] = (),
    *,
    seconds: float,
    fps: int = 30,
    session: int = 1,
    start_ns: int = START_NS,
    warp: Callable[[int], int] = _still,
) -> list[Unit]:
    """Units of a publisher, in the order of their time; `warp` bends the stream's clock."""
    units = []
    for index in range(round(seconds * fps) if frames else 0):
        frame = frames[index % len(frames)]
        at = start_ns + index * 1_000_000_000 // fps
        sets = (frame.sps, frame.pps) if frame.key else (b"", ())
        stamp = 7_000_000 + index * 90_000 // fps
        units.append(
            Unit(
                stream="s", session=session, video=True, at_ns=at, timestamp=stamp,
                keyframe=frame.key, lost=False, data=frame.data, sps=sets[0], pps=sets[1],
            )
        )  # fmt: skip
    for index in range(round(seconds * 50) if packets else 0):
        at = start_ns + index * 20_000_000
        data = packets[index % len(packets)]
        units.append(
            Unit(
                stream="s", session=session, video=False, at_ns=at, timestamp=5_000 + index * 960,
                keyframe=False, lost=False, data=data,
            )
        )  # fmt: skip
    units.sort(key=lambda unit: unit.at_ns)
    return [unit._replace(at_ns=warp(unit.at_ns)) for unit in units]


def jitter(seed: int, most_ms: int) -> Callable[[int], int]:
    """A clock that is off by up to `most_ms` either way."""
    random = Random(seed)
    return lambda at_ns: at_ns + random.randint(-most_ms * 1_000_000, most_ms * 1_000_000)


def batches(units: Sequence[Unit], every_ms: int = 20) -> Iterator[tuple[float, list[Unit]]]:
    """What arrives together, with the time of its arrival, in the order of `units`."""
    batch: list[Unit] = []
    slot = -1
    for unit in units:
        current = unit.at_ns // (every_ms * 1_000_000)
        if batch and current != slot:
            yield batch[-1].at_ns / 1e9, batch
            batch = []
        slot = current
        batch.append(unit)
    if batch:
        yield batch[-1].at_ns / 1e9, batch

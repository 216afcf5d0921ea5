"""Small clips for tests, made once a process: H.264 baseline and Opus as an encoder gives them."""

from benchmarks.clip import Clip, make_clip


def large_clip() -> Clip:
    """1280x720 at 30 pictures a second, 1.55 Mb/s, a key frame a second, 4 s."""
    return make_clip()


def small_clip(*, gop_ms: int = 1_000) -> Clip:
    """640x360 at 30 pictures a second, 500 kb/s, 4 s."""
    return make_clip(width=640, height=360, bit_rate=500_000, gop_ms=gop_ms)

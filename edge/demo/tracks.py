"""Picture and sound as aiortc tracks of encoded packets, paced by the clock.

Theory: capture instants lie on a grid of unix time (picture n at n / frame rate, sound at every
20 ms), so a picture and a beep fall on each full second exactly, and media times of both count from
one full second. A frame is made when its instant comes; a frame that would be late by more than
one interval is left out, never caught up on. Sound is handed over as late after its instant as
pictures lately were, because aiortc's sender reports say when a packet left, not when it was made.
"""

import asyncio
import math
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiortc.mediastreams import MediaStreamTrack

from edge.demo.encoder import VIDEO_CLOCK_HZ, AudioEncoder, EncodedPacket, VideoEncoder
from edge.demo.picture import MovingPicture
from edge.demo.settings import DemoSettings
from edge.demo.tone import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, Tone

KEY_FRAME_PAUSE_MS: Final = 300
"""Key frames asked for are given at most this often."""
CLOCK_STEP_MS_MAX: Final = 50
"""The machine's clock may move so far against the steady one before the show must start anew."""
_DELAY_WEIGHT: Final = 0.05


class Show:
    """What picture and sound have in common: the clock, the encoders' thread, the delay.

    Owns: one thread; `close` ends it.
    """

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="demo-encoder")
        self.offset = time.time() - time.monotonic()
        self.epoch = math.floor(self.now()) - 1
        self.delay_seconds = 0.008
        self.pictures = 0
        self.skipped = 0

    def now(self) -> float:
        """Unix time that never steps."""
        return time.monotonic() + self.offset

    def clock_stepped(self) -> bool:
        """Whether the machine's clock has been set since the show began."""
        moved = time.time() - time.monotonic() - self.offset
        return abs(moved) * 1000 > CLOCK_STEP_MS_MAX

    def close(self) -> None:
        self.thread.shutdown(wait=False, cancel_futures=True)


class Pace:
    """Numbers the instants of a grid, leaving out those that have passed."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._last = -1
        self.skipped = 0

    def next(self, now: float) -> tuple[int, float]:
        """The instant to serve next, and how many seconds from now it is due (never negative).

        Instants count from unix time 0. One that is at most an interval late is still served.
        """
        earliest = math.ceil(now * self._per_second - 1)
        number = max(self._last + 1, earliest)
        if self._last >= 0:
            self.skipped += number - self._last - 1
        self._last = number
        return number, max(number / self._per_second - now, 0.0)


class PictureTrack(MediaStreamTrack):
    """H.264 access units."""

    kind = "video"

    def __init__(self, show: Show) -> None:
        super().__init__()
        settings = show.settings
        self._show = show
        self._rate = settings.frame_rate
        self._pace = Pace(settings.frame_rate)
        self._wanted = False
        self._picture = MovingPicture(width=settings.width, height=settings.height)
        self._encoder = VideoEncoder(
            width=settings.width,
            height=settings.height,
            frame_rate=settings.frame_rate,
            bit_rate=settings.bit_rate,
            gop_ms=settings.gop_ms,
        )
        self._given_at = -math.inf
        # The first picture takes longest: it is made before the show begins, and not shown.
        self._make(show.epoch * settings.frame_rate)
        self._wanted = True

    def want_keyframe(self) -> None:
        """The next picture becomes a key frame, unless one was given a moment ago."""
        self._wanted = True

    async def recv(self) -> EncodedPacket:
        while True:
            number, wait_seconds = self._pace.next(self._show.now())
            await asyncio.sleep(wait_seconds)
            loop = asyncio.get_running_loop()
            packet = await loop.run_in_executor(self._show.thread, self._make, number)
            self._show.skipped = self._pace.skipped
            if packet is not None:
                self._learn_delay(number)
                return packet

    def _make(self, number: int) -> "EncodedPacket | None":
        unix_ms = round(number * 1000 / self._rate)
        since = number - self._show.epoch * self._rate
        image = self._picture.paint(unix_ms=unix_ms, number=since)
        pts = since * VIDEO_CLOCK_HZ // self._rate
        self._show.pictures += 1
        return self._encoder.encode(image, pts=pts, keyframe=self._take_wanted(unix_ms))

    def _take_wanted(self, unix_ms: int) -> bool:
        if not self._wanted or unix_ms - self._given_at < KEY_FRAME_PAUSE_MS:
            return False
        self._wanted, self._given_at = False, unix_ms
        return True

    def _learn_delay(self, number: int) -> None:
        show = self._show
        late = min(show.now() - number / self._rate, 1 / self._rate)
        show.delay_seconds += (late - show.delay_seconds) * _DELAY_WEIGHT


class ToneTrack(MediaStreamTrack):
    """Opus packets of 20 ms."""

    kind = "audio"

    def __init__(self, show: Show) -> None:
        super().__init__()
        self._show = show
        self._pace = Pace(1000 // FRAME_MS)
        self._tone = Tone()
        self._encoder = AudioEncoder(bit_rate=show.settings.audio_bit_rate)

    async def recv(self) -> EncodedPacket:
        while True:
            number, wait_seconds = self._pace.next(self._show.now() - self._show.delay_seconds)
            await asyncio.sleep(wait_seconds)
            samples = self._tone.frame(number * FRAME_MS)
            pts = number * FRAME_SAMPLES - self._show.epoch * SAMPLE_RATE
            packet = self._encoder.encode(samples, pts=pts)
            if packet is not None:
                return packet

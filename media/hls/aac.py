"""Opus to AAC for players that need it: one thread a stream, made only while somebody asks.

Costs about 17 ms of CPU a stream-second, outside the GIL. An encoded frame keeps the time of the
sound in it: the encoder's delay of one frame is taken off again, and the first frame, which is
only priming, is left out. Lost packets are filled with silence so that the clock never slips.
"""

import contextlib
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt

from media.cmaf.audio import AAC_FRAME_SAMPLES, OPUS_CLOCK_HZ
from media.hls.timeline import Sound

Frames = tuple[int, list[tuple[bytes, int]]]
"""The run, and encoded frames with the tick of their first sample."""

_PACKETS_MAX = 256
"""Opus packets that wait for the encoder: five seconds of 20 ms."""
_OUTPUT_MAX = 1_024
_NEAR_SAMPLES = 480
"""Sound this near to where it is expected is put there: 10 ms."""
_SILENCE_SAMPLES_MAX = OPUS_CLOCK_HZ
"""A longer hole starts the encoder anew."""

Samples = npt.NDArray[np.float32]


class AacEncoder:
    """Owns a thread from construction to `stop`. `ready` is called in that thread."""

    def __init__(self, *, bit_rate: int, ready: Callable[[], None] | None = None) -> None:
        self.dropped = 0
        """Opus packets that found the queue full."""
        self.config: bytes = b""
        """The AudioSpecificConfig, once the encoder has opened."""
        self._ready = ready
        self._bit_rate = bit_rate
        self._input: queue.Queue[Sound | None] = queue.Queue(_PACKETS_MAX)
        self._output: deque[Frames] = deque(maxlen=_OUTPUT_MAX)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="aac", daemon=True)
        self._thread.start()

    def put(self, sounds: Sequence[Sound]) -> None:
        """Opus packets to encode; never waits."""
        for sound in sounds:
            try:
                self._input.put_nowait(sound)
            except queue.Full:
                self.dropped += 1

    def take(self) -> list[Frames]:
        """What was encoded since."""
        taken = []
        while self._output:
            taken.append(self._output.popleft())
        return taken

    def idle(self) -> bool:
        """Whether all that was put in has been encoded, and all of that taken."""
        return self._input.unfinished_tasks == 0

    def stop(self, *, wait_seconds: float = 1.0) -> None:
        """Ends the thread."""
        self._stopped.set()
        with contextlib.suppress(queue.Full):
            self._input.put_nowait(None)
        self._thread.join(wait_seconds)

    def _work(self) -> None:
        codec: Transcoder | None = None
        run = 0
        while not self._stopped.is_set():
            sound = self._input.get()
            if sound is None:
                return
            try:
                run, codec = self._one(sound, run, codec)
            except av.error.FFmpegError:
                codec = None
            self._input.task_done()

    def _one(self, sound: Sound, run: int, codec: "Transcoder | None") -> tuple[int, "Transcoder"]:
        if codec is None or sound.run != run or codec.far(sound.at):
            codec, run = Transcoder(bit_rate=self._bit_rate), sound.run
            self.config = codec.config
        frames = codec.push(sound.data, sound.at)
        if frames:
            self._output.append((run, frames))
            if self._ready is not None:
                self._ready()
        return run, codec


class Transcoder:
    """One run of sound. Not for two threads."""

    def __init__(self, *, bit_rate: int) -> None:
        self._decoder = av.AudioCodecContext.create("opus", "r")
        self._decoder.sample_rate, self._decoder.layout = OPUS_CLOCK_HZ, "stereo"
        self._encoder = av.AudioCodecContext.create("aac", "w")
        self._encoder.sample_rate, self._encoder.layout = OPUS_CLOCK_HZ, "stereo"
        self._encoder.format, self._encoder.bit_rate = av.AudioFormat("fltp"), bit_rate
        self._encoder.time_base = Fraction(1, OPUS_CLOCK_HZ)
        self._encoder.open()
        self.config = bytes(self._encoder.extradata or b"")
        self._pcm: Samples = np.zeros((2, 0), np.float32)
        self._start = 0
        """Tick of the first sample that waits."""
        self._next: int | None = None
        """Tick where the next packet is expected."""
        self._primed = False

    def far(self, at: int) -> bool:
        """Whether a packet at `at` lies too far from those before it for this run."""
        return self._next is not None and abs(at - self._next) > _SILENCE_SAMPLES_MAX

    def push(self, packet: bytes, at: int) -> list[tuple[bytes, int]]:
        """One Opus packet whose sound begins at tick `at`; encoded frames with their ticks."""
        pieces = [self._pcm]
        if self._next is None:
            self._start = self._next = at
        lost = at - self._next
        if lost > _NEAR_SAMPLES:
            pieces.append(np.zeros((2, lost), np.float32))
            self._next += lost
        sound = self._decode(packet)
        if lost < -_NEAR_SAMPLES:
            sound = sound[:, -lost:]
        pieces.append(sound)
        self._next += sound.shape[1]
        self._pcm = np.concatenate(pieces, axis=1)
        return self._encode()

    def _decode(self, packet: bytes) -> Samples:
        try:
            frames = self._decoder.decode(av.Packet(packet))
        except av.error.FFmpegError:
            return np.zeros((2, 0), np.float32)
        pcm = [frame.to_ndarray().astype(np.float32, copy=False) for frame in frames]
        return np.concatenate(pcm, axis=1) if pcm else np.zeros((2, 0), np.float32)

    def _encode(self) -> list[tuple[bytes, int]]:
        made = []
        while self._pcm.shape[1] >= AAC_FRAME_SAMPLES:
            now = np.ascontiguousarray(self._pcm[:, :AAC_FRAME_SAMPLES])
            frame = av.AudioFrame.from_ndarray(now, format="fltp", layout="stereo")
            frame.sample_rate, frame.pts = OPUS_CLOCK_HZ, self._start
            frame.time_base = Fraction(1, OPUS_CLOCK_HZ)
            self._start += AAC_FRAME_SAMPLES
            self._pcm = self._pcm[:, AAC_FRAME_SAMPLES:]
            for packet in self._encoder.encode(frame):
                assert packet.pts is not None, "the encoder keeps times"
                if self._primed:
                    made.append((bytes(packet), packet.pts))
                self._primed = True
        return made

"""Encodes the demo's pictures and sound: H.264 baseline and Opus, ready for RTP.

Blocking, one caller at a time: the publisher calls it in a thread of its own. Encoding releases
the GIL.
"""

from fractions import Fraction
from typing import Any, Final, TypeAlias

import av
from av.video.frame import PictureType

from edge.demo.picture import Plane
from edge.demo.tone import SAMPLE_RATE, Samples

EncodedPacket: TypeAlias = "av.Packet[Any]"
"""PyAV's packet is generic for type checkers only."""
VIDEO_CLOCK_HZ: Final = 90_000
_VIDEO_BASE: Final = Fraction(1, VIDEO_CLOCK_HZ)
_AUDIO_BASE: Final = Fraction(1, SAMPLE_RATE)
_BUFFER_MS: Final = 500
"""How far the encoder may run ahead of its bit rate: what a key frame can cost."""


class VideoEncoder:
    """x264, fastest preset, no delay, no B-frames, parameter sets before every key frame."""

    def __init__(
        self, *, width: int, height: int, frame_rate: int, bit_rate: int, gop_ms: int
    ) -> None:
        codec = av.CodecContext.create("libx264", "w")
        codec.width, codec.height = width, height
        codec.pix_fmt = "yuv420p"
        codec.bit_rate = bit_rate
        codec.framerate = Fraction(frame_rate, 1)
        codec.time_base = _VIDEO_BASE
        codec.gop_size = max(frame_rate * gop_ms // 1000, 1)
        codec.thread_count = 1
        codec.options = {
            "preset": "ultrafast",
            "tune": "zerolatency",
            "profile": "baseline",
            "forced-idr": "1",
            "maxrate": str(bit_rate),
            "bufsize": str(bit_rate * _BUFFER_MS // 1000),
            "x264-params": "scenecut=0:sliced-threads=0:repeat-headers=1"
            ":colorprim=bt709:transfer=bt709:colormatrix=bt709",
        }
        self._codec = codec

    def encode(self, image: Plane, *, pts: int, keyframe: bool) -> "EncodedPacket | None":
        """The access unit of one picture, in Annex B. `pts` counts 90 kHz ticks."""
        frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
        frame.pts, frame.time_base = pts, _VIDEO_BASE
        if keyframe:
            frame.pict_type = PictureType.I
        return _single(self._codec.encode(frame), pts, _VIDEO_BASE)


class AudioEncoder:
    """Opus, 20 ms a packet, stereo."""

    def __init__(self, *, bit_rate: int) -> None:
        codec = av.CodecContext.create("libopus", "w")
        codec.sample_rate = SAMPLE_RATE
        codec.layout = "stereo"
        codec.format = "s16"
        codec.bit_rate = bit_rate
        codec.time_base = _AUDIO_BASE
        codec.options = {"application": "audio", "frame_duration": "20"}
        self._codec = codec

    def encode(self, samples: Samples, *, pts: int) -> "EncodedPacket | None":
        """One packet of 960 interleaved stereo samples. `pts` counts samples."""
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate = SAMPLE_RATE
        frame.pts, frame.time_base = pts, _AUDIO_BASE
        return _single(self._codec.encode(frame), pts, _AUDIO_BASE)


def _single(packets: "list[EncodedPacket]", pts: int, base: Fraction) -> "EncodedPacket | None":
    """Both encoders give one packet a frame; its time is what we said, without priming."""
    if not packets:
        return None
    packet = packets[-1]
    packet.pts = packet.dts = pts
    packet.time_base = base
    return packet

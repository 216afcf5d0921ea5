"""A file whose flash and beep are known to be together: it shows what player and probe add."""

import base64
import io
from fractions import Fraction

import av

from edge.demo.picture import MovingPicture
from edge.demo.tone import FRAME_MS, SAMPLE_RATE, Tone

_RATE = 30


def control_clip(seconds: int, *, width: int = 640, height: int = 360) -> str:
    """An MP4 of the demo's picture and tone from time 0, as a data: URL."""
    picture, tone, target = MovingPicture(width=width, height=height), Tone(), io.BytesIO()
    with av.open(target, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=_RATE, options={"preset": "ultrafast"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = container.add_stream("libopus", rate=SAMPLE_RATE, layout="stereo")
        for number in range(seconds * _RATE):
            image = picture.paint(unix_ms=number * 1000 // _RATE, number=number)
            frame = av.VideoFrame.from_ndarray(image, format="yuv420p")
            frame.pts, frame.time_base = number, Fraction(1, _RATE)
            container.mux(video.encode(frame))
        for at_ms in range(0, seconds * 1000, FRAME_MS):
            sound = av.AudioFrame.from_ndarray(tone.frame(at_ms), format="s16", layout="stereo")
            sound.sample_rate = SAMPLE_RATE
            sound.pts, sound.time_base = at_ms * SAMPLE_RATE // 1000, Fraction(1, SAMPLE_RATE)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
    return "data:video/mp4;base64," + base64.b64encode(target.getvalue()).decode()

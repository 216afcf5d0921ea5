"""Flash and beep of the demo on a stream's own timeline, from the segments as they are served."""

import io
import re

import av
import numpy as np

from tests.end_to_end.family import fetch

_DISC = (0.767, 0.453)
"""Where the flash is in the picture, in shares of its width and height."""
_SEGMENTS = 6


def _media(url: str, rendition: str) -> io.BytesIO:
    """The newest whole segments of a rendition behind their init segment."""
    text = fetch(f"{url}/{rendition}/live.m3u8")[1].decode()
    init = re.findall(r'MAP:URI="([^"]+)"', text)[-1]
    names = re.findall(r"^(s\d+\.m4s)$", text, re.MULTILINE)[-_SEGMENTS:]
    return io.BytesIO(b"".join(fetch(f"{url}/{rendition}/{n}")[1] for n in (init, *names)))


def flashes(url: str) -> list[float]:
    """When the disc lights up, in seconds of the timeline."""
    found, before = [], 255.0
    with av.open(_media(url, "v")) as container:
        for frame in container.decode(video=0):
            luma = frame.to_ndarray(format="gray")
            x, y = int(_DISC[0] * luma.shape[1]), int(_DISC[1] * luma.shape[0])
            light = float(luma[y - 6 : y + 6, x - 6 : x + 6].mean())
            if before < 100 <= light:
                found.append(float(frame.pts * frame.time_base))
            before = light
    return found


def beeps(url: str) -> list[float]:
    """When the sound begins, in seconds of the timeline."""
    found, quiet = [], 0.0
    with av.open(_media(url, "a")) as container:
        for frame in container.decode(audio=0):
            sound = np.abs(frame.to_ndarray()[0].astype(float))
            step = 2 if frame.format.is_packed else 1
            loud = np.nonzero(sound > 0.05)[0]
            if len(loud) and quiet > 0.3:
                at = float(frame.pts * frame.time_base)
                found.append(at + float(loud[0]) / step / frame.sample_rate)
            quiet = 0.0 if len(loud) else quiet + frame.samples / frame.sample_rate
    return found

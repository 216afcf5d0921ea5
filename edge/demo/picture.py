"""The demo's moving picture: what to see at one instant, as an I420 array.

It shows the wall clock, the frame's number, a disc that flashes on every full second (together
with the tone of `tone.py`), motion for the eye to judge by, and the strip of `strip.py` for
programs. A picture is a pure function of time and number: nothing here reads a clock or encodes.
"""

import time
from typing import Final

import numpy as np
import numpy.typing as npt

from edge.demo import strip
from edge.demo.font import Font

Plane = npt.NDArray[np.uint8]

FLASH_MS: Final = 100
"""The disc is lit, and the tone sounds, for so long from each full second on."""
BLACK: Final = 16
WHITE: Final = 235
_BARS: Final = (
    (235, 235, 235),
    (229, 205, 60),
    (60, 200, 205),
    (70, 190, 90),
    (200, 80, 190),
    (215, 75, 70),
    (70, 100, 210),
)


class MovingPicture:
    """Paints pictures of one size. **Cost** of a picture at 1280x720: about half a millisecond."""

    def __init__(self, *, width: int, height: int) -> None:
        if width % 160 or height % 4 or width < 320 or height < 180:
            raise ValueError(
                f"{width}x{height}: the width must be a multiple of 160, the height of 4,"
                " and both at least 320x180"
            )
        self.width = width
        self.height = height
        self._cell = width // strip.COLUMNS
        self._large = Font(max(width // 128, 2))
        self._small = Font(max(width // 426, 1))
        self._clock_top = height * 3 // 10
        self._band_top = (height * 5 // 6) & ~3
        self._radius = (height // 15) & ~1
        self._ball = _disc(self._radius)
        self._base = self._backdrop()
        self._band = _waves(width=width, height=height - self._band_top)

    def paint(self, *, unix_ms: int, number: int) -> Plane:
        """The picture of that millisecond: `height * 3 / 2` rows of `width` bytes, I420."""
        image = self._base.copy()
        luma = image[: self.height]
        self._paint_band(image, number)
        self._paint_ball(image, unix_ms)
        if unix_ms % 1000 < FLASH_MS:
            self._paint_flash(luma)
        self._paint_text(luma, unix_ms, number)
        self._paint_strip(luma, unix_ms, number)
        return image

    def _chroma(self, image: Plane) -> tuple[Plane, Plane]:
        quarter = self.height * self.width // 4
        flat = image[self.height :].reshape(-1)
        shape = (self.height // 2, self.width // 2)
        return flat[:quarter].reshape(shape), flat[quarter:].reshape(shape)

    def _backdrop(self) -> Plane:
        height, width = self.height, self.width
        rows = np.linspace(0.0, 1.0, height)[:, None, None]
        columns = np.linspace(-1.0, 1.0, width)[None, :, None]
        colour = np.array([12, 18, 38]) * (1 - rows) + np.array([26, 52, 84]) * rows
        rgb = colour + np.zeros((1, width, 1)) - 8 * columns**2
        grid = height // 9
        rgb[::grid] += 10
        rgb[:, ::grid] += 10
        top, bottom = height * 6 // 10, height * 7 // 10
        for index, bar in enumerate(_BARS):
            left = width // 10 + index * (width * 8 // 10) // len(_BARS)
            right = width // 10 + (index + 1) * (width * 8 // 10) // len(_BARS)
            rgb[top:bottom, left:right] = bar
        panel = self._panel()
        rgb[panel[0] : panel[1], panel[2] : panel[3]] = 14
        rgb[: self._cell * strip.ROWS] = 24
        image = _i420(np.clip(rgb, 0, 255))
        self._small.draw(
            image[:height], "NEXUS COS DEMO", left=panel[2] + self._cell, top=panel[0] + self._cell
        )
        return image

    def _panel(self) -> tuple[int, int, int, int]:
        """Top, bottom, left, right of the dark panel that the clock stands on."""
        wide = self._large.width("00:00:00.000") + 2 * self._cell
        left = (self.width - wide) // 2 & ~3
        top = (self._clock_top - self._small.height - 3 * self._cell) & ~3
        bottom = self._clock_top + self._large.height + self._small.height + 3 * self._cell
        return top, bottom & ~3, left, left + wide & ~3

    def _paint_text(self, luma: Plane, unix_ms: int, number: int) -> None:
        top, _, left, right = self._panel()
        seconds, ms = divmod(unix_ms, 1000)
        clock = time.strftime("%H:%M:%S", time.gmtime(seconds)) + f".{ms:03d}"
        x = left + self._cell
        self._large.draw(luma, clock, left=x, top=self._clock_top)
        frame = f"UTC  FRAME {number}"
        below = self._clock_top + self._large.height + self._cell
        self._small.draw(luma, frame, left=x, top=below)
        size = f"{self.width}X{self.height}"
        margin = right - self._cell - self._small.width(size)
        self._small.draw(luma, size, left=margin, top=top + self._cell)

    def _paint_strip(self, luma: Plane, unix_ms: int, number: int) -> None:
        cell = self._cell
        for index, bits in enumerate(strip.rows(unix_ms=unix_ms, number=number)):
            line = np.repeat(np.where(np.array(bits), WHITE, BLACK).astype(np.uint8), cell)
            luma[index * cell : (index + 1) * cell, : len(line)] = line

    def _paint_flash(self, luma: Plane) -> None:
        """A white disc in the lower right corner of the panel, on the panel's neutral colour."""
        _, bottom, _, right = self._panel()
        radius = self._small.height // 2 + self._cell // 2
        disc = _disc(radius)
        top, left = bottom - self._cell // 2 - 2 * radius, right - self._cell - 2 * radius
        area = luma[top : top + 2 * radius, left : left + 2 * radius]
        np.maximum(area, (disc * WHITE).astype(np.uint8), out=area)

    def _paint_ball(self, image: Plane, unix_ms: int) -> None:
        """A ball on a slow curve between the bars and the moving band."""
        radius = self._radius
        swing = (self.width - 4 * radius) / 2
        angle = unix_ms % 8000 / 8000 * 2 * np.pi
        x = int(self.width / 2 + swing * np.sin(angle)) & ~1
        middle = (self.height * 7 // 10 + self._band_top) // 2
        y = int(middle + radius / 3 * np.sin(angle * 4)) & ~1
        _blend(image[: self.height], self._ball, value=190, left=x - radius, top=y - radius)
        half = self._ball[::2, ::2]
        left, top = (x - radius) // 2, (y - radius) // 2
        for plane, value in zip(self._chroma(image), (76, 178), strict=True):
            _blend(plane, half, value=value, left=left, top=top)

    def _paint_band(self, image: Plane, number: int) -> None:
        shift = number * 2 % self.width
        luma, blue, red = self._band
        image[self._band_top : self.height] = luma[:, shift : shift + self.width]
        half, wide = shift // 2, self.width // 2
        for plane, texture in zip(self._chroma(image), (blue, red), strict=True):
            plane[self._band_top // 2 :] = texture[:, half : half + wide]


def _blend(plane: Plane, mask: npt.NDArray[np.float32], *, value: int, left: int, top: int) -> None:
    area = plane[top : top + mask.shape[0], left : left + mask.shape[1]]
    area[...] = (area + (value - area.astype(np.float32)) * mask).astype(np.uint8)


def _disc(radius: int) -> npt.NDArray[np.float32]:
    axis = np.arange(2 * radius) - radius + 0.5
    distance = np.hypot(axis[:, None], axis[None, :])
    mask: npt.NDArray[np.float32] = np.clip(radius - distance, 0.0, 1.0).astype(np.float32)
    return mask


def _waves(*, width: int, height: int) -> tuple[Plane, Plane, Plane]:
    """A band of coloured waves, twice as wide as the picture and of its period, in I420 planes."""
    x = np.arange(width) / width * 2 * np.pi
    y = np.linspace(0.0, np.pi, height)[:, None]
    crest = np.sin(3 * x + 0.6 * np.sin(y * 2)) * np.sin(y) + 0.5 * np.sin(7 * x - y)
    rgb = np.stack([70 + 40 * crest, 110 + 60 * np.sin(2 * x + crest), 150 - 50 * crest], axis=-1)
    planes = _planes(np.clip(rgb, 0, 255))
    luma, blue, red = (np.concatenate([plane, plane], axis=1) for plane in planes)
    return luma, blue, red


def _planes(rgb: npt.NDArray[np.float64]) -> tuple[Plane, Plane, Plane]:
    """BT.709, limited range; the picture's sides must be even."""
    red, green, blue = (rgb[..., index] / 255 for index in range(3))
    luma = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    blueness = _quarter(128 + 224 * (blue - luma) / 1.8556)
    redness = _quarter(128 + 224 * (red - luma) / 1.5748)
    return (16 + 219 * luma).astype(np.uint8), blueness, redness


def _quarter(plane: npt.NDArray[np.float64]) -> Plane:
    height, width = plane.shape
    means = plane.reshape(height // 2, 2, width // 2, 2).mean(axis=(1, 3))
    quarter: Plane = means.astype(np.uint8)
    return quarter


def _i420(rgb: npt.NDArray[np.float64]) -> Plane:
    width = rgb.shape[1]
    return np.concatenate([plane.reshape(-1, width) for plane in _planes(rgb)])

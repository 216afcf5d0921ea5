"""Settings of the demo publisher."""

from dataclasses import dataclass

from ops.settings import setting


@dataclass(frozen=True, slots=True)
class DemoSettings:
    """The moving test picture that a node can publish to itself, or `nexus demo` to any server."""

    url: str = setting(
        "", "WHIP address to publish to; empty: stream `demo.stream` of the node itself."
    )
    stream: str = setting("demo", "Name of the stream, when `demo.url` is empty.")
    key: str = setting("", "Bearer key sent to the server; empty: none.", secret=True)
    width: int = setting(1280, "Width in pixels, a multiple of 160.", min=320, max=3840)
    height: int = setting(720, "Height in pixels, a multiple of 4.", min=180, max=2160)
    frame_rate: int = setting(30, "Pictures a second.", min=1, max=60)
    bit_rate: int = setting(
        1_500_000, "Video bit rate in bits a second.", min=100_000, max=20_000_000
    )
    audio_bit_rate: int = setting(
        64_000, "Sound bit rate in bits a second.", min=16_000, max=256_000
    )
    gop_ms: int = setting(
        2_000, "Longest time between key frames in milliseconds.", min=100, max=20_000
    )

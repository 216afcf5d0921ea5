"""Opus and AAC out of band: sample entries, and how long an Opus packet lasts."""

import struct

from media.cmaf.boxes import box, full_box
from media.cmaf.header import Track

OPUS_CLOCK_HZ = 48_000
AAC_FRAME_SAMPLES = 1024

_PACKET_SAMPLES_MAX = 5_760
"""120 ms, the longest Opus packet."""
_FRAME_SAMPLES = (
    *(480, 960, 1920, 2880) * 3,
    *(480, 960) * 2,
    *(120, 240, 480, 960) * 4,
)
"""Samples a frame at 48 kHz by the configuration in an Opus packet's first byte (RFC 6716, 3.1)."""
_PACKET_SAMPLES = tuple(
    _FRAME_SAMPLES[first >> 3] * min((first & 3) + 1, 2) for first in range(256)
)
"""Samples a packet that says in its first byte how many frames it has: one or two."""
_AAC_RATES = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050,
    16_000, 12_000, 11_025, 8_000, 7_350,
)  # fmt: skip


def opus_samples(packet: bytes) -> int:
    """How many samples at 48 kHz a packet decodes to; 0 when it is empty or malformed."""
    if not packet:
        return 0
    first = packet[0]
    if first & 3 < 3:
        return _PACKET_SAMPLES[first]
    samples = _FRAME_SAMPLES[first >> 3] * (packet[1] & 63) if len(packet) > 1 else 0
    return samples if samples <= _PACKET_SAMPLES_MAX else 0


def opus_track(channels: int = 2) -> Track:
    """Opus in mapping family 0. A live join has nothing to skip, so pre-skip is 0."""
    config = box(b"dOps", struct.pack(">BBHIhB", 0, channels, 0, OPUS_CLOCK_HZ, 0, 0))
    return Track(OPUS_CLOCK_HZ, _entry(b"Opus", channels, OPUS_CLOCK_HZ, config), "opus", roll=-4)


def aac_track(config: bytes, *, bit_rate: int) -> Track:
    """AAC from its AudioSpecificConfig.

    Raises: ValueError when the configuration is of a kind that is not written here.
    """
    if len(config) < 2:
        raise ValueError("AudioSpecificConfig cut short")
    kind, channels = config[0] >> 3, config[1] >> 3 & 15
    rate_index = (config[0] & 7) << 1 | config[1] >> 7
    if kind == 31 or rate_index >= len(_AAC_RATES) or len(config) > 64:
        raise ValueError("AudioSpecificConfig of an unknown kind")
    rate = _AAC_RATES[rate_index]
    decoder = struct.pack(">BBBHII", 0x40, 0x15, 0, 0, bit_rate, bit_rate) + _descriptor(5, config)
    stream = b"\0\1\0" + _descriptor(4, decoder) + _descriptor(6, b"\2")
    esds = full_box(b"esds", 0, _descriptor(3, stream))
    return Track(rate, _entry(b"mp4a", channels, rate, esds), f"mp4a.40.{kind}")


def _entry(kind: bytes, channels: int, rate_hz: int, config: bytes) -> bytes:
    return box(kind, struct.pack(">6xH8xHHIHH", 1, channels, 16, 0, rate_hz, 0), config)


def _descriptor(tag: int, body: bytes) -> bytes:
    return bytes((tag, 0x80, 0x80, 0x80, len(body))) + body

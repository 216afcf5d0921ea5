"""The demo's picture and sound, before and after the encoders that carry them."""

import av
import numpy as np
import pytest

from edge.demo.encoder import AudioEncoder, VideoEncoder
from edge.demo.picture import FLASH_MS, MovingPicture
from edge.demo.strip import crc8
from edge.demo.tone import FRAME_MS, Tone
from tests.fakes.strip import read_strip

UNIX_MS = 1_790_000_000_000


def luma(frame: av.VideoFrame, *, width: int, height: int) -> np.ndarray:
    return frame.reformat(width=width, height=height, format="gray").to_ndarray()


def test_the_crc_is_the_known_one() -> None:
    assert crc8(b"123456789") == 0xF4


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (960, 540), (640, 360), (1920, 1080)])
def test_the_strip_says_time_and_number(width: int, height: int) -> None:
    picture = MovingPicture(width=width, height=height)
    for turn in range(40):
        time_ms, number = UNIX_MS + turn * 7919, turn * 104_729
        image = picture.paint(unix_ms=time_ms, number=number)
        assert image.shape == (height * 3 // 2, width)
        assert read_strip(image[:height]) == (time_ms, number % 2**24)


def test_a_picture_without_a_strip_is_told_apart() -> None:
    image = MovingPicture(width=640, height=360).paint(unix_ms=UNIX_MS, number=1)
    image[:16] = 128
    assert read_strip(image[:360]) is None


def test_a_wrong_bit_is_noticed() -> None:
    image = MovingPicture(width=640, height=360).paint(unix_ms=UNIX_MS, number=1)
    image[:8, 20 * 8 : 21 * 8] = 251 - image[:8, 20 * 8 : 21 * 8]
    assert read_strip(image[:360]) is None


@pytest.mark.parametrize("bit_rate", [1_500_000, 400_000])
def test_the_strip_survives_encoding_and_scaling(bit_rate: int) -> None:
    picture = MovingPicture(width=1280, height=720)
    encoder = VideoEncoder(width=1280, height=720, frame_rate=30, bit_rate=bit_rate, gop_ms=2_000)
    decoder = av.CodecContext.create("h264", "r")
    seen = 0
    for number in range(75):
        image = picture.paint(unix_ms=UNIX_MS + number * 33, number=number)
        packet = encoder.encode(image, pts=number * 3_000, keyframe=False)
        assert packet is not None
        for frame in decoder.decode(packet):
            assert read_strip(luma(frame, width=1280, height=720)) == (
                UNIX_MS + number * 33,
                number,
            )
            assert read_strip(luma(frame, width=640, height=360)) is not None
            seen += 1
    assert seen == 75


def test_the_disc_is_lit_at_the_start_of_each_second() -> None:
    picture = MovingPicture(width=640, height=360)

    def light(ms: int) -> float:
        image = picture.paint(unix_ms=UNIX_MS + ms, number=0)
        return float(image[155:172, 474:505].mean())

    assert light(0) == light(FLASH_MS - 1) > 60
    assert light(FLASH_MS) == light(999) < 30


def test_key_frames_come_on_time_and_when_asked_with_their_parameter_sets() -> None:
    picture = MovingPicture(width=640, height=360)
    encoder = VideoEncoder(width=640, height=360, frame_rate=30, bit_rate=500_000, gop_ms=1_000)
    keys = []
    for number in range(70):
        image = picture.paint(unix_ms=UNIX_MS + number * 33, number=number)
        packet = encoder.encode(image, pts=number * 3_000, keyframe=number == 45)
        assert packet is not None
        types = [part[0] & 31 for part in bytes(packet).split(b"\x00\x00\x01")[1:]]
        if packet.is_keyframe:
            keys.append(number)
            assert {7, 8, 5} <= set(types)
        else:
            assert set(types) == {1}
    assert keys == [0, 30, 45]


def test_sizes_that_the_strip_cannot_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 160"):
        MovingPicture(width=1270, height=720)


def test_the_tone_sounds_on_the_second() -> None:
    tone = Tone()
    loud = [
        at for at in range(0, 2_000, FRAME_MS) if np.abs(tone.frame(UNIX_MS + at)).max() > 1_000
    ]
    assert loud == [0, 20, 40, 60, 80, 1000, 1020, 1040, 1060, 1080]


def test_sound_is_encoded_in_packets_of_20_ms() -> None:
    tone, encoder = Tone(), AudioEncoder(bit_rate=64_000)
    decoder = av.CodecContext.create("libopus", "r")
    decoder.sample_rate = 48_000
    samples = 0
    for index in range(50):
        packet = encoder.encode(tone.frame(UNIX_MS + index * FRAME_MS), pts=index * 960)
        assert packet is not None
        assert packet.pts == index * 960
        samples += sum(frame.samples for frame in decoder.decode(packet))
    assert samples >= 49 * 960

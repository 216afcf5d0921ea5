"""What is written is read by others: FFmpeg demuxes and decodes every part, chunk and segment."""

import io
from itertools import pairwise
from pathlib import Path

import av
import pytest

from media.cmaf.audio import aac_track, opus_samples
from media.cmaf.chunk import chunk
from media.cmaf.h264 import picture, video_track
from media.cmaf.header import init_segment
from tests.conformance import hls_media
from tests.media.hls.material import pictures, show, sound
from tests.media.hls.stage import Stage


@pytest.mark.parametrize(("name", "frames"), [("v", 60), ("a", 100)])
def test_segment_decodes(tmp_path: Path, name: str, frames: int) -> None:
    stage = Stage(tmp_path)
    stage.play(show(pictures(), sound(), seconds=9))
    for segment in stage.there(name).segments[1:-1]:
        init = stage.fetch(f"{name}/{segment.init}")
        data = stage.fetch(f"{name}/{segment.uri}")
        with av.open(io.BytesIO(init + data)) as container:
            packets = [packet for packet in container.demux() if packet.size]
            steps = {two.dts - one.dts for one, two in pairwise(packets)}
        with av.open(io.BytesIO(init + data)) as container:
            decoded = list(container.decode(container.streams[0]))
        assert len(packets) == len(decoded) == frames
        assert packets[0].is_keyframe
        assert steps == ({3000} if name == "v" else {960})


def test_part_decodes_by_itself(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    stage.play(show(pictures(), seconds=5))
    segment = stage.there("v").segments[0]
    data = stage.fetch(f"v/{segment.init}") + stage.fetch(f"v/{segment.parts[0].uri}")
    with av.open(io.BytesIO(data)) as container:
        video = container.streams.video[0]
        assert (video.codec_context.width, video.codec_context.height) == (320, 180)
        assert len(list(container.decode(video))) == 6


@pytest.mark.parametrize("size", [(320, 180), (1280, 720), (1920, 1080), (426, 240), (130, 98)])
def test_picture_size(size: tuple[int, int]) -> None:
    frame = pictures(width=size[0], height=size[1], gop=2, count=2)[0]
    shown = picture(frame.sps)
    assert (shown.width, shown.height) == size
    assert video_track(frame.sps, frame.pps).codec == f"avc1.{frame.sps[1:4].hex()}"


def test_parameter_sets_that_are_none() -> None:
    sps = pictures()[0].sps
    for length in range(len(sps) - 2):
        try:
            shown = picture(sps[:length])
        except ValueError:
            continue
        assert shown.width > 0, length
    for wrong in (
        b"",
        b"\x67",
        b"\x68\x42\xc0\x1f\xd9",
        bytes([0x67, 0x42, 0xC0, 0x1F]) + bytes(40),
    ):
        with pytest.raises(ValueError, match=r"\w"):
            picture(wrong)
    with pytest.raises(ValueError, match="missing"):
        video_track(sps, ())


@pytest.mark.parametrize(
    ("packet", "samples"),
    [
        (b"\xfc", 960), (b"\xf8a", 960), (b"\xfda", 1920), (b"\xff\x03abc", 2880), (b"\x18a", 2880),
        (b"\x80a", 120), (b"", 0), (b"\xff", 0), (b"\xff\x3f", 0), (b"\x08ab", 960),
    ],
)  # fmt: skip
def test_length_of_an_opus_packet(packet: bytes, samples: int) -> None:
    assert opus_samples(packet) == samples


def test_chunk_of_odd_durations_and_keys() -> None:
    data = [b"a" * 10, b"b" * 20, b"c" * 30]
    made = b"".join(
        chunk(data, [3000, 3100, 2900], sequence=7, decode_time=1 << 40, keys=[False, True, False])
    )
    (found,) = hls_media.chunks(made)
    assert found == hls_media.Chunk(1 << 40, 9000, 3, key=False)
    assert made.endswith(b"".join(data))


def test_init_of_aac() -> None:
    form = aac_track(bytes.fromhex("1190"), bit_rate=128_000)
    assert form.codec == "mp4a.40.2"
    with av.open(io.BytesIO(init_segment(form))) as container:
        audio = container.streams.audio[0]
        assert (audio.codec_context.name, audio.codec_context.sample_rate) == ("aac", 48_000)
    for wrong in (b"", b"\x11", b"\xff\xff", b"\x17\xff"):
        with pytest.raises(ValueError, match="AudioSpecificConfig"):
            aac_track(wrong, bit_rate=1)

"""What the load client is made of: the clip, the counters of a process, the lines of results."""

import json
import os
import time
from pathlib import Path

import av
import pytest

from benchmarks.process import cpu_seconds, find_media, rss_kib
from tests.fakes.clip import large_clip, small_clip
from tests.fakes.strip import read_strip


def test_the_clip_is_what_it_says() -> None:
    clip = large_clip()
    pictures = [unit for unit in clip.units if unit[0]]
    sounds = [unit for unit in clip.units if not unit[0]]
    assert (len(pictures), len(sounds)) == (120, 200)
    assert [at for _, at, key, _ in pictures if key] == [0, 1000, 2000, 3000]
    assert 1_450_000 < clip.video_bits_per_second < 1_700_000
    assert [unit[1] for unit in clip.units] == sorted(unit[1] for unit in clip.units)
    assert max(unit[1] for unit in clip.units) < clip.loop_ms
    assert {unit[3][4] & 31 for unit in pictures if unit[2]} == {7}


def test_the_small_clip_decodes_to_numbered_pictures() -> None:
    decoder = av.CodecContext.create("h264", "r")
    numbers = []
    for is_video, _, _, data in small_clip().units:
        if is_video:
            for frame in decoder.decode(av.Packet(data)):
                strip = read_strip(frame.reformat(format="gray").to_ndarray())
                numbers.append(strip[1] if strip else -1)
    assert numbers == list(range(120))


def test_cpu_time_and_memory_of_a_process_are_found() -> None:
    before = cpu_seconds(os.getpid())
    own = time.process_time()
    while time.process_time() - own < 0.05:
        pass
    assert 0.04 < cpu_seconds(os.getpid()) - before < 2
    assert rss_kib(os.getpid()) > 10_000


def test_the_media_process_is_found_by_its_node(tmp_path: Path) -> None:
    facts = {"children": {"edge-0": 5, "media-0": 7}}
    (tmp_path / "supervisor.json").write_text(json.dumps(facts))
    assert find_media("http://127.0.0.1:8080", tmp_path) == 7
    with pytest.raises(LookupError, match="give --media-pid"):
        find_media("http://127.0.0.1:8080", tmp_path / "nowhere")

"""What the load client is made of: the clip, the counters of a process, the lines of results."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import av
import pytest

from benchmarks.clip import quiet_clip
from benchmarks.generator_process import percentile_ms
from benchmarks.process import cpu_seconds, family, rss_kib
from benchmarks.target import running
from media._native import Swarm
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


def test_the_quiet_clip_is_a_key_picture_and_a_sound_a_second() -> None:
    clip = quiet_clip()
    assert [(video, at) for video, at, _, _ in clip.units] == [
        (video, second * 1000) for second in range(4) for video in (True, False)
    ]
    assert all(key for _, _, key, _ in clip.units)
    assert sum(len(data) for *_, data in clip.units) < 60_000


def test_cpu_time_and_memory_of_a_process_are_found() -> None:
    before = cpu_seconds(os.getpid())
    own = time.process_time()
    while time.process_time() - own < 0.05:
        pass
    assert 0.04 < cpu_seconds(os.getpid()) - before < 2
    assert rss_kib(os.getpid()) > 10_000


def test_a_family_is_the_process_and_its_descendants() -> None:
    shell = ["sh", "-c", "sleep 60 & echo $!; wait"]
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        grandchild = int(process.stdout.readline())
        try:
            assert family(process.pid) == [process.pid, grandchild]
            assert set(family(os.getpid())) >= {os.getpid(), process.pid, grandchild}
        finally:
            os.kill(grandchild, signal.SIGKILL)
    with pytest.raises(LookupError, match="has ended"):
        rss_kib(grandchild)


def test_a_node_is_found_by_its_run_directory(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as demo:
        facts = {"pid": os.getpid(), "children": {"edge-0": 5, "media-0": 7, "demo": demo.pid}}
        (tmp_path / "supervisor.json").write_text(json.dumps(facts))
        node = running("http://127.0.0.1:8080/", key="k", run_dir=tmp_path)
        assert node.media_pids() == [7]
        assert demo.pid in family(os.getpid())
        assert os.getpid() in node.pids()
        assert demo.pid not in node.pids()
        demo.kill()
    assert node.play("s", 1).url == "http://127.0.0.1:8080/whep/s"
    assert node.publish("s").headers == {"Authorization": "Bearer k"}
    with pytest.raises(LookupError, match="give --run-dir"):
        running("http://127.0.0.1:1", run_dir=tmp_path / "nowhere")


def test_latency_percentiles_come_from_the_histogram() -> None:
    counts = [(1_000, 50), (2_000, 49), (30_000, 1)]
    assert [percentile_ms(counts, share) for share in (0.5, 0.99, 1.0)] == [1.0, 2.0, 30.0]
    assert percentile_ms([], 0.5) is None


def test_a_pace_is_at_most_20_ms() -> None:
    swarm = Swarm()
    unit = (True, 0, True, b"\0\0\0\1\x65\x88")
    with pytest.raises(ValueError, match="the pace is longer than 20ms"):
        swarm.offer_publisher(units=[unit], loop_ms=33, pace_ms=21)
    swarm.offer_publisher(units=[unit], loop_ms=33, pace_ms=20)
    swarm.stop()

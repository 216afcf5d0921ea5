"""The media process dies at any moment: what is there stays whole, and the next one goes on."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from media.hls.shelf import Shelf
from media.hls.writer import HlsSettings, StreamWriter
from tests.media.hls import material
from tests.media.hls.material import START_NS, pictures, show, sound
from tests.media.hls.stage import Stage

SECOND = 1_000_000_000
SETTINGS = HlsSettings(window_seconds=24)


def go_on(stage: Stage, *, session: int, start_ns: int, seconds: float = 6) -> None:
    """A new process takes over, and its publisher comes back."""
    stage.writer = StreamWriter(stage.root, "s", stage.settings)
    stage.look()
    stage.play(show(pictures(), sound(), seconds=seconds, session=session, start_ns=start_ns))


def test_new_process_goes_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SETTINGS)
    stage.play(show(pictures(), sound(), seconds=13.3))
    before = stage.there("v")
    for life in range(1, 4):
        stage.writer.close()
        go_on(stage, session=1, start_ns=START_NS + life * 15 * SECOND)
    assert stage.faults == []
    assert stage.media_faults("v") == stage.media_faults("a") == []
    assert stage.in_step() == []
    after = stage.there("v")
    assert after.first > before.first
    assert [segment.breaks for segment in after.segments].count(True) >= 2


def test_new_process_without_a_publisher_ends_the_stream(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SETTINGS)
    stage.play(show(pictures(), sound(), seconds=7))
    stage.writer.close()
    stage.writer = StreamWriter(tmp_path, "s", SETTINGS)
    assert not stage.writer.tick(stage.now + 1)
    assert not stage.writer.tick(stage.now + 60)
    assert stage.writer.tick(stage.now + 62)
    stage.look()
    assert stage.there("v").ended
    assert stage.faults == []


def test_settings_of_a_stream_do_not_change(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SETTINGS)
    stage.play(show(pictures(), sound(), seconds=7))
    stage.writer.close()
    stage.settings = HlsSettings(segment_ms=4000, part_ms=500, window_seconds=120)
    go_on(stage, session=2, start_ns=START_NS + 9 * SECOND)
    assert stage.faults == []


def test_journal_cut_at_every_byte(tmp_path: Path) -> None:
    """Whatever was written of the journal, readers and the next writer make sense of it."""
    stage = Stage(tmp_path / "whole", SETTINGS)
    stage.play(show(pictures(), sound(), seconds=2.7))
    journal = (tmp_path / "whole" / "s" / "journal").read_bytes()
    for length in range(len(journal)):
        folder = tmp_path / str(length) / "s"
        folder.mkdir(parents=True)
        (folder / "journal").write_bytes(journal[:length])
        cut = Stage(folder.parent, SETTINGS, open_writer=False)
        cut.look()
        seconds = 1.7 if length % 150 == 0 else 0.0
        go_on(cut, session=2, start_ns=START_NS + 8 * SECOND, seconds=seconds)
        assert cut.faults == [], length
        assert cut.media("v") is not None or length < 500
        cut.shelf.close()
        cut.writer.close()


CHILD = """
import sys, time
from pathlib import Path
from media.hls.writer import HlsSettings, StreamWriter
from tests.media.hls import material
root, session = Path(sys.argv[1]), int(sys.argv[2])
writer = StreamWriter(root, "s", HlsSettings(window_seconds=300))
frames, packets = material.pictures(), material.sound()
units = material.show(frames, packets, seconds=20, session=session, start_ns=time.time_ns())
print("ready", flush=True)
for now, batch in material.batches(units):
    writer.push(batch, now)
"""


@pytest.mark.parametrize("seed", range(2))
def test_kill_at_random_moments(tmp_path: Path, seed: int) -> None:
    """kill -9 while it writes as fast as it can; a reader looks on all the while."""
    stage = Stage(tmp_path, SETTINGS)
    random = material.Random(seed)
    for session in range(1, 5):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(session)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
        )
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        end = time.monotonic() + random.uniform(0.002, 0.15)
        while time.monotonic() < end:
            stage.look()
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        stage.look()
    serious = [fault for fault in stage.faults if "hinted" not in fault]
    assert serious == []
    assert stage.media_faults("v") == stage.media_faults("a") == []
    assert stage.in_step() == []
    assert any(segment.breaks for segment in stage.there("v").segments)


def test_no_room(tmp_path: Path) -> None:
    """Parts for which there is no room become gaps; nothing raises."""
    stage = Stage(tmp_path, SETTINGS)
    units = show(pictures(), sound(), seconds=20)
    stage.play([unit for unit in units if unit.at_ns < START_NS + 8 * SECOND])
    folder = tmp_path / "s" / "v"
    shutil.rmtree(folder)
    folder.write_bytes(b"in the way")
    middle = range(START_NS + 8 * SECOND, START_NS + 13 * SECOND)
    stage.play([unit for unit in units if unit.at_ns in middle])
    folder.unlink()
    stage.play([unit for unit in units if unit.at_ns >= middle.stop])
    assert stage.writer.info().lost_writes > 10
    assert stage.faults == []
    assert any(segment.gap for segment in stage.there("v").segments)
    assert not stage.there("v").segments[-1].gap
    assert not any(segment.gap for segment in stage.there("a").segments)


def test_bytes_are_bounded(tmp_path: Path) -> None:
    """A stream with more bytes than it may have keeps a shorter window."""
    big = pictures(width=1280, height=720, gop=30, count=30)
    loud = tuple(frame._replace(data=frame.data + bytes(60_000)) for frame in big)
    stage = Stage(tmp_path, HlsSettings(stream_bytes_max=8 << 20))
    stage.play(show(loud, sound(), seconds=24))
    assert stage.faults == []
    video = stage.there("v")
    assert 2 <= len(video.segments) < 8
    stored = sum(path.stat().st_size for path in tmp_path.rglob("*.m4s"))
    assert stored < 14 << 20
    for segment in video.segments[:-1]:
        stage.fetch(f"v/{segment.uri}")


def test_files_are_taken_away(tmp_path: Path) -> None:
    stage = Stage(tmp_path, SETTINGS)
    stage.play(show(pictures(), sound(), seconds=60))
    listed = stage.there("v")
    numbers = sorted(int(path.stem[1:]) for path in (tmp_path / "s" / "v").glob("s*.m4s"))
    assert len(numbers) <= 24 // 2 + 6
    assert numbers[0] <= listed.first
    assert (tmp_path / "s" / "journal").stat().st_size < 200_000


def test_journal_is_written_anew_unnoticed(tmp_path: Path) -> None:
    """A long stream: its journal is compacted several times; readers, old and new, agree."""
    stage = Stage(tmp_path, HlsSettings(window_seconds=20, part_ms=100))
    rebuilt = set()
    units = show(pictures(), sound(), seconds=120)
    for now, batch in material.batches(units, 1000):
        stage.writer.push(batch, now)
        stage.look()
        rebuilt.add((tmp_path / "s" / "journal").stat().st_ino)
        fresh = Shelf(tmp_path)
        answer = fresh.answer("s", path="v/live.m3u8", query="", now=0.0)
        if hasattr(answer, "body"):
            assert bytes(answer.body).decode() == stage.text("v/live.m3u8")
        fresh.close()
    assert len(rebuilt) >= 2
    assert [fault for fault in stage.faults if "hinted" not in fault] == []

"""What a stream's playlists and bytes are, whatever its publisher does."""

from pathlib import Path

import pytest

from media.hls.units import Unit
from media.hls.writer import HlsSettings
from tests.media.hls import material
from tests.media.hls.material import START_NS, pictures, show, sound
from tests.media.hls.stage import Stage

SECOND = 1_000_000_000


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


def sound_playlists(stage: Stage, *names: str) -> None:
    """Asserts that nothing was found wrong."""
    assert stage.faults[:5] == []
    for name in names:
        assert stage.media_faults(name) == []


def test_steady_stream(stage: Stage) -> None:
    stage.play(show(pictures(), sound(), seconds=40))
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []
    video, audio = stage.there("v"), stage.there("a")
    assert {segment.duration for segment in video.segments if segment.whole} == {2.0}
    assert {part.duration for segment in audio.segments for part in segment.parts} == {0.2}
    assert 24 <= sum(segment.duration for segment in video.segments) < 28
    assert video.segments[0].date == pytest.approx(START_NS / 1e9 + 14, abs=2.1)
    assert video.independent


def test_parts_leave_at_once(stage: Stage) -> None:
    """The newest part is never more than a part and a frame behind what came in."""
    units = show(pictures(), sound(), seconds=30)
    worst = 0.0
    for now, batch in material.batches(units):
        stage.writer.push(batch, now)
        stage.shelf.refresh("s")
        media = stage.media("v")
        if media is not None and now > START_NS / 1e9 + 2:
            newest = media.segments[-1]
            parts = sum(part.duration for part in newest.parts)
            worst = max(worst, now - newest.date - parts)
    assert worst <= 0.2 + 0.034


@pytest.mark.parametrize("fps", [15, 24, 25, 50, 60])
def test_frame_rates(stage: Stage, fps: int) -> None:
    frames = pictures(fps=fps, gop=fps * 2, count=fps * 2)
    stage.play(show(frames, sound(), seconds=20, fps=fps))
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []
    assert f"FRAME-RATE={fps:.3f}" in stage.text("index.m3u8")


@pytest.mark.parametrize("seed", range(4))
def test_jitter_of_the_clock(stage: Stage, seed: int) -> None:
    stage.play(show(pictures(), sound(), seconds=40, warp=material.jitter(seed, 10)))
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []
    durations = {part.duration for s in stage.there("a").segments for part in s.parts}
    assert max(durations) - min(durations) < 0.005


def test_drift_of_the_clock(stage: Stage) -> None:
    """The stream's clock runs 300 ppm faster than the timestamps: dates keep to it."""

    def fast(at_ns: int) -> int:
        return at_ns + (at_ns - START_NS) * 3 // 10_000

    stage.play(show(pictures(), sound(), seconds=120, warp=fast))
    sound_playlists(stage, "v", "a")
    for name in "va":
        newest = stage.there(name).segments[-1]
        behind = stage.now - newest.date - sum(part.duration for part in newest.parts)
        assert -0.02 < behind < 0.25, name


def test_key_frames_come_when_asked(stage: Stage) -> None:
    """A browser: key frames only on request, which takes 80 ms."""
    first, *rest = pictures(gop=120, count=120)
    plain = show([first, *rest], sound(), seconds=60)
    asked_at = -1.0
    asks = 0
    for now, batch in material.batches(plain):
        dated = [_keyed(unit, key=unit.at_ns == START_NS, first=first) for unit in batch]
        if asked_at >= 0 and now >= asked_at + 0.08 and any(unit.video for unit in batch):
            dated = [_keyed(unit, key=True, first=first) for unit in batch]
            asked_at = -1.0
        stage.now = now
        if stage.writer.push(dated, now):
            stage.look()
        if stage.writer.wants_keyframe(now):
            asked_at, asks = now, asks + 1
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []
    assert 26 <= asks <= 30
    video = stage.there("v")
    assert video.independent
    assert all(2.0 <= s.duration < 2.2 for s in video.segments if s.whole)


def _keyed(unit: Unit, *, key: bool, first: material.Frame) -> Unit:
    if not unit.video:
        return unit
    sets = (first.sps, first.pps) if key else (b"", ())
    return unit._replace(keyframe=key, sps=sets[0], pps=sets[1])


def test_publisher_that_ignores_requests(stage: Stage) -> None:
    """Key frames every 4 s: segments are cut all the same, and this is not hidden."""
    stage.play(show(pictures(gop=120, count=120), sound(), seconds=40))
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []
    video = stage.there("v")
    assert not video.independent
    assert all(segment.duration < 2.5 for segment in video.segments)
    newest = [segment for segment in video.segments if segment.parts]
    starts = [segment for segment in newest if segment.parts[0].independent]
    assert len(starts) * 2 in (len(newest) - 1, len(newest), len(newest) + 1)


def test_audio_only(stage: Stage) -> None:
    stage.play(show((), sound(), seconds=30))
    sound_playlists(stage, "a")
    assert stage.media("v") is None
    assert {segment.duration for segment in stage.there("a").segments if segment.whole} == {2.0}
    assert "AUDIO=" not in stage.text("index.m3u8")


def test_video_only(stage: Stage) -> None:
    stage.play(show(pictures(), seconds=30))
    sound_playlists(stage, "v")
    assert stage.media("a") is None
    index = stage.text("index.m3u8")
    assert index.count("EXT-X-STREAM-INF") == 1
    assert 'CODECS="avc1.42c00d"' in index or 'CODECS="avc1.' in index
    assert "EXT-X-MEDIA" not in index


def test_restarts_and_a_change_of_size(tmp_path: Path) -> None:
    """60 s with two publisher restarts and a change of picture size."""
    stage = Stage(tmp_path, HlsSettings())
    wide = pictures(width=480, height=270)
    stage.play(show(pictures(), sound(), seconds=17.3))
    stage.writer.publisher_lost(stage.now)
    stage.look()
    stage.play(show(pictures(), sound(), seconds=15, session=2, start_ns=START_NS + 22 * SECOND))
    start = START_NS + 38 * SECOND
    changing = show(pictures(), sound(), seconds=12, session=3, start_ns=start)
    before = [unit for unit in changing if not unit.video or unit.at_ns < start + 5 * SECOND]
    after = show(wide, seconds=7, session=3, start_ns=start + 5 * SECOND)
    later = [unit._replace(timestamp=unit.timestamp + 5 * 90_000) for unit in after]
    stage.play(sorted([*before, *later], key=lambda unit: unit.at_ns))
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []
    video = stage.there("v")
    assert [segment.breaks for segment in video.segments].count(True) == 3
    assert len({segment.init for segment in video.segments}) == 2
    assert "RESOLUTION=480x270" in stage.text("index.m3u8")


def test_clock_jumps(stage: Stage) -> None:
    def jump(at_ns: int) -> int:
        past = at_ns - START_NS
        return (
            at_ns
            + (3 * SECOND if past > 10 * SECOND else 0)
            - (5 * SECOND if past > 20 * SECOND else 0)
        )

    stage.play(show(pictures(gop=30, count=120), sound(), seconds=30, warp=jump))
    assert stage.faults[:5] == []
    video = stage.there("v")
    assert [segment.breaks for segment in video.segments].count(True) == 2
    assert stage.media_faults("v") == []
    newest = video.segments[-1]
    assert newest.date == pytest.approx(START_NS / 1e9 + 28, abs=2.5)


def test_video_stands_still(stage: Stage) -> None:
    """No frame for 7 s: audio goes on, video's playlist with it, in gaps."""
    units = show(pictures(gop=30, count=60), sound(), seconds=30)
    hole = range(START_NS + 10 * SECOND + SECOND // 3, START_NS + 17 * SECOND)
    stage.play([unit for unit in units if not (unit.video and unit.at_ns in hole)])
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []
    video = stage.there("v")
    assert any(segment.gap for segment in video.segments)
    assert not any(segment.breaks for segment in video.segments)
    assert not any(segment.gap for segment in stage.there("a").segments)


def test_audio_stands_still(stage: Stage) -> None:
    units = show(pictures(), sound(), seconds=30)
    hole = range(START_NS + 10 * SECOND, START_NS + 17 * SECOND)
    stage.play([unit for unit in units if unit.video or unit.at_ns not in hole])
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []
    assert any(segment.gap for segment in stage.there("a").segments)


def test_video_joins_audio(stage: Stage) -> None:
    units = show(pictures(gop=30, count=60), sound(), seconds=30)
    stage.play([unit for unit in units if not unit.video or unit.at_ns > START_NS + 9 * SECOND])
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []


def test_audio_joins_video(stage: Stage) -> None:
    units = show(pictures(), sound(), seconds=30)
    stage.play([unit for unit in units if unit.video or unit.at_ns > START_NS + 9 * SECOND])
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []


def test_lost_frames_and_packets(stage: Stage) -> None:
    units = show(pictures(), sound(), seconds=40)
    random = material.Random(5)
    stage.play([unit for unit in units if unit.keyframe or random.random() > 0.08])
    stage.faults = [fault for fault in stage.faults if "under 85 %" not in fault]
    sound_playlists(stage, "v", "a")
    assert stage.in_step() == []


def test_end(stage: Stage) -> None:
    stage.play(show(pictures(), sound(), seconds=5))
    stage.writer.publisher_lost(stage.now)
    assert not stage.writer.tick(stage.now + 59)
    assert stage.writer.tick(stage.now + 61)
    stage.look()
    assert stage.faults == []
    assert stage.there("v").ended
    assert stage.there("a").ended
    assert stage.writer.over
    last = stage.there("v").segments[-1].msn
    stage.play(show(pictures(), sound(), seconds=5, session=2, start_ns=START_NS + 90 * SECOND))
    again = stage.there("v")
    assert not again.ended
    assert again.first > last


def test_late_and_early_media_order(stage: Stage) -> None:
    """Video arrives 150 ms after audio of the same time: segments still match."""
    units = show(pictures(), sound(), seconds=30)
    order = sorted(units, key=lambda unit: unit.at_ns + (150_000_000 if unit.video else 0))
    stage.play(order)
    sound_playlists(stage, "v", "a")
    assert stage.in_step(apart_seconds=0.05) == []

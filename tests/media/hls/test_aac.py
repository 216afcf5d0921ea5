"""AAC beside Opus: on demand, in its own thread, in step with the rest."""

import io
import time
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

from media.cmaf.audio import aac_track
from media.cmaf.chunk import chunk
from media.cmaf.header import init_segment
from media.hls.aac import Transcoder
from media.hls.writer import HlsSettings
from tests.media.hls import material
from tests.media.hls.material import START_NS, pictures, show, sound
from tests.media.hls.stage import Stage


def until(there: Callable[[], bool], *, seconds: float = 10.0) -> None:
    """Waits for the encoder's thread."""
    end = time.monotonic() + seconds
    while not there():
        assert time.monotonic() < end, "it did not come in time"
        time.sleep(0.001)


def play_with_aac(stage: Stage, seconds: float, *, session: int, start_ns: int) -> None:
    """Plays no faster than the encoder works."""
    units = show(pictures(), sound(), seconds=seconds, session=session, start_ns=start_ns)
    for now, batch in material.batches(units, 100):
        stage.now = now
        stage.writer.demand_aac(now)
        if stage.writer.push(batch, now):
            stage.look()
        until(stage.writer.aac_idle)


def test_aac_in_step(tmp_path: Path) -> None:
    stage = Stage(tmp_path, HlsSettings(window_seconds=60))
    play_with_aac(stage, 9.1, session=1, start_ns=START_NS)
    play_with_aac(stage, 7.3, session=2, start_ns=START_NS + 12_000_000_000)
    stage.writer.tick(stage.now)
    stage.look()
    assert stage.faults == []
    assert stage.media_faults("c") == []
    opus = {segment.msn: segment for segment in stage.there("a").segments}
    for segment in stage.there("c").segments[1:]:
        assert abs(segment.date - opus[segment.msn].date) < 0.05
        assert segment.discontinuity == opus[segment.msn].discontinuity
    parts = [part.duration for s in stage.there("c").segments[1:-1] for part in s.parts[:-1]]
    assert set(parts) == {0.192}
    stage.writer.close()


def test_aac_stops_when_nobody_asks(tmp_path: Path) -> None:
    stage = Stage(tmp_path, HlsSettings(window_seconds=60, aac_idle_seconds=5))
    play_with_aac(stage, 3, session=1, start_ns=START_NS)
    assert stage.writer.info().aac
    last = stage.there("c").next[0]
    rest = [unit for unit in show(pictures(), sound(), seconds=11) if unit.at_ns > stage.now * 1e9]
    stage.play(rest)
    assert not stage.writer.info().aac
    assert stage.media("c") is None
    assert not (tmp_path / "s" / "c").exists()
    again = show(pictures(), sound(), seconds=16)
    for now, batch in material.batches([u for u in again if u.at_ns > stage.now * 1e9], 100):
        stage.now = now
        stage.writer.demand_aac(now)
        if stage.writer.push(batch, now):
            stage.look()
        until(stage.writer.aac_idle)
    assert stage.there("c").first > last
    assert stage.faults == []
    stage.writer.close()


def test_sound_keeps_its_time() -> None:
    """The AAC, decoded where its times put it, is the Opus, decoded: lag 0, nothing clicks."""
    packets = sound(seconds=4)
    coder, frames = Transcoder(bit_rate=128_000), []
    for index, packet in enumerate(packets):
        frames += coder.push(packet, 48_000 + index * 960)
    assert [at for _, at in frames] == [48_000 + index * 1024 for index in range(len(frames))]
    form = aac_track(coder.config, bit_rate=128_000)
    data = [frame for frame, _ in frames]
    file = init_segment(form) + b"".join(
        chunk(data, [1024] * len(data), sequence=1, decode_time=frames[0][1])
    )
    with av.open(io.BytesIO(file)) as container:
        decoded = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    heard = np.concatenate(decoded)
    decoder = av.AudioCodecContext.create("opus", "r")
    decoder.sample_rate, decoder.layout = 48_000, "stereo"
    pcm = [f.to_ndarray()[0] for packet in packets for f in decoder.decode(av.Packet(packet))]
    meant = np.concatenate(pcm)
    span = slice(24_000, 144_000)
    errors = {
        lag: float(np.mean((heard[span.start + lag : span.stop + lag] - meant[span]) ** 2))
        for lag in range(-54, 55)
    }
    assert min(errors, key=lambda lag: errors[lag]) == 0
    assert errors[0] < 1e-3 * float(np.mean(meant[span] ** 2))


def test_lost_packets_do_not_shift_it() -> None:
    packets = sound(seconds=2)
    coder, frames = Transcoder(bit_rate=128_000), []
    for index, packet in enumerate(packets):
        if index not in (20, 21, 22, 57):
            frames += coder.push(packet, index * 960)
    assert [at for _, at in frames] == [index * 1024 for index in range(len(frames))]
    assert len(frames) >= 90

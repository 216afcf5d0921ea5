"""What media tells of streams: monotone counts, both media, and nothing of streams that went."""

from collections.abc import Iterator

import pytest

from media.gauges import Gauges, StreamReport, joined
from media.messages import StreamChanged
from ops import metric_tables, metrics


@pytest.fixture(autouse=True)
def empty() -> Iterator[None]:
    yield
    for table in metric_tables.declared():
        table.replace({})


def report(stream: str = "show", *, restarts: int = 0, **native: int) -> StreamReport:
    state = StreamChanged(
        stream=stream,
        state="live",
        since_unix=0.0,
        publisher="p",
        video="H264",
        audio="opus",
        width=1280,
        height=720,
        hls=True,
        hls_reason="",
        viewers_webrtc=3,
        viewers_hls=4,
        bits_per_second=1,
        keyframe_age_ms=500,
        lost=0,
    )
    return StreamReport(state, native, restarts=restarts, hls_age_seconds=0.25)


def figures() -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if line[0] != "#")
    return {name: float(value) for name, _, value in pairs}


def test_a_stream_is_told_of_and_forgotten() -> None:
    gauges = Gauges()
    row = report(bytes_in=1_000, video_bytes_in=900, frames_in=30, rtt_ms=20, restarts=2)
    gauges.show(workers=[], streams=[row])
    found = figures()
    assert found['nexus_stream_received_bytes_total{medium="video",stream="show"}'] == 900
    assert found['nexus_stream_received_bytes_total{medium="audio",stream="show"}'] == 100
    assert found['nexus_stream_received_frames_total{stream="show"}'] == 30
    assert found['nexus_stream_publisher_rtt_seconds{stream="show"}'] == 0.02
    assert found['nexus_stream_publisher_restarts_total{stream="show"}'] == 2
    assert found['nexus_stream_viewers{protocol="webrtc",stream="show"}'] == 3
    assert found['nexus_stream_viewers{protocol="hls",stream="show"}'] == 4
    assert found['nexus_stream_keyframe_age_seconds{stream="show"}'] == 0.5
    assert found['nexus_stream_hls_age_seconds{stream="show"}'] == 0.25
    gauges.show(workers=[], streams=[])
    assert not [name for name in figures() if name.startswith("nexus_stream_")]


def test_an_unknown_round_trip_is_not_told() -> None:
    Gauges().show(workers=[], streams=[report(rtt_ms=-1)])
    assert "nexus_stream_publisher_rtt_seconds" not in metrics.render().decode()


def test_losses_count_once_they_are_settled_and_never_shrink() -> None:
    """A packet that is recovered a second later never was lost; Prometheus would take a count that
    shrinks for one that began anew."""
    gauges = Gauges()
    lost = 'nexus_stream_lost_packets_total{stream="show"}'
    told = []
    for packets, missing in ((10, 0), (20, 7), (30, 7), (40, 5), (50, 5), (60, 4), (70, 9)):
        gauges.show(workers=[], streams=[report(packets_in=packets, lost_total=missing)])
        told.append(figures()[lost])
    assert told == [0, 0, 0, 5, 5, 5, 5]
    for _ in range(3):
        gauges.show(workers=[], streams=[report(packets_in=5, lost_total=1)])
    assert figures()[lost] == 1, "the plane began anew"


def test_the_planes_counts_go_on_when_they_begin_anew() -> None:
    gauges = Gauges()
    before = figures().get("nexus_webrtc_sent_bytes_total", 0.0)
    for count in (100, 150, 30, 40):
        gauges.show(workers=[{"bytes_out": count}], streams=[])
    assert figures()["nexus_webrtc_sent_bytes_total"] - before == 160


def test_joins_are_a_histogram() -> None:
    name = 'nexus_join_seconds_bucket{le="0.05",protocol="whep",until="connected"}'
    before = figures().get(name, 0.0)
    joined("whep", "connected", 0.04)
    joined("whep", "connected", 0.06)
    assert figures()[name] - before == 1

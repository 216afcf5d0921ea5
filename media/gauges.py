"""The media process's metrics: what the native plane and the streams count, once a second.

Native counters only grow within a process; the differences are added here, so that they go on
growing when the process is replaced.
"""

from collections.abc import Sequence
from typing import Final

from media.messages import StreamChanged
from ops import metrics

_COUNTED: Final = {
    "packets_in": "Packets received over UDP.",
    "bytes_in": "Bytes received over UDP.",
    "packets_out": "Packets sent over UDP.",
    "bytes_out": "Bytes sent over UDP.",
    "drops_out": "Packets that could not be sent.",
    "dropped_in": "Packets received and thrown away: malformed, unknown or forged.",
    "rtx_out": "Packets sent again on a viewer's request.",
    "nacks_out": "Requests to publishers to send packets again.",
    "plis_out": "Requests to publishers for a key frame.",
    "handshakes": "Handshakes completed.",
    "panics": "Sessions ended by a bug in the native plane.",
    "packets_limited": "Packets of publishers that sent more than they may.",
    "feedback_limited": "RTCP packets of peers that sent more than they may.",
    "resends_limited": "Packets not sent again: the viewer asked for more than it may.",
    "keyframes_limited": "Key frames not asked for: the viewer wanted more than it may.",
    "peers_limited": "ICE checks unanswered: the address has enough sessions, or is another's.",
    "early_dropped": "ICE checks of unknown sessions thrown away.",
}
_counters: Final = {
    name: metrics.counter(f"nexus_webrtc_{name}", text) for name, text in _COUNTED.items()
}
_cpu = metrics.counter("nexus_webrtc_worker_cpu_seconds", "CPU time of the packet workers.")
_sessions = metrics.gauge("nexus_webrtc_sessions", "Publishers and viewers connected.")
_streams = metrics.gauge("nexus_streams", "Streams by state.", ["state"])
_bits = metrics.gauge("nexus_stream_bits_per_second", "What the publisher sends.", ["stream"])
_lost = metrics.gauge("nexus_stream_lost_packets", "Lost for good on the way in.", ["stream"])
_age = metrics.gauge("nexus_stream_keyframe_age_seconds", "Since the last one.", ["stream"])
_viewers = metrics.gauge("nexus_stream_viewers", "Viewers.", ["stream", "protocol"])


class Gauges:
    """Remembers what was counted last."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._named: set[str] = set()

    def show(self, *, workers: Sequence[dict[str, int]], streams: Sequence[StreamChanged]) -> None:
        """Takes over the counts of now."""
        for name, counter in _counters.items():
            counter.inc(self._grown(name, sum(row.get(name, 0) for row in workers)))
        _cpu.inc(self._grown("cpu_ns", sum(row.get("cpu_ns", 0) for row in workers)) / 1e9)
        _sessions.set(sum(row.get("sessions", 0) for row in workers))
        for state in ("live", "waiting"):
            _streams.set(sum(row.state == state for row in streams), labels=(state,))
        for row in streams:
            _show_stream(row)
        names = {row.stream for row in streams}
        for gone in self._named - names:
            _forget_stream(gone)
        self._named = names

    def _grown(self, name: str, count: int) -> int:
        before = self._before.get(name, 0)
        self._before[name] = count
        return max(count - before, 0)


def _show_stream(row: StreamChanged) -> None:
    label = (row.stream,)
    _bits.set(row.bits_per_second, labels=label)
    _lost.set(row.lost, labels=label)
    if row.keyframe_age_ms >= 0:
        _age.set(row.keyframe_age_ms / 1000, labels=label)
    _viewers.set(row.viewers_webrtc, labels=(row.stream, "webrtc"))
    _viewers.set(row.viewers_hls, labels=(row.stream, "hls"))


def _forget_stream(name: str) -> None:
    for gauge in (_bits, _lost, _age):
        gauge.forget((name,))
    for protocol in ("webrtc", "hls"):
        _viewers.forget((name, protocol))

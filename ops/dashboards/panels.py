"""The dashboard's rows of panels and their queries; how Grafana writes them is `grafana.py`.

A query may use `$instance` and `$stream` (regular expressions) and `$__rate_interval`, which
Grafana fills in. Bytes become bits where broadcasters think in bits.
"""

from dataclasses import dataclass
from typing import Final, Literal

Unit = Literal["bps", "Bps", "s", "short", "percentunit", "reqps", "pps", "fps", "bytes", "cps"]


@dataclass(frozen=True, slots=True)
class Query:
    """PromQL, and what its lines are called (`{{label}}` for a label's value)."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """One graph."""

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    about: str = ""


@dataclass(frozen=True, slots=True)
class Row:
    """Panels under one heading."""

    title: str
    panels: tuple[Panel, ...]


_HERE: Final = 'instance=~"$instance"'
_STREAM: Final = f'{_HERE},stream=~"$stream"'
_EACH: Final = "instance, stream"


def _rate(name: str, labels: str = _STREAM, by: str = _EACH) -> str:
    return f"sum by ({by}) (rate({name}{{{labels}}}[$__rate_interval]))"


def _quantile(
    share: float, name: str, labels: str, by: str, window: str = "$__rate_interval"
) -> str:
    buckets = f"rate({name}_bucket{{{labels}}}[{window}])"
    return f"histogram_quantile({share}, sum by (le, {by}) ({buckets}))"


_JOIN_WINDOW: Final = "5m"
"""Joins may be rare: without one in the window there is nothing to show."""
_LOSS: Final = (
    f"{_rate('nexus_stream_lost_packets_total')} / ("
    f"{_rate('nexus_stream_received_packets_total')} + {_rate('nexus_stream_lost_packets_total')})"
)
_FAILED: Final = (
    _rate("nexus_http_requests_total", f'{_HERE},status=~"5.."', "instance")
    + " or 0 * "
    + _rate("nexus_http_requests_total", _HERE, "instance")
)

_STREAMS: Final = Row(
    "Streams",
    (
        Panel(
            "Streams by state",
            "short",
            (Query(f"sum by (instance, state) (nexus_streams{{{_HERE}}})", "{{state}}"),),
        ),
        Panel(
            "Viewers",
            "short",
            (
                Query(
                    f"sum by (instance, stream, protocol) (nexus_stream_viewers{{{_STREAM}}})",
                    "{{stream}} {{protocol}}",
                ),
            ),
            "webrtc: connected sessions; hls: an estimate by the pace of requests.",
        ),
        Panel(
            "Bit rate in",
            "bps",
            (
                Query(
                    "8 * " + _rate("nexus_stream_received_bytes_total", by=f"{_EACH}, medium"),
                    "{{stream}} {{medium}}",
                ),
            ),
        ),
        Panel(
            "Bit rate out to WebRTC viewers",
            "bps",
            (
                Query(
                    "8 * " + _rate("nexus_stream_sent_bytes_total", by=f"{_EACH}, medium"),
                    "{{stream}} {{medium}}",
                ),
            ),
        ),
        Panel(
            "Pictures a second",
            "fps",
            (Query(_rate("nexus_stream_received_frames_total"), "{{stream}}"),),
        ),
        Panel(
            "Age of the key frame",
            "s",
            (Query(f"nexus_stream_keyframe_age_seconds{{{_STREAM}}}", "{{stream}}"),),
            "A joining viewer starts from it; HLS ends its segments by it.",
        ),
        Panel(
            "Lost on the way in",
            "percentunit",
            (Query(_LOSS, "{{stream}}"),),
            "Packets that never came, recovered ones left out.",
        ),
        Panel(
            "Repair on the way in",
            "pps",
            (
                Query(_rate("nexus_stream_requested_packets_total"), "{{stream}} asked again"),
                Query(_rate("nexus_stream_recovered_packets_total"), "{{stream}} recovered"),
            ),
        ),
        Panel(
            "Repair on the way out",
            "pps",
            (
                Query(_rate("nexus_stream_viewer_nacks_total"), "{{stream}} NACK"),
                Query(_rate("nexus_stream_resent_packets_total"), "{{stream}} sent again"),
            ),
        ),
        Panel(
            "Key frames asked for",
            "cps",
            (
                Query(_rate("nexus_stream_viewer_keyframe_requests_total"), "{{stream}} viewers"),
                Query(_rate("nexus_stream_keyframe_requests_total"), "{{stream}} to publisher"),
            ),
        ),
        Panel(
            "Publisher restarts in an hour",
            "short",
            (
                Query(
                    f"sum by ({_EACH}) (increase("
                    f"nexus_stream_publisher_restarts_total{{{_STREAM}}}[1h]))",
                    "{{stream}}",
                ),
            ),
        ),
        Panel(
            "Round trip to the publisher",
            "s",
            (Query(f"nexus_stream_publisher_rtt_seconds{{{_STREAM}}}", "{{stream}}"),),
        ),
    ),
)

_JOINS: Final = Row(
    "Joins",
    tuple(
        Panel(
            f"{what}: POST to {name}",
            "s",
            tuple(
                Query(
                    _quantile(
                        share,
                        "nexus_join_seconds",
                        f'{_HERE},protocol="{protocol}",until="{until}"',
                        "instance",
                        _JOIN_WINDOW,
                    ),
                    f"p{share * 100:.0f}",
                )
                for share in (0.5, 0.95)
            ),
        )
        for protocol, what in (("whep", "Viewers"), ("whip", "Publishers"))
        for until, name in (("connected", "connected"), ("media", "first packet"))
    ),
)

_HLS: Final = Row(
    "HLS",
    (
        Panel(
            "Parts published after their last sample",
            "s",
            tuple(
                Query(
                    _quantile(share, "nexus_hls_part_late_seconds", _HERE, "instance, rendition"),
                    f"{{{{rendition}}}} p{share * 100:.0f}",
                )
                for share in (0.5, 0.95)
            ),
        ),
        Panel(
            "Age of the playlists",
            "s",
            (Query(f"nexus_stream_hls_age_seconds{{{_STREAM}}}", "{{stream}}"),),
        ),
        Panel(
            "Requests that wait",
            "short",
            (Query(f"sum by (instance) (nexus_hls_waiting_requests{{{_HERE}}})", "{{instance}}"),),
        ),
        Panel(
            "Answers by status",
            "reqps",
            (Query(_rate("nexus_hls_requests_total", _HERE, "instance, status"), "{{status}}"),),
        ),
    ),
)

_HTTP: Final = Row(
    "Signalling, API and pages",
    (
        Panel(
            "Requests by class",
            "reqps",
            (Query(_rate("nexus_http_requests_total", _HERE, "instance, class"), "{{class}}"),),
        ),
        Panel("Failed requests (5xx)", "reqps", (Query(_FAILED, "{{instance}}"),)),
        Panel(
            "Time of a request, p95",
            "s",
            (
                Query(
                    _quantile(0.95, "nexus_http_request_seconds", _HERE, "instance, class"),
                    "{{class}}",
                ),
            ),
        ),
        Panel(
            "Open connections",
            "short",
            (
                Query(f"sum by (instance) (nexus_edge_connections{{{_HERE}}})", "open"),
                Query(f"sum by (instance) (nexus_edge_connections_max{{{_HERE}}})", "room"),
            ),
        ),
    ),
)

_NODE: Final = Row(
    "The node",
    (
        Panel(
            "Bits out by protocol",
            "bps",
            (
                Query("8 * " + _rate("nexus_webrtc_sent_bytes_total", _HERE, "instance"), "webrtc"),
                Query("8 * " + _rate("nexus_hls_sent_bytes_total", _HERE, "instance"), "hls"),
            ),
        ),
        Panel(
            "Cores used by role",
            "short",
            (Query(_rate("nexus_process_cpu_seconds_total", _HERE, "instance, role"), "{{role}}"),),
        ),
        Panel(
            "Memory by role",
            "bytes",
            (
                Query(
                    f"sum by (instance, role) (nexus_process_resident_memory_bytes{{{_HERE}}})",
                    "{{role}}",
                ),
            ),
        ),
        Panel(
            "Descriptors, of those allowed",
            "percentunit",
            (
                Query(
                    f"nexus_process_open_fds{{{_HERE}}} / nexus_process_max_fds{{{_HERE}}}",
                    "{{role}}-{{slot}}",
                ),
            ),
        ),
        Panel(
            "Event loops' delay",
            "s",
            (Query(f"nexus_process_loop_lag_seconds{{{_HERE}}}", "{{role}}-{{slot}}"),),
        ),
        Panel(
            "Tasks by role",
            "short",
            (Query(f"sum by (instance, role) (nexus_process_tasks{{{_HERE}}})", "{{role}}"),),
        ),
        Panel(
            "Restarts in an hour",
            "short",
            (
                Query(
                    "sum by (instance, child) "
                    f"(increase(nexus_child_restarts_total{{{_HERE}}}[1h]))",
                    "{{child}}",
                ),
            ),
        ),
        Panel(
            "Packets that could not be sent, or came forged",
            "pps",
            (
                Query(_rate("nexus_webrtc_unsent_packets_total", _HERE, "instance"), "unsent"),
                Query(_rate("nexus_webrtc_refused_packets_total", _HERE, "instance"), "refused"),
            ),
        ),
    ),
)

ROWS: Final = (_STREAMS, _JOINS, _HLS, _HTTP, _NODE)

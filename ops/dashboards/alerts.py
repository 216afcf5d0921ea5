"""Alerts for Prometheus: what somebody should be woken for, and what can wait until the morning.

`ops/dashboards/alerts.yml` is what this makes; `nexus alerts` prints it. Each alert fires in a test
(`tests/operations/alerts_test.yml`) and its query runs on a real node's metrics.
"""

import json
from dataclasses import dataclass
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Alert:
    """One rule. `after_seconds`: how long the expression must hold."""

    name: str
    expression: str
    after_seconds: int
    severity: Literal["page", "ticket"]
    summary: str
    advice: str


_LOST: Final = "sum by (instance, stream) (rate(nexus_stream_lost_packets_total[1m]))"
_CAME: Final = "sum by (instance, stream) (rate(nexus_stream_received_packets_total[1m]))"

ALERTS: Final = (
    Alert(
        "NexusDown",
        'up{job="nexus"} == 0',
        30,
        "page",
        "{{ $labels.instance }} does not answer",
        "Name the scrape job nexus. Look at the node's log; nexus doctor says what it lacks.",
    ),
    Alert(
        "NexusNoKeyFrame",
        "nexus_stream_keyframe_age_seconds > 10",
        0,
        "page",
        "{{ $labels.stream }} has had no key frame for {{ $value | humanizeDuration }}",
        "Nobody new sees a picture. Set the encoder's key frame interval to 1 or 2 s.",
    ),
    Alert(
        "NexusPublisherLoss",
        f"{_LOST} / ({_CAME} + {_LOST}) > 0.02",
        30,
        "page",
        "{{ $labels.stream }} loses {{ $value | humanizePercentage }} of its publisher's packets",
        "The way from the encoder is bad or full: look at its uplink, or lower its bit rate.",
    ),
    Alert(
        "NexusHlsStands",
        "nexus_stream_hls_age_seconds > 5",
        0,
        "page",
        "HLS of {{ $labels.stream }} has had nothing new for {{ $value | humanizeDuration }}",
        "Look at the run directory's room and at media's log.",
    ),
    Alert(
        "NexusPartsLate",
        "histogram_quantile(0.95, sum by (le, instance)"
        ' (rate(nexus_hls_part_late_seconds_bucket{rendition="v"}[1m]))) > 0.5',
        60,
        "ticket",
        "Parts of HLS come {{ $value | humanizeDuration }} late on {{ $labels.instance }}",
        "The media process lacks CPU, or a publisher sends its pictures late.",
    ),
    Alert(
        "NexusMediaRestarted",
        'increase(nexus_child_restarts_total{child=~"media-.*"}[5m]) > 0',
        0,
        "page",
        "The media process of {{ $labels.instance }} died and was started again",
        "Its log says why. All WebRTC sessions had to reconnect.",
    ),
    Alert(
        "NexusChildrenRestart",
        "sum by (instance, child) (increase(nexus_child_restarts_total[15m])) > 3",
        0,
        "page",
        "{{ $labels.child }} of {{ $labels.instance }} dies again and again",
        "Its log says why.",
    ),
    Alert(
        "NexusFewDescriptors",
        "nexus_process_open_fds / nexus_process_max_fds > 0.8",
        60,
        "ticket",
        "{{ $labels.role }}-{{ $labels.slot }} of {{ $labels.instance }} holds"
        " {{ $value | humanizePercentage }} of the descriptors it may",
        "Raise the limit of open files (LimitNOFILE), or add edge workers.",
    ),
    Alert(
        "NexusUnsentPackets",
        "rate(nexus_webrtc_unsent_packets_total[1m]) > 10",
        60,
        "ticket",
        "{{ $labels.instance }} could not send {{ $value | humanize }} packets a second",
        "The send buffers are full: nexus doctor says how to raise them, or the uplink is full.",
    ),
    Alert(
        "NexusLoopLate",
        "nexus_process_loop_lag_seconds > 0.5",
        30,
        "ticket",
        "{{ $labels.role }}-{{ $labels.slot }} of {{ $labels.instance }} lacks CPU",
        "Add workers or cores, or move viewers to another node.",
    ),
    Alert(
        "NexusPanics",
        "increase(nexus_webrtc_panics_total[10m]) > 0",
        0,
        "ticket",
        "A bug of the packet plane ended sessions on {{ $labels.instance }}",
        "Keep the log and report it.",
    ),
    Alert(
        "NexusStateDown",
        "nexus_state_up == 0",
        10,
        "page",
        "{{ $labels.server }} of {{ $labels.instance }} does not answer",
        "Services answer 503 until it does. Its own log lies in the state directory.",
    ),
    Alert(
        "NexusEventsWait",
        "max by (instance, schema) (nexus_events_outbox_lag_seconds) > 30",
        60,
        "page",
        "Events of {{ $labels.schema }} have waited for {{ $value | humanizeDuration }}",
        "The bus is away, or a transaction that writes is open somewhere in the cluster.",
    ),
    Alert(
        "NexusReadModelBehind",
        "max by (instance, projection) (nexus_events_projection_lag_seconds) > 30",
        60,
        "page",
        "{{ $labels.projection }} lacks events of the last {{ $value | humanizeDuration }}",
        "Lists show old data. The workers' log says whether applying fails; if not, add workers.",
    ),
    Alert(
        "NexusDeadLetters",
        "sum by (instance, consumer) (increase(nexus_events_dead_letters_total[10m])) > 0",
        0,
        "ticket",
        "{{ $labels.consumer }} gave up on events on {{ $labels.instance }}",
        "nexus events dead lists them, and why; replay or discard them.",
    ),
    Alert(
        "NexusDeadJobs",
        'sum by (instance, service) (increase(nexus_jobs_ended_total{outcome="dead"}[10m])) > 0',
        0,
        "ticket",
        "Jobs of {{ $labels.service }} are dead on {{ $labels.instance }}",
        "nexus jobs dead lists them, and why; they wait for a replay.",
    ),
)


def document() -> str:
    """The rules file, YAML, ending in a newline."""
    lines = ["# Made by `nexus alerts`; the source is ops/dashboards/alerts.py.", "groups:"]
    lines += ["  - name: nexus", "    rules:"]
    for alert in ALERTS:
        lines += [
            f"      - alert: {alert.name}",
            f"        expr: {json.dumps(alert.expression)}",
            f"        for: {alert.after_seconds}s",
            "        labels:",
            f"          severity: {alert.severity}",
            "        annotations:",
            f"          summary: {json.dumps(alert.summary)}",
            f"          description: {json.dumps(alert.advice)}",
        ]
    return "\n".join(lines) + "\n"

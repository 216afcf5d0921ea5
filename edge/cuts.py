"""Connections that a worker ends by itself because of what their client does, counted by reason.

Which setting bounds which reason is in docs/limits.md. It ends nothing: whoever does counts here.
"""

from typing import Literal

from ops import metrics

Reason = Literal[
    "silent",
    "head_slow",
    "body_slow",
    "idle",
    "stalled",
    "handshake",
    "handshakes_full",
]
"""silent: nothing was ever asked; idle: nothing more was; stalled: it takes too few of its bytes;
handshake: TLS failed or took too long; handshakes_full: there was no room to begin one."""

_cut = metrics.counter(
    "nexus_edge_connections_cut", "Connections that the worker ended, by reason.", ("reason",)
)


def cut(reason: Reason) -> None:
    """One was ended for that."""
    _cut.inc(labels=(reason,))

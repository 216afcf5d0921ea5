"""What answers are counted by, whichever protocol wrote them; HLS counts its own."""

from typing import Final

from ops import metrics

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT"})

_requests = metrics.counter(
    "nexus_http_requests",
    "Requests answered, but for those of nexus_hls_requests.",
    ("class", "method", "status"),
    series_max=500,
)
_seconds = metrics.histogram(
    "nexus_http_request_seconds",
    "From a request's head until its answer is made; server-sent events are left out.",
    ("class",),
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


def answered(kind: str, *, method: str, status: int, seconds: float | None) -> None:
    """Counts one answer. kind: what its route is for. seconds: None for what streams for hours."""
    known = method if method in METHODS else "other"
    _requests.inc(labels=(kind, known, str(status)))
    if seconds is not None:
        _seconds.observe(seconds, labels=(kind,))

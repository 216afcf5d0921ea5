"""Settings of lists that are streamed."""

from dataclasses import dataclass

from ops.settings import setting


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """How lists are followed by server-sent events."""

    streams_max: int = setting(
        5_000,
        "Streams of lists that a node has at once; a worker takes its share.",
        min=1,
        max=1_000_000,
    )
    tenant_streams_max: int = setting(
        500,
        "Streams of lists that one tenant has at once on a node; a worker takes its share.",
        min=1,
        max=1_000_000,
    )
    waiting_events_max: int = setting(
        500,
        "Events that wait for one client, who is told to come again when there are more.",
        min=1,
        max=100_000,
    )
    heartbeat_seconds: float = setting(
        15.0, "Seconds after which a silent stream gets a comment.", min=0.1, max=300
    )
    retry_ms: int = setting(
        2_000, "Milliseconds that a client is told to wait before it comes again.", min=0
    )
    gather_ms: float = setting(
        100.0, "Milliseconds between two readings of one list that changes.", min=0, max=10_000
    )
    reads_max: int = setting(4, "Lists that one worker reads at once.", min=1, max=1_000)
    look_seconds: float = setting(
        30.0,
        "Seconds after which a list of which nothing was heard is read all the same.",
        min=0.1,
        max=3_600,
    )

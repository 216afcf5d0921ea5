"""Settings of relays and consumers."""

from dataclasses import dataclass

from ops.settings import setting


@dataclass(frozen=True, slots=True)
class EventsSettings:
    """How events travel from outbox to inbox."""

    gather_ms: float = setting(
        20.0, "Milliseconds for which a relay gathers before it looks again.", min=0, max=1_000
    )
    batch_max: int = setting(
        250, "Events of one partition that are relayed or handled in one go.", min=1, max=10_000
    )
    lease_seconds: float = setting(
        15.0, "Seconds until another process takes a dead one's partitions.", min=0.1, max=300
    )
    poll_seconds: float = setting(
        10.0, "Seconds after which a consumer looks for itself, not woken.", min=0.05, max=300
    )
    handlers_max: int = setting(8, "Events that one consumer handles at once.", min=1, max=64)
    handle_seconds: float = setting(
        10.0, "Seconds that the reaction to one event may take.", min=0.1, max=600
    )
    tries_max: int = setting(
        5, "Attempts at an event before it becomes a dead letter.", min=1, max=100
    )
    retry_first_seconds: float = setting(
        1.0, "Seconds before the second attempt; four times as long before each next.", min=0
    )
    retry_seconds_max: float = setting(
        300.0, "Seconds between two attempts at most.", min=0, max=86_400
    )
    remember_seconds: float = setting(
        1_209_600.0,
        "Seconds for which handled events are remembered: longer than any bus keeps them.",
        min=86_400,
    )
    kafka_partitions: int = setting(
        12, "Partitions of each topic that is made on Kafka.", min=1, max=1_000
    )
    kafka_copies: int = setting(
        0,
        "Brokers that keep each topic made on Kafka; 0: three, or as many as there are.",
        min=0,
        max=9,
    )

    def retry_seconds(self, tries: int) -> float:
        """The pause after that many attempts: 1, 4, 16, 64 … at most `retry_seconds_max`."""
        return min(self.retry_first_seconds * 4.0 ** min(tries - 1, 20), self.retry_seconds_max)

"""Settings of the gateway: what holds without any configuration, and what bounds its memory."""

from dataclasses import dataclass
from pathlib import Path

from ops.settings import setting


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """How business requests are treated where nothing else is configured."""

    config_file: Path = setting(
        Path(),
        "Configuration of routes, upstreams and limits, TOML or JSON; empty: none. What was"
        " activated in the database comes before it.",
    )
    user_requests_per_second_max: int = setting(
        1_000,
        "Requests a second that one user makes, two seconds' worth at once; 0: no limit.",
        min=0,
        max=10_000_000,
    )
    principals_max: int = setting(
        20_000, "Tokens, and as many API keys, that one worker remembers.", min=16
    )
    buckets_max: int = setting(
        50_000, "Token buckets of limits that one worker remembers.", min=16, max=10_000_000
    )
    timeout_seconds: float = setting(
        15.0, "Seconds that an upstream has for the head of its answer.", min=0.01, max=3_600
    )
    stream_idle_seconds: float = setting(
        300.0,
        "Seconds in which an upstream must send something more of an answer that it has begun.",
        min=0.1,
        max=86_400,
    )
    body_bytes_max: int = setting(
        10_485_760, "Longest body in bytes that is passed on to an upstream.", min=0
    )
    changed_bytes_max: int = setting(
        1_048_576, "Longest JSON body in bytes whose members are changed.", min=1_024
    )
    upstream_connections_max: int = setting(
        1_000, "Connections that one worker holds to upstreams.", min=1, max=100_000
    )
    cache_bytes_max: int = setting(
        67_108_864, "Bytes of answers that one worker keeps.", min=0, max=1_099_511_627_776
    )
    cached_answer_bytes_max: int = setting(
        1_048_576, "Longest answer in bytes that is kept.", min=1_024
    )
    compose_calls_max: int = setting(20, "Calls in one composition.", min=1, max=1_000)
    compose_concurrency_max: int = setting(8, "Calls of one that run at once.", min=1, max=100)
    compose_bytes_max: int = setting(
        4_194_304, "Bytes of all answers in one composition.", min=1_024
    )
    compose_seconds: float = setting(15.0, "Seconds that a composition may take.", min=0.1, max=600)
    shared_seconds_max: float = setting(
        0.1, "Seconds that Redis may take to say what is left of a shared limit.", min=0.001, max=10
    )
    shared_pause_seconds: float = setting(
        1.0, "Seconds that Redis is left alone after it did not answer.", min=0.01, max=60
    )
    shared_workers_max: int = setting(
        0,
        "Workers of all nodes, among whom a shared limit is divided while Redis is away; 0: those"
        " of this node.",
        min=0,
        max=100_000,
    )
    reload_seconds: float = setting(
        5.0,
        "Seconds between looks at the configuration; what is activated is also told at once.",
        min=0.1,
        max=3_600,
    )

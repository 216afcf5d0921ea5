"""Settings of the jobs' runners."""

from dataclasses import dataclass

from ops.settings import setting


@dataclass(frozen=True, slots=True)
class JobSettings:
    """Durable jobs: how many at once, and when a lost worker's are given to another."""

    workers: int = setting(1, "Worker processes of a node, which run jobs and relay events.", min=1)
    running_max: int = setting(
        8, "Jobs that one worker runs at once; each has a database connection.", min=1, max=500
    )
    lease_seconds: float = setting(
        15.0, "Seconds of a worker's silence after which others get its jobs.", min=0.2, max=3_600
    )
    poll_seconds: float = setting(
        5.0, "Seconds between looks for work that nobody told a worker of.", min=0.1, max=600
    )
    grace_seconds: float = setting(
        3.0, "Seconds that running jobs get to end when a worker is stopped.", min=0, max=600
    )
    losses_max: int = setting(
        10, "How often a job may lose its worker before it is taken for the cause.", min=1
    )
    dead_seconds: float = setting(
        2_592_000.0, "Seconds after which dead jobs are forgotten.", min=600, max=1e9
    )

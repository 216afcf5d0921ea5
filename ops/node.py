"""Settings of the node itself: where it keeps its run directory, and which roles it has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from ops.settings import setting

Role = Literal["edge", "media", "demo", "state", "worker"]

AUTOMATIC: Final = Path()
"""No directory given: `ops.run_dir` chooses one."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """The node: one machine's family of processes."""

    run_dir: Path = setting(
        AUTOMATIC, "Directory for what lives as long as the node; empty: one in memory, by port."
    )
    region: str = setting("eu1", "Region that new ids carry: two letters and a number.")
    roles: tuple[Role, ...] = setting(
        ("edge", "media", "state", "worker"),
        "Which roles `nexus up` starts; --demo and --no-demo change it.",
    )
    stop_seconds: float = setting(
        5.0, "How long a child may take to stop, in seconds, before it is killed.", min=0.1, max=60
    )
    hang_seconds: float = setting(
        10.0,
        "Seconds of silence after which a child is taken to hang: killed, started again. 0: never.",
        min=0,
        max=600,
    )
    adopt_seconds: float = setting(
        60.0,
        "Age in seconds up to which HLS files of a node that died are taken over.",
        min=0,
        max=3600,
    )

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError("roles: a node needs at least one")

"""Settings of LL-HLS."""

from dataclasses import dataclass

from ops.settings import setting


@dataclass(frozen=True, slots=True)
class HlsSettings:
    """How live streams are cut for HLS."""

    part_ms: int = setting(200, "Length of a part in milliseconds.", min=100, max=1_000)

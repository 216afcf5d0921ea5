"""What a process costs, read from /proc: for metrics, so that no process has to tell of itself."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Cost:
    """A process since its start."""

    cpu_seconds: float
    resident_bytes: int
    threads: int
    files: int


def cost(pid: int) -> Cost:
    """What the process has used and holds now. Raises OSError when it is gone."""
    process = Path(f"/proc/{pid}")
    # The name in parentheses may hold spaces: what follows the last one is fields 3 and on.
    fields = (process / "stat").read_text().rpartition(")")[2].split()
    return Cost(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / _TICKS_A_SECOND,
        resident_bytes=int(fields[21]) * _PAGE_BYTES,
        threads=int(fields[17]),
        files=sum(1 for _ in (process / "fd").iterdir()),
    )

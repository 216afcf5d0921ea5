"""Rows of measurements: made in one place, averaged, appended to `benchmarks/results.jsonl`.

One line a row, never changed afterwards; lines with the same `run` and `bench` are one comparison.
The file's format stands in `docs/benchmarks.md`. This module measures nothing.
"""

import json
import os
import platform
import re
import secrets
import statistics
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CHECKED_IN: Final = Path(__file__).parent / "results.jsonl"

Figure = int | float | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One thing measured of one server. What was not measured stays None and is not written."""

    bench: str
    """What was measured, such as `webrtc.fanout`."""
    who: str = "nexus"
    """`nexus`, a rival's name, or `floor`: the kernel alone."""
    clients: int
    unit: str
    """What `cpu_us` is for: packet, join, request …"""
    cpu_us: float | None = None
    """The server's CPU time, user and system, for one unit: of all its processes."""
    rss_kib_per_client: float | None = None
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    per_second: float | None = None
    lost: int | None = None
    note: str = ""
    more: Mapping[str, Figure] = field(default_factory=dict)
    """Further figures by name, unit last; they stand beside the others in the line."""

    def figures(self) -> dict[str, Figure]:
        """What was measured, by name."""
        own = {name: getattr(self, name) for name in _FIGURES}
        known = {name: value for name, value in own.items() if value is not None}
        return known | dict(self.more)

    def line(self) -> dict[str, Figure]:
        """The row as the file has it, without run, commit and machine."""
        head = {name: getattr(self, name) for name in ("bench", "who", "clients", "unit")}
        return head | self.figures() | {"note": self.note}


_FIGURES: Final = (
    "cpu_us",
    "rss_kib_per_client",
    "p50_ms",
    "p95_ms",
    "p99_ms",
    "per_second",
    "lost",
)


_WORST: Final = ("lost", "decrypt_errors", "index_repeats")


def median(rows: Sequence[Row]) -> list[Row]:
    """One row for those of the same bench, server, number of clients, unit and note: each figure is
    the median of theirs, but of what was lost or wrong the worst is kept; `repeats` says how many
    they were."""
    groups: dict[tuple[str, str, int, str, str], list[Row]] = {}
    for row in rows:
        same = (row.bench, row.who, row.clients, row.unit, row.note)
        groups.setdefault(same, []).append(row)
    return [_middle(group) for group in groups.values()]


def _middle(rows: Sequence[Row]) -> Row:
    if len(rows) == 1:
        return rows[0]
    figures: dict[str, Figure] = {}
    for name in dict.fromkeys(name for row in rows for name in row.figures()):
        found = [row.figures().get(name) for row in rows]
        numbers = [value for value in found if isinstance(value, int | float)]
        if numbers and name in _WORST:
            figures[name] = max(numbers)
        elif numbers:
            whole = all(isinstance(value, int) for value in numbers)
            # The lower of the two middle ones is a value that was seen.
            figures[name] = statistics.median_low(numbers) if whole else _mid(numbers)
        else:
            figures[name] = found[-1]
    own = {name: figures.pop(name) for name in _FIGURES if name in figures}
    figures["repeats"] = len(rows)
    return replace(rows[0], **own, more=figures)  # type: ignore[arg-type]


def _mid(numbers: Sequence[float]) -> float:
    return round(statistics.median(numbers), 3)


def percentile(values: Sequence[float], share: float) -> float | None:
    """The value below which `share` (0 to 1) of the values lie; None of none."""
    if not values:
        return None
    return round(sorted(values)[min(int(len(values) * share), len(values) - 1)], 2)


def new_run() -> str:
    """A name for the lines that belong together: when, and four characters."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}-{secrets.token_hex(2)}"


def commit() -> str:
    """The commit that is checked out, with `+` when files differ from it; or "unknown"."""
    head = _git("rev-parse", "--short", "HEAD")
    if not head:
        return "unknown"
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":!benchmarks/*.jsonl")
    return head + ("+" if changed else "")


def _git(*arguments: str) -> str:
    try:
        asked = subprocess.run(
            ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return asked.stdout.strip() if asked.returncode == 0 else ""


def machine() -> str:
    """What it ran on, in a few words and without names: cores, processor, kernel."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    cores = len(re.findall(r"^processor\s*:", text, re.MULTILINE))
    found = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    kernel = platform.release().split("-")[0]
    return f"{cores} x {found[1].strip() if found else platform.machine()}, Linux {kernel}"


def in_working_copy() -> bool:
    """Whether this is a clone, not an installed copy."""
    return (ROOT / ".git").exists()


def default_path() -> Path:
    """The checked-in file in a working copy, `results.jsonl` in the current folder elsewhere."""
    return CHECKED_IN if in_working_copy() else Path("results.jsonl")


def origin() -> dict[str, Figure]:
    """What stands in front of every line of a run: its name, the commit, the machine, and how busy
    that was before the run began (load average of the last minute)."""
    busy = round(os.getloadavg()[0], 1)
    return {"run": new_run(), "commit": commit(), "machine": machine(), "load_before": busy}


def append(
    rows: Sequence[Row], path: Path, head: Mapping[str, Figure] | None = None
) -> dict[str, Figure]:
    """Writes the rows; returns what stands in front of each: `head`, or `origin` of now."""
    head = dict(head or origin())
    with path.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(head | row.line(), ensure_ascii=False) + "\n")
    return head


def read(path: Path) -> list[dict[str, Figure]]:
    """The lines of a results file, oldest first. Raises OSError, ValueError."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()]


def row_fields() -> tuple[str, ...]:
    """Names of a row's own fields, for the documentation's test."""
    return tuple(f.name for f in fields(Row))

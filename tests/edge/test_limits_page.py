"""docs/limits.md and the code agree: settings, metrics, codes; no limit is left out."""

import re
import subprocess
import sys
from pathlib import Path

from edge.settings import Settings
from ops.settings import entries

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/limits.md").read_text()
LIMITS = re.compile(r".*_(?:max|seconds|ms|bytes)|backlog")
NO_LIMITS = re.compile(
    r"demo\..*|tracing\..*|log\..*|node\.adopt_seconds|auth\.hook_cache_seconds|auth\.link_seconds"
    r"|hls\.(?:part_ms|segment_ms|window_seconds|linger_seconds|aac_idle_seconds)"
)
"""Settings whose names look like a limit of what a client may take, and that are none."""
DECLARED = """
import importlib, sys
from ops import metrics
for name in sys.argv[1:]:
    importlib.import_module(name)
print("\\n".join(item.name for item in metrics.declared()))
"""


def rows() -> list[list[str]]:
    """The tables' rows: listener, limit, setting, metric, answer."""
    found = []
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 5 and cells[0] not in ("listener", "---"):
            found.append(cells)
    return found


def quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_every_row_names_a_setting_that_is_there() -> None:
    known = {entry.name for entry in entries(Settings)}
    assert len(rows()) > 40
    assert [row for row in rows() if quoted(row[2]) == [] or set(quoted(row[2])) - known] == []


def test_no_limit_is_left_out() -> None:
    shown = {name for row in rows() for name in quoted(row[2])}
    limits = {
        entry.name
        for entry in entries(Settings)
        if entry.type in (int, float)
        and LIMITS.fullmatch(entry.field)
        and not NO_LIMITS.fullmatch(entry.name)
    }
    assert sorted(limits - shown) == []


def test_every_metric_is_declared() -> None:
    """In a process that has loaded every role, for metrics are declared at import."""
    roles = [
        "edge.worker",
        "edge.graphql.engine",
        "edge.regions.side",
        "edge.background",
        "media.server",
        "ops.supervisor",
        "edge.state_role",
    ]
    command = [sys.executable, "-c", DECLARED, *roles]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    declared = set(done.stdout.split())
    named = {re.sub(r"\{.*", "", name) for row in rows() for name in quoted(row[3])}
    assert sorted(named - declared) == []
    assert [row[1] for row in rows() if not quoted(row[3]) and "none" not in row[3]] == [
        "connections waiting to be accepted"
    ]


def test_every_code_is_one_that_is_answered() -> None:
    folders = ("edge", "media", "ops", "services")
    source = "".join(
        path.read_text() for folder in folders for path in (ROOT / folder).rglob("*.py")
    )
    codes = {code for row in rows() for code in quoted(row[4])}
    limits = {code for code in codes if code.startswith("limits.")} - {"limits.sessions"}
    assert [code for code in codes - limits if f'"{code}"' not in source] == []
    for code in limits:
        assert f'_too_many("{code.partition(".")[2]}"' in source

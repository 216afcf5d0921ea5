"""What operators take from the tree is what the code makes today."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MADE = {
    "metrics": "docs/metrics.md",
    "dashboard": "ops/dashboards/nexus.json",
    "alerts": "ops/dashboards/alerts.yml",
}
NAME = re.compile(r"\bnexus_[a-z0-9_]+")
DECLARED = re.compile(r"^\| `(nexus_\w+)` \| (\w+) \|", re.MULTILINE)
BASE_UNITS = ("seconds", "bytes", "ratio")
OTHER_UNITS = re.compile(r"_(ms|milliseconds|minutes|hours|kib|mib|kbit|bits|percent)(_|$)")


def made(command: str) -> str:
    words = [sys.executable, "-m", "edge.main", command]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("command", MADE)
def test_the_file_is_what_the_command_prints(command: str) -> None:
    assert (ROOT / MADE[command]).read_text() == made(command), f"nexus {command} > {MADE[command]}"


def test_names_follow_prometheus_conventions() -> None:
    """Counters end in _total, others do not; units are base units and come last."""
    declared = DECLARED.findall((ROOT / MADE["metrics"]).read_text())
    assert len(declared) > 60
    for name, kind in declared:
        assert name.endswith("_total") == (kind == "counter"), name
        assert not OTHER_UNITS.search(name), name
        for unit in BASE_UNITS:
            assert unit not in name or name.removesuffix("_total").endswith(unit), name


@pytest.mark.parametrize("paper", ["ops/dashboards/nexus.json", "ops/dashboards/alerts.yml"])
def test_every_metric_asked_for_exists(paper: str) -> None:
    declared = {name for name, _ in DECLARED.findall((ROOT / MADE["metrics"]).read_text())}
    asked = {name.removesuffix("_bucket") for name in NAME.findall((ROOT / paper).read_text())}
    assert sorted(asked - declared) == []

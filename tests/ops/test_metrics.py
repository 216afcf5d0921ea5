"""Metrics across processes and lives of a process."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import metrics

ROOT = Path(__file__).resolve().parents[2]
COUNTED = metrics.counter("test_counted", "Things counted.", ("kind",), series_max=3)
LEVEL = metrics.gauge("test_level", "A level.", ("stream",))
WAITED = metrics.histogram("test_waited_seconds", "Waits.", buckets=(0.1, 1.0))
CHILD = """
import sys
from pathlib import Path
from ops import metrics
COUNTED = metrics.counter("test_counted", "Things counted.", ("kind",))
LEVEL = metrics.gauge("test_level", "A level.", ("stream",))
metrics.start(Path(sys.argv[1]), sys.argv[2])
COUNTED.inc(int(sys.argv[3]), labels=("a",))
LEVEL.set(5, labels=("show",))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "metrics"
    metrics.start(folder, "edge-0")
    yield folder
    metrics.stop()


def run_child(directory: Path, identity: str, count: int) -> None:
    command = [sys.executable, "-c", CHILD, str(directory), identity, str(count)]
    subprocess.run(command, cwd=ROOT, check=True)


def samples() -> dict[str, float]:
    lines = metrics.render().decode().splitlines()
    pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
    return {name: float(value) for name, _, value in pairs}


def test_processes_add_up(directory: Path) -> None:
    COUNTED.inc(2, labels=("a",))
    LEVEL.set(1, labels=("show",))
    run_child(directory, "edge-1", 3)
    found = samples()
    assert found['test_counted_total{kind="a"}'] == 5
    assert found['test_level{stream="show"}'] == 6


def test_a_restarted_process_counts_on_but_forgets_its_gauges(directory: Path) -> None:
    run_child(directory, "media-0", 3)
    run_child(directory, "media-0", 4)
    assert samples()['test_counted_total{kind="a"}'] == 7
    assert samples()['test_level{stream="show"}'] == 5
    assert len(list(directory.glob("counter_media-0*"))) == 1


def test_a_file_broken_by_a_death_is_dropped(directory: Path) -> None:
    (directory / "counter_media-0.db").write_bytes(b"\xff\x00\x00\x00" + bytes(range(252)))
    run_child(directory, "media-0", 4)
    assert samples()['test_counted_total{kind="a"}'] == 4


def test_what_is_gone_is_rendered_no_more(directory: Path) -> None:
    assert directory.is_dir()
    LEVEL.set(7, labels=("ends",))
    assert samples()['test_level{stream="ends"}'] == 7
    LEVEL.forget(("ends",))
    assert 'test_level{stream="ends"}' not in samples()
    LEVEL.set(2, labels=("ends",))
    assert samples()['test_level{stream="ends"}'] == 2


def test_labels_are_bounded(directory: Path) -> None:
    assert directory.is_dir()
    for number in range(10):
        COUNTED.inc(labels=(f"k{number}",))
    found = {name: value for name, value in samples().items() if name.startswith("test_counted")}
    assert found['test_counted_total{kind="other"}'] == 7
    assert len(found) == 4


def test_a_process_alone_renders_its_own() -> None:
    WAITED.observe(0.5)
    COUNTED.inc(labels=("alone",))
    found = samples()
    assert found['test_waited_seconds_bucket{le="0.1"}'] == 0
    assert found['test_waited_seconds_bucket{le="1.0"}'] == 1
    assert found['test_counted_total{kind="alone"}'] == 1


def test_a_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        metrics.counter("test_counted", "Again.")

"""Tables: series that come and go, told by several processes, and how old what they told is."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops import metric_tables, metrics

ROOT = Path(__file__).resolve().parents[2]
SENT = metric_tables.counters("test_table_sent_bytes", "Sent to viewers.", ("stream",))
ROOMS = metric_tables.gauges("test_table_rooms", "Rooms there are.", ("house", "floor"))
CHILD = """
import sys
from pathlib import Path
from ops import metric_tables, metrics
SENT = metric_tables.counters("test_table_sent_bytes", "Sent to viewers.", ("stream",))
metrics.start(Path(sys.argv[1]), sys.argv[2])
SENT.replace({("show",): float(sys.argv[3])})
metric_tables.write()
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "metrics"
    metrics.start(folder, "edge-0")
    yield folder
    metrics.stop()
    SENT.replace({})
    ROOMS.replace({})


def tell(directory: Path, identity: str, count: int) -> None:
    command = [sys.executable, "-c", CHILD, str(directory), identity, str(count)]
    subprocess.run(command, cwd=ROOT, check=True)


def rendered() -> list[str]:
    return [line for line in metrics.render().decode().splitlines() if "test_table" in line]


def test_what_is_told_of_no_more_is_gone(directory: Path) -> None:
    assert directory.is_dir()
    ROOMS.replace({("north", "1"): 3, ("north", "2"): 4})
    metric_tables.write()
    assert rendered() == [
        "# HELP test_table_rooms Rooms there are.",
        "# TYPE test_table_rooms gauge",
        'test_table_rooms{floor="1",house="north"} 3.0',
        'test_table_rooms{floor="2",house="north"} 4.0',
    ]
    ROOMS.replace({("north", "2"): 5})
    metric_tables.write()
    assert rendered()[2:] == ['test_table_rooms{floor="2",house="north"} 5.0']
    ROOMS.replace({})
    metric_tables.write()
    assert rendered() == []


def test_thousands_of_names_leave_nothing_behind(directory: Path) -> None:
    """However many streams there have been, the present ones have their own labels."""
    for number in range(2_000):
        SENT.replace({(f"show-{number}",): 1.0})
        metric_tables.write()
    assert rendered()[2:] == ['test_table_sent_bytes_total{stream="show-1999"} 1.0']
    assert sum(path.stat().st_size for path in directory.glob("tables_*")) < 10_000


def test_processes_add_up(directory: Path) -> None:
    SENT.replace({("show",): 2.0})
    metric_tables.write()
    tell(directory, "edge-1", 3)
    assert rendered()[1:] == [
        "# TYPE test_table_sent_bytes_total counter",
        'test_table_sent_bytes_total{stream="show"} 5.0',
    ]


def test_a_restarted_process_begins_anew(directory: Path) -> None:
    tell(directory, "media-0", 3)
    tell(directory, "media-0", 1)
    assert rendered()[2:] == ['test_table_sent_bytes_total{stream="show"} 1.0']


def test_what_is_stale_is_not_rendered(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell(directory, "media-0", 3)
    age = metric_tables.age(directory, "media-0")
    assert age is not None
    assert age < metric_tables.STALE_SECONDS
    assert metric_tables.age(directory, "media-1") is None
    monkeypatch.setattr(metric_tables, "STALE_SECONDS", 0.0)
    assert rendered() == []


def test_a_file_that_cannot_be_read_is_left_out(directory: Path) -> None:
    tell(directory, "media-0", 3)
    (directory / "tables_edge-7.json").write_bytes(b'{"at": 1.0, "sheets": [{"name"')
    assert rendered()[2:] == ['test_table_sent_bytes_total{stream="show"} 3.0']


def test_a_process_alone_renders_its_own() -> None:
    SENT.replace({("alone",): 1.0})
    assert rendered()[2:] == ['test_table_sent_bytes_total{stream="alone"} 1.0']
    SENT.replace({})


def test_a_name_is_declared_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        metric_tables.gauges("test_table_rooms", "Again.", ())

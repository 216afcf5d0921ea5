"""Metrics that a process tells as a whole, every time anew: what it tells of no more is gone.

`ops/metrics.py` keeps a series for ever, as a counter of the whole family should be. A table is for
what comes and goes, such as streams and processes: its rows replace the former ones, so that
nothing is left of a stream that went, and no name is ever refused because of those before it. A
table of counters begins anew with its process, which Prometheus takes for what it is.

Each process has one file of tables in the run directory, renewed by `write` (`ops/pulse.py` does so
once a second). The file also tells that the process's event loop runs: `age` says for how long it
has not. What is older than `STALE_SECONDS` is not rendered: a process that hangs tells of nothing.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric as Family

ROWS_MAX: Final = 100_000
"""Most series of one table; the rest is left out."""
STALE_SECONDS: Final = 15.0

Key = TypeVar("Key", bound=tuple[str, ...])
Kind = Literal["counter", "gauge"]
MetricName = str
"""Snake case with the unit last; mixing it up with the sentence of help fails at once."""


class _Sheet(msgspec.Struct, frozen=True):
    """A table as it lies in the file."""

    name: str
    help: str
    kind: Kind
    labels: tuple[str, ...]
    rows: list[tuple[tuple[str, ...], float]]


class _File(msgspec.Struct, frozen=True):
    """What one process tells."""

    at: float
    """When, by the machine's monotonic clock."""
    sheets: list[_Sheet]


@dataclass(slots=True)
class _State:
    declared: dict[str, "Table"] = field(default_factory=dict)
    path: Path | None = None


_state = _State()
_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_File)


class Table:
    """One metric whose series come and go."""

    def __init__(self, name: str, help: str, kind: Kind, labels: tuple[str, ...]) -> None:
        assert help.endswith("."), f"a sentence, please: {help!r}"
        if name in _state.declared:
            raise ValueError(f"metric {name} is declared twice")
        _state.declared[name] = self
        self.name = name
        self.help = help
        self.kind = kind
        self.labels = labels
        self._rows: dict[tuple[str, ...], float] = {}

    def replace(self, rows: Mapping[Key, float]) -> None:
        """These are all the series from now on, by the labels' values."""
        self._rows = dict(list(rows.items())[:ROWS_MAX])

    def sheet(self) -> _Sheet:
        """As of now."""
        return _Sheet(self.name, self.help, self.kind, self.labels, list(self._rows.items()))


def counters(name: MetricName, help: str, labels: tuple[str, ...]) -> Table:
    """Declares a table of counters; `name` without `_total`."""
    return Table(name, help, "counter", labels)


def gauges(name: MetricName, help: str, labels: tuple[str, ...]) -> Table:
    """Declares a table of gauges."""
    return Table(name, help, "gauge", labels)


def declared() -> list[Table]:
    """Every table that this process knows."""
    return list(_state.declared.values())


def start(directory: Path, identity: str) -> None:
    """Writes to `directory` from now on, as `identity`; what its forerunner told is forgotten."""
    _state.path = directory / f"tables_{identity}.json"
    _state.path.unlink(missing_ok=True)


def stop() -> None:
    """Back to this process alone."""
    _state.path = None


def write() -> None:
    """Tells all tables of this process. Cost: one small file in memory. Raises OSError."""
    path = _state.path
    if path is None:
        return
    sheets = [sheet for table in _state.declared.values() if (sheet := table.sheet()).rows]
    new = path.with_suffix(".new")
    new.write_bytes(_encoder.encode(_File(time.monotonic(), sheets)))
    new.replace(path)


def age(directory: Path, identity: str) -> float | None:
    """Seconds since that process told last; None: it never has."""
    found = _read(directory / f"tables_{identity}.json")
    return None if found is None else max(0.0, time.monotonic() - found.at)


def families(directory: Path | None) -> Iterator[Family]:
    """What all processes tell, equal series added up; without a directory this one alone."""
    if directory is None:
        files = [_File(time.monotonic(), [table.sheet() for table in declared()])]
    else:
        found = [_read(path) for path in sorted(directory.glob("tables_*.json"))]
        now = time.monotonic()
        files = [file for file in found if file is not None and now - file.at <= STALE_SECONDS]
    heads: dict[str, _Sheet] = {}
    sums: dict[str, dict[tuple[str, ...], float]] = {}
    for file in files:
        for sheet in file.sheets:
            heads.setdefault(sheet.name, sheet)
            rows = sums.setdefault(sheet.name, {})
            for labels, value in sheet.rows:
                rows[labels] = rows.get(labels, 0.0) + value
    for name, sheet in heads.items():
        if sums[name]:
            yield _family(sheet, sums[name])


def _family(sheet: _Sheet, rows: Mapping[tuple[str, ...], float]) -> Family:
    make = CounterMetricFamily if sheet.kind == "counter" else GaugeMetricFamily
    family = make(sheet.name, sheet.help, labels=sheet.labels)
    for labels, value in rows.items():
        family.add_metric(labels, value)
    return family


def _read(path: Path) -> _File | None:
    try:
        return _decoder.decode(path.read_bytes())
    except (OSError, msgspec.DecodeError):
        return None

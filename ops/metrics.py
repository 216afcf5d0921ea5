"""Counters, gauges and histograms of the whole family, rendered by any of its processes.

A component declares its metrics beside itself at import. `start` gives this process a file of its
own in the run directory (`metrics/`), named after its role and slot: a restarted process goes on
counting where the dead one stopped, and no file outlives its slot. `render` adds all files up, so
whichever edge worker is asked tells of all processes. Without `start` (tests, tools) metrics live
in this process alone.

Labels are bounded: past `series_max` combinations a metric counts under "other". What comes and
goes, such as a stream, is told by a table (`ops/metric_tables.py`); `render` shows those too.
"""

import math
import os
import re
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Final, Generic, Literal, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, values
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from ops import metric_tables
from ops.metric_tables import MetricName

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
OTHER: Final = "other"

R = TypeVar("R", prometheus_client.Counter, prometheus_client.Gauge, prometheus_client.Histogram)
Combine = Literal["sum", "max", "min", "last", "each"]
"""How processes' gauges become one: "each" keeps one a process, `pid` being role and slot."""

_PAIR: Final = struct.Struct("dd")
"""How a file holds a value: itself, and when it was set."""
_counting: Final = Lock()
_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_Mode = Literal["livesum", "livemax", "livemin", "livemostrecent", "liveall"]
_MODES: Final[dict[Combine, _Mode]] = {
    "sum": "livesum",
    "max": "livemax",
    "min": "livemin",
    "last": "livemostrecent",
    "each": "liveall",
}


@dataclass(slots=True)
class _State:
    """What this process has declared, and where it counts."""

    declared: dict[str, "_Declared"] = field(default_factory=dict)
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    directory: Path | None = None


@dataclass(frozen=True, slots=True)
class Described:
    """A metric, for the reference page. The exposition adds `_total` to a counter's name."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    buckets: tuple[float, ...] = ()


class _Declared(ABC):
    @abstractmethod
    def described(self) -> Described: ...

    @abstractmethod
    def touch(self) -> None:
        """Makes the real metric, so that it is rendered as zero before its first use."""


_state = _State()


class _Metric(_Declared, Generic[R]):
    """A declaration; the real metric is made on first use, when it is known where it counts."""

    def __init__(self, name: str, help: str, labels: Sequence[str], series_max: int) -> None:
        assert _NAME.fullmatch(name), f"not a metric's name: {name!r}"
        assert help.endswith("."), f"a sentence, please: {help!r}"
        if name in _state.declared:
            raise ValueError(f"metric {name} is declared twice")
        _state.declared[name] = self
        self.name = name
        self.help = help
        self._labels = tuple(labels)
        self._series_max = series_max
        self._series: dict[tuple[str, ...], R] = {}
        self._real: R | None = None
        self._expected: list[tuple[str, ...]] = []

    def expect(self, *label_values: tuple[str, ...]) -> None:
        """These series are rendered as zero before their first use: Prometheus sees no increase in
        a series that begins with one. Call it at import."""
        self._expected.extend(label_values)

    def described(self) -> Described:
        return Described(self.name, type(self).__name__.lower(), self.help, self._labels)

    def touch(self) -> None:
        self._get()
        for label_values in self._expected:
            self._with(label_values)

    def _get(self) -> R:
        if self._real is None:
            self._real = self._make()
        return self._real

    def _forget_real(self) -> None:
        self._real = None
        self._series.clear()

    @abstractmethod
    def _make(self) -> R: ...

    def _with(self, label_values: tuple[str, ...]) -> R:
        if not self._labels:
            return self._get()
        found = self._series.get(label_values)
        if found is None:
            if len(self._series) >= self._series_max:
                label_values = (OTHER,) * len(self._labels)
            found = self._get().labels(*label_values)
            self._series[label_values] = found
        return found


class Counter(_Metric[prometheus_client.Counter]):
    """Only grows. The exposition adds `_total` to its name."""

    def __init__(self, name: str, help: str, labels: Sequence[str], series_max: int) -> None:
        super().__init__(name, help, labels, series_max)
        self._counts: dict[tuple[str, ...], Callable[[float], None]] = {}

    def inc(self, amount: float = 1.0, *, labels: tuple[str, ...] = ()) -> None:
        count = self._counts.get(labels)
        if count is None:
            # Past prometheus_client's own `inc`, which takes as long again.
            count = self._with(labels)._value.inc  # noqa: SLF001
            if not labels or labels in self._series:
                self._counts[labels] = count
        assert amount >= 0, "a counter only grows"
        count(amount)

    def _forget_real(self) -> None:
        super()._forget_real()
        self._counts.clear()

    def _make(self) -> prometheus_client.Counter:
        return prometheus_client.Counter(
            self.name, self.help, self._labels, registry=_state.registry
        )


class Gauge(_Metric[prometheus_client.Gauge]):
    """Goes up and down; forgotten when its process ends."""

    combine: Combine = "sum"

    def set(self, value: float, *, labels: tuple[str, ...] = ()) -> None:
        self._with(labels).set(value)

    def inc(self, amount: float = 1.0, *, labels: tuple[str, ...] = ()) -> None:
        self._with(labels).inc(amount)

    def dec(self, amount: float = 1.0, *, labels: tuple[str, ...] = ()) -> None:
        self._with(labels).dec(amount)

    def forget(self, labels: tuple[str, ...]) -> None:
        """What these labels named is gone: rendered no more, until it is set again."""
        if labels in self._series:
            self._series[labels].set(math.nan)

    def _make(self) -> prometheus_client.Gauge:
        return prometheus_client.Gauge(
            self.name,
            self.help,
            self._labels,
            registry=_state.registry,
            multiprocess_mode=_MODES[self.combine],
        )


class Histogram(_Metric[prometheus_client.Histogram]):
    """How many observations fell under each bound."""

    buckets: tuple[float, ...] = prometheus_client.Histogram.DEFAULT_BUCKETS

    def described(self) -> Described:
        return replace(super().described(), buckets=self.buckets)

    def observe(self, value: float, *, labels: tuple[str, ...] = ()) -> None:
        self._with(labels).observe(value)

    def _make(self) -> prometheus_client.Histogram:
        return prometheus_client.Histogram(
            self.name, self.help, self._labels, registry=_state.registry, buckets=self.buckets
        )


def counter(
    name: MetricName, help: str, labels: Sequence[str] = (), *, series_max: int = 1_000
) -> Counter:
    """Declares a counter, once a process; `name` without `_total`."""
    return Counter(name, help, labels, series_max)


def gauge(
    name: MetricName,
    help: str,
    labels: Sequence[str] = (),
    *,
    combine: Combine = "sum",
    series_max: int = 1_000,
) -> Gauge:
    """Declares a gauge, once a process."""
    made = Gauge(name, help, labels, series_max)
    made.combine = combine
    return made


def histogram(
    name: MetricName,
    help: str,
    labels: Sequence[str] = (),
    *,
    buckets: tuple[float, ...] = prometheus_client.Histogram.DEFAULT_BUCKETS,
    series_max: int = 200,
) -> Histogram:
    """Declares a histogram, once a process; `buckets` are upper bounds in the unit of its name."""
    made = Histogram(name, help, labels, series_max)
    made.buckets = buckets
    return made


def declared() -> list[Described]:
    """Every metric and table that this process knows, by name."""
    found = [metric.described() for metric in _state.declared.values()]
    found += [
        Described(table.name, table.kind, table.help, table.labels)
        for table in metric_tables.declared()
    ]
    return sorted(found, key=lambda item: item.name)


def start(directory: Path, identity: str) -> None:
    """Counts in `directory` from now on, as `identity` (role and slot, e.g. "edge-0").

    No two living processes may share an identity. Call it before anything is counted.
    """
    assert "_" not in identity, "prometheus_client splits file names at underscores"
    directory.mkdir(mode=0o700, exist_ok=True)
    _clear_leftovers(directory, identity)
    values.ValueClass = _multi_process_value(directory, identity)
    metric_tables.start(directory, identity)
    _state.directory = directory
    _renew()


def touch() -> None:
    """Has every metric declared so far rendered, as zero before its first use: for those whose
    modules were imported after `start`."""
    for metric in _state.declared.values():
        metric.touch()


def stop() -> None:
    """Back to this process alone, as before `start`."""
    if _state.directory is None:
        return
    _state.directory = None
    metric_tables.stop()
    values.close_all_multiprocess_files()  # type: ignore[no-untyped-call]
    values.ValueClass = values.MutexValue
    _renew()


def render() -> bytes:
    """All processes' metrics in Prometheus' text format. Cost: reads every process's file."""
    if _state.directory is None:
        source: Collector = _Existing(_state.registry)
    else:
        source = MultiProcessCollector(  # type: ignore[no-untyped-call]
            None, path=str(_state.directory)
        )
    return prometheus_client.generate_latest(_WithTables(source))


class _Existing:
    """Another collector's samples without those that were forgotten."""

    def __init__(self, source: Collector) -> None:
        self._source = source

    def collect(self) -> Iterable[Family]:
        for family in self._source.collect():
            family.samples = [item for item in family.samples if not math.isnan(item.value)]
            if family.samples or family.type != "gauge":
                yield family


class _WithTables:
    """All there is."""

    def __init__(self, source: Collector) -> None:
        self._source = _Existing(source)

    def collect(self) -> Iterable[Family]:
        yield from self._source.collect()
        yield from metric_tables.families(_state.directory)


def _multi_process_value(directory: Path, identity: str) -> type[values.MutexValue]:
    """prometheus_client takes the directory from the environment, each time it opens a file."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    made: type[Any] = values.MultiProcessValue(  # type: ignore[no-untyped-call]
        lambda: identity
    )

    class Value(made):  # type: ignore[misc]  # it has no types
        """It does not look at each count whether its process has been forked: none of ours is."""

        def inc(self, amount: float) -> None:
            with _counting:
                self._value += amount
                file = self._file
                place = file._positions[self._key]  # noqa: SLF001
                file._m[place : place + _PAIR.size] = _PAIR.pack(self._value, 0.0)  # noqa: SLF001

    return Value


def _renew() -> None:
    """Every declared metric is made anew where it now counts."""
    _state.registry = CollectorRegistry()
    for declared in _state.declared.values():
        assert isinstance(declared, _Metric)
        declared._forget_real()  # noqa: SLF001  same module
        declared.touch()


def _clear_leftovers(directory: Path, identity: str) -> None:
    """Drops the dead process's gauges, and any of its files that its death left unreadable."""
    for path in directory.glob(f"*_{identity}.db"):
        if path.name.startswith("gauge_live"):
            path.unlink(missing_ok=True)
            continue
        try:
            for _ in MmapedDict.read_all_values_from_file(  # type: ignore[no-untyped-call]
                str(path)
            ):
                pass
        except (OSError, ValueError, RuntimeError, struct.error):
            path.unlink(missing_ok=True)

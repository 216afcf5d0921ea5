"""The table that ends a benchmark: one line a row, one column a figure that some row has."""

from collections.abc import Sequence
from typing import Final

from benchmarks.results import Figure, Row

_HEADINGS: Final = {
    "bench": "bench",
    "who": "who",
    "clients": "clients",
    "cpu_us": "CPU µs",
    "rss_kib_per_client": "KiB a client",
    "p50_ms": "p50 ms",
    "p95_ms": "p95 ms",
    "p99_ms": "p99 ms",
    "per_second": "a second",
    "lost": "lost",
}


def table(rows: Sequence[Row]) -> str:
    """Columns aligned by spaces, a line a row; below it each row's further figures and notes."""
    lines = [row.line() for row in rows]
    names = [name for name in _HEADINGS if any(name in line for line in lines)]
    cells = [[_HEADINGS[name] for name in names]]
    cells += [[_text(line.get(name)) for name in names] for line in lines]
    if "cpu_us" in names:
        at = names.index("cpu_us") + 1
        units = [f"a {row.unit}" if row.cpu_us is not None else "" for row in rows]
        for row_cells, unit in zip(cells, ["", *units], strict=True):
            row_cells.insert(at, unit)
    widths = [max(len(column[i]) for column in cells) for i in range(len(cells[0]))]
    out = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)) for row in cells]
    for row in rows:
        further = [f"{name.replace('_', ' ')} {_text(value)}" for name, value in row.more.items()]
        told = "; ".join([*further, *([row.note] if row.note else [])])
        if told:
            out.append(f"  {row.bench} {row.who}: {told}")
    return "".join(f"{line.rstrip()}\n" for line in out)


def _text(value: Figure) -> str:
    if value is None:
        return ""
    return f"{value:,.2f}" if isinstance(value, float) else str(value)

"""Bars drawn as SVG text: no library, the same bytes for the same figures, light and dark.

A chart is groups of horizontal bars on one scale, each bar with its label and its value.
"""

from dataclasses import dataclass
from html import escape
from typing import Final

WIDTH: Final = 720
_LEFT: Final = 150
_RIGHT: Final = 90
_TOP: Final = 58
_BAR: Final = 20
_GAP: Final = 4
_GROUP_HEAD: Final = 24
_GROUP_GAP: Final = 12
_FOOT: Final = 20
_FOOT_LINE: Final = 15
_STYLE: Final = """\
text { font: 13px system-ui, sans-serif; fill: #1f2933; }
.title { font-size: 16px; font-weight: 600; }
.quiet { font-size: 11px; fill: #66727f; }
.group { font-weight: 600; }
.bar { fill: #9aa7b4; }
.own { fill: #1a7f5a; }
.floor { fill: #c9d1d9; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6eaee; } .quiet { fill: #9aa7b4; }
  .bar { fill: #66727f; } .own { fill: #3fbf8f; } .floor { fill: #3a444e; }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One value. `kind`: own, floor or bar (a rival)."""

    label: str
    value: float
    kind: str = "bar"


@dataclass(frozen=True, slots=True)
class Group:
    """Bars under one heading; an empty heading takes no room."""

    heading: str
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Chart:
    """What is drawn. `foot`: lines that say where the figures come from."""

    title: str
    subtitle: str
    groups: tuple[Group, ...]
    foot: tuple[str, ...]


def svg(chart: Chart) -> str:
    """The chart as an SVG document. Raises ValueError when it has no bars."""
    values = [bar.value for group in chart.groups for bar in group.bars]
    if not values:
        raise ValueError(f"nothing to draw: {chart.title}")
    scale = (WIDTH - _LEFT - _RIGHT) / (max(values) or 1.0)
    parts: list[str] = []
    y = _TOP
    for group in chart.groups:
        if group.heading:
            parts.append(_text(0, y + 14, group.heading, "group"))
            y += _GROUP_HEAD
        for bar in group.bars:
            parts.append(_bar(bar, y, scale))
            y += _BAR + _GAP
        y += _GROUP_GAP
    height = y + _FOOT - _GROUP_GAP + _FOOT_LINE * len(chart.foot)
    foot = [_text(0, height - 10 - _FOOT_LINE * n, line, "quiet") for n, line in _up(chart.foot)]
    head = [_text(0, 18, chart.title, "title"), _text(0, 38, chart.subtitle, "quiet")]
    body = "\n".join([*head, *parts, *foot])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(chart.title)}">\n<style>\n{_STYLE}</style>\n{body}\n</svg>\n'
    )


def _up(lines: tuple[str, ...]) -> list[tuple[int, str]]:
    """Lines with how far each is from the last."""
    return [(len(lines) - 1 - n, line) for n, line in enumerate(lines)]


def _bar(bar: Bar, y: int, scale: float) -> str:
    width = max(bar.value * scale, 1.0)
    middle = y + _BAR - 6
    return (
        f"{_text(_LEFT - 8, middle, bar.label, '', anchor='end')}\n"
        f'<rect class="{bar.kind}" x="{_LEFT}" y="{y}" width="{width:.1f}" height="{_BAR}"'
        f' rx="2"/>\n{_text(_LEFT + width + 6, middle, number(bar.value))}'
    )


def _text(x: float, y: int, text: str, kind: str = "", *, anchor: str = "") -> str:
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' text-anchor="{anchor}"' if anchor else ""
    return f'<text x="{x:g}" y="{y}"{attributes}>{escape(text)}</text>'


def number(value: float) -> str:
    """Three figures that matter, thousands apart."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"

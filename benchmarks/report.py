"""`nexus bench report`: draws what `benchmarks/results.jsonl` holds into `docs/figures/`.

Of each benchmark the newest comparison is drawn: the last run in which a rival (or the kernel's
floor) was measured beside us, else our own last run. Nothing is averaged or left out here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.chart import Bar, Chart, Group, svg
from benchmarks.results import ROOT, Figure, in_working_copy

FIGURES: Final = ROOT / "docs/figures"
OWN: Final = "nexus"
_NAMES: Final = {
    "nexus": "Nexus COS",
    "mediamtx": "MediaMTX",
    "livekit": "LiveKit",
    "nginx": "nginx",
    "floor": "kernel alone",
}

Line = dict[str, Figure]
Heading = Callable[[Line], str]


@dataclass(frozen=True, slots=True)
class Picture:
    """One file: which figure of which benchmark, and how its groups are called."""

    name: str
    bench: str
    figures: tuple[tuple[str, str], ...]
    """Name in the line, heading of its group."""
    title: str
    subtitle: str
    divisor: float = 1.0


PICTURES: Final = (
    Picture(
        "webrtc-cpu",
        "webrtc.fanout",
        (("cpu_us", ""),),
        "WebRTC out: CPU for a packet",
        "Microseconds, user and system, of all the server's processes; 720p30, 1.55 Mb/s",
    ),
    Picture(
        "webrtc-latency",
        "webrtc.fanout",
        (("p50_ms", "half of the pictures within"), ("p99_ms", "99 % within")),
        "WebRTC out: a picture's way through the server",
        "Milliseconds from the publisher's sending to the last packet read, over all viewers",
    ),
    Picture(
        "webrtc-memory",
        "webrtc.fanout",
        (("rss_kib_per_client", ""),),
        "WebRTC out: memory for a viewer",
        "KiB resident, all processes",
    ),
    Picture(
        "webrtc-workers",
        "webrtc.workers",
        (("cpu_us", ""),),
        "One stream on several packet workers: CPU for a packet",
        "Microseconds, user and system, of all the server's processes",
    ),
    Picture(
        "webrtc-join",
        "webrtc.join",
        (("p50_ms", "half connected within"), ("p95_ms", "95 % within")),
        "Joining: from POST to connected",
        "Milliseconds, one viewer after another",
    ),
    Picture(
        "webrtc-join-cpu",
        "webrtc.join",
        (("cpu_us", ""),),
        "Joining: CPU for a viewer",
        "Milliseconds, user and system, of all the server's processes",
        divisor=1_000,
    ),
    Picture(
        "hls-request",
        "hls.request",
        (("cpu_us", "{unit}"),),
        "LL-HLS: CPU for a request",
        "Microseconds, user and system, of the serving process",
    ),
    Picture(
        "hls-part-age",
        "hls.part_wake",
        (("p50_ms", "half, {clients} viewers, {unit}"),),
        "LL-HLS: age of a part when its last byte has arrived",
        "Milliseconds since it was published, at viewers who waited for it",
    ),
)


def default_folder() -> Path:
    """The documentation's in a working copy, `figures` in the current folder elsewhere."""
    return FIGURES if in_working_copy() else Path("figures")


def newest(lines: Sequence[Line], bench: str) -> list[Line]:
    """The lines of the comparison to draw; none when the benchmark was never run."""
    runs: dict[str, list[Line]] = {}
    for line in lines:
        if line["bench"] == bench:
            runs.setdefault(str(line["run"]), []).append(line)

    def rivals(run: list[Line]) -> int:
        return len({line["who"] for line in run} - {OWN, "floor"})

    for wanted in (rivals, lambda run: len({line["who"] for line in run}) - 1, len):
        found = [run for run in runs.values() if wanted(run) > 0]
        if found:
            return found[-1]
    return []


def chart(picture: Picture, lines: Sequence[Line]) -> Chart | None:
    """The picture of one comparison; None when it lacks the figure."""
    run = newest(lines, picture.bench)
    groups: dict[str, list[Bar]] = {}
    for figure, heading in picture.figures:
        for line in run:
            value = line.get(figure)
            if isinstance(value, int | float):
                words = {name: str(line.get(name, "")) for name in ("unit", "clients")}
                bars = groups.setdefault(heading.format(**words), [])
                bars.append(Bar(_label(line), value / picture.divisor, _kind(line)))
    if not groups:
        return None
    made = tuple(Group(heading, tuple(bars)) for heading, bars in groups.items())
    clients = max(int(line["clients"] or 0) for line in run if line["who"] != "floor")
    return Chart(picture.title, f"{picture.subtitle}; {clients} clients", made, _foot(run))


def write(lines: Sequence[Line], folder: Path) -> list[Path]:
    """Draws every picture for which there are lines; the files written. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for picture in PICTURES:
        drawn = chart(picture, lines)
        if drawn is not None:
            path = folder / f"{picture.name}.svg"
            path.write_text(svg(drawn), encoding="utf-8")
            written.append(path)
    return written


def _label(line: Line) -> str:
    who = str(line["who"])
    name = _NAMES.get(who, who)
    count = line.get("workers")
    return f"{count} worker{'' if count == 1 else 's'}" if count else name


def _kind(line: Line) -> str:
    return {OWN: "own", "floor": "floor"}.get(str(line["who"]), "bar")


def _foot(run: Sequence[Line]) -> tuple[str, ...]:
    last = run[-1]
    machine = f", {last['machine']}" if last.get("machine") else ""
    repeats = f", median of {last['repeats']}" if last.get("repeats") else ""
    origin = f"{last['run']}, commit {last['commit']}{repeats}{machine}"
    return (origin, str(last["note"])) if last.get("note") else (origin,)

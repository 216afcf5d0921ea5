"""Pictures of results: which comparison is drawn, that it is sound SVG, the same each time."""

import json
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from benchmarks import command, report
from benchmarks.chart import Bar, Chart, Group, number, svg

SVG = "{http://www.w3.org/2000/svg}"


def line(run: str, who: str, cpu_us: float, **more: object) -> report.Line:
    head = {"run": run, "commit": "abc", "bench": "webrtc.fanout", "who": who, "clients": 200}
    return {**head, "unit": "packet", "cpu_us": cpu_us, **more}  # type: ignore[dict-item]


def test_the_newest_run_with_a_rival_is_drawn() -> None:
    alone = [line("1", "nexus", 9.0)]
    beside = [line("2", "nexus", 4.0), line("2", "mediamtx", 14.0)]
    floor = [line("3", "nexus", 3.9), line("3", "floor", 2.9)]
    assert report.newest([*alone], "webrtc.fanout") == alone
    assert report.newest([*alone, *floor], "webrtc.fanout") == floor
    assert report.newest([*alone, *beside, *floor], "webrtc.fanout") == beside
    assert report.newest(alone, "hls.request") == []


def test_bars_are_as_long_as_their_values() -> None:
    bars = (Bar("ours & theirs", 4.0, "own"), Bar("rival", 16.0))
    drawn = svg(
        Chart("CPU <a packet>", "µs", (Group("group", bars), Group("", bars)), ("foot", "note"))
    )
    root = ET.fromstring(drawn)
    widths = [float(rect.attrib["width"]) for rect in root.iter(f"{SVG}rect")]
    assert [round(widths[1] / width, 2) for width in widths] == [4.0, 1.0, 4.0, 1.0]
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert words[:2] == ["CPU <a packet>", "µs"]
    assert {"ours & theirs", "group", "4.00", "16.0", "foot", "note"} <= set(words)
    right = max(float(text.attrib["x"]) for text in root.iter(f"{SVG}text"))
    assert right < 720
    with pytest.raises(ValueError, match="nothing to draw"):
        svg(Chart("empty", "", (), ()))


def test_numbers_show_three_figures() -> None:
    assert [number(value) for value in (0.123, 4.0, 12.34, 4170.2)] == [
        "0.12",
        "4.00",
        "12.3",
        "4,170",
    ]


def test_the_command_draws_what_there_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        line("1", "nexus", 4.0, p50_ms=2.0, p99_ms=5.5, machine="2 x this", repeats=3),
        line("1", "livekit", 16.7, p50_ms=9.0, p99_ms=None, machine="2 x this", repeats=3),
    ]
    path, folder = tmp_path / "results.jsonl", tmp_path / "figures"
    path.write_text("".join(json.dumps(each) + "\n" for each in lines))
    words = ["report", "--results", str(path), "--figures", str(folder)]
    assert command.run(words) == command.EXIT_OK
    drawn = sorted(file.name for file in folder.iterdir())
    assert drawn == ["webrtc-cpu.svg", "webrtc-latency.svg"]
    assert sorted(Path(said).name for said in capsys.readouterr().out.split()) == drawn
    cpu = (folder / "webrtc-cpu.svg").read_text()
    assert "LiveKit" in cpu
    assert "1, commit abc, median of 3, 2 x this" in cpu
    assert command.run(words) == command.EXIT_OK
    assert (folder / "webrtc-cpu.svg").read_text() == cpu
    path.write_text("no line\n")
    assert command.run(words) == command.EXIT_FAILED


def test_every_picture_of_the_documentation_can_be_drawn_and_is_shown() -> None:
    page = (report.ROOT / "docs/benchmarks.md").read_text()
    for picture in report.PICTURES:
        if (report.FIGURES / f"{picture.name}.svg").is_file():
            assert f"figures/{picture.name}.svg" in page
    for file in report.FIGURES.glob("*.svg"):
        assert file.stem in {picture.name for picture in report.PICTURES}
        ET.parse(file)

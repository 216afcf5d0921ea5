"""Rows: what is written of them, the median of repeats, the table, the progress bar."""

import io
import json
import re
from pathlib import Path

import pytest

from benchmarks import command, hls_load, results, webrtc_load
from benchmarks.progress import Progress
from benchmarks.results import Row
from benchmarks.table import table


def row(cpu_us: float = 4.0, lost: int = 0, **more: int) -> Row:
    return Row(bench="webrtc.fanout", clients=3, unit="packet", cpu_us=cpu_us, lost=lost, more=more)


def test_rows_are_appended_as_whole_lines_with_run_commit_and_machine(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results.append([row(), row(who_knows=7)], path)
    results.append([row(5.5)], path)
    read = results.read(path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == read
    assert read[0]["run"] == read[1]["run"] != read[2]["run"]
    assert [line["cpu_us"] for line in read] == [4.0, 4.0, 5.5]
    assert read[1]["who_knows"] == 7
    assert re.fullmatch(r"[0-9a-f]{7,}\+?|unknown", str(read[0]["commit"]))
    assert re.match(r"\d+ x .+, Linux \d", str(read[0]["machine"]))
    assert isinstance(read[0]["load_before"], float)
    assert "p50_ms" not in read[0]


def test_the_checked_in_results_can_be_read() -> None:
    for line in results.read(results.CHECKED_IN):
        assert {"run", "commit", "bench", "who", "clients", "unit"} <= line.keys()


def test_repeats_become_their_median() -> None:
    rows = [row(4.0, lost=1, wakes=9), row(9.0, lost=0, wakes=1), row(5.0, lost=0, wakes=2)]
    (middle,) = results.median(rows)
    assert (middle.cpu_us, middle.lost, middle.more) == (5.0, 1, {"wakes": 2, "repeats": 3})
    other = Row(bench="webrtc.fanout", who="floor", clients=3, unit="packet", cpu_us=1.0)
    assert results.median([*rows, other])[1] == other


def test_the_table_has_the_columns_that_were_measured() -> None:
    lines = table([row(12.345, wakes=3), row(1000.5)]).splitlines()
    assert lines[0].split() == ["bench", "who", "clients", "CPU", "µs", "lost"]
    assert lines[1].split() == ["webrtc.fanout", "nexus", "3", "12.35", "a", "packet", "0"]
    assert "1,000.50" in lines[2]
    assert lines[3].strip() == "webrtc.fanout nexus: wakes 3"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_drawn_on_a_terminal_only() -> None:
    for out, drawn in ((io.StringIO(), False), (Terminal(), True)):
        with Progress(4, out) as progress:
            progress.say("joining")
            progress.advance(3)
            assert progress.bar().endswith("]  75% joining")
        assert bool(out.getvalue()) is drawn


@pytest.mark.parametrize("bench", [hls_load, webrtc_load])
def test_each_benchmark_is_a_command(bench: object) -> None:
    name = {hls_load: "hls", webrtc_load: "webrtc"}[bench]  # type: ignore[index]
    chosen = command.parser().parse_args([name, "--viewers", "7", "--no-record"])
    assert (chosen.bench, chosen.viewers, chosen.record, chosen.repeat) == (name, 7, False, 1)


@pytest.mark.parametrize(
    "words", [["--viewers", "0"], ["--seconds", "nan"], ["--workers", "1,x"], ["--repeat", "two"]]
)
def test_numbers_that_make_no_sense_are_refused(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command.parser().parse_args(["webrtc", *words])
    assert ended.value.code == command.EXIT_ARGUMENTS
    assert words[0] in capsys.readouterr().err


def test_workers_to_compare_are_a_list() -> None:
    chosen = command.parser().parse_args(["webrtc", "--workers", "1,2"])
    assert chosen.workers == (1, 2)


def test_wrong_arguments_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.run(["webrtc", "--webrtc.workers"]) == command.EXIT_ARGUMENTS
    assert "a value is missing" in capsys.readouterr().err
    assert command.run(["webrtc", "--url", "http://127.0.0.1:1", "--no-record"]) == 1
    assert "no node found that serves" in capsys.readouterr().err

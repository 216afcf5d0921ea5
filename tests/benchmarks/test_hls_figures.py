"""The HLS figures that are claimed, each held in one run beside nginx: `make prove`.

Three turns each, and their median. The lines stay in `benchmarks/results.jsonl`. They hold on a
machine that does nothing else and has two cores.
"""

import pytest

from benchmarks import command, results
from benchmarks.results import Figure

pytestmark = pytest.mark.prove

VIEWERS = 500
HERD = 2_000
Line = dict[str, Figure]


@pytest.fixture(scope="module")
def lines() -> list[Line]:
    words = ["hls", "--viewers", str(VIEWERS), "--herd", str(HERD), "--seconds", "5"]
    assert command.run([*words, "--repeat", "3"]) == command.EXIT_OK
    read = results.read(results.default_path())
    return [line for line in read if line["run"] == read[-1]["run"]]


def one(lines: list[Line], **what: Figure) -> Line:
    found = [line for line in lines if what.items() <= line.items()]
    assert len(found) == 1, f"{what}: {len(found)} lines"
    return found[0]


def figure(line: Line, name: str) -> float:
    value = line.get(name)
    assert isinstance(value, int | float), f"no {name} in {line}"
    return float(value)


@pytest.mark.parametrize(
    ("unit", "ratio_max"), [("playlist", 1.0), ("part", 1.4), ("segment", 1.4)]
)
def test_a_request_costs_what_it_costs_nginx(
    lines: list[Line], unit: str, ratio_max: float
) -> None:
    own = one(lines, bench="hls.request", unit=unit, who="nexus")
    rival = one(lines, bench="hls.request", unit=unit, who="nginx")
    assert own["lost"] == rival["lost"] == 0
    assert figure(own, "cpu_us") <= ratio_max * figure(rival, "cpu_us")


def test_a_part_is_soon_with_players_who_wait_for_it(lines: list[Line]) -> None:
    line = one(lines, bench="hls.part_wake", clients=VIEWERS)
    assert line["lost"] == 0
    assert figure(line, "p50_ms") <= 20


def test_a_part_is_soon_with_the_last_of_a_herd(lines: list[Line]) -> None:
    line = one(lines, bench="hls.part_wake", clients=HERD)
    assert line["lost"] == 0
    assert figure(line, "parts") >= 1
    assert figure(line, "last_ms") <= 100
    assert figure(line, "rss_kib_per_client") <= 16

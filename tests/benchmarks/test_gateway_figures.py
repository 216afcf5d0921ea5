"""What a business request may cost, held in one run on this machine's cores: `make prove`.

Three turns of each layer, and their median. The lines stay in `benchmarks/results.jsonl`. They hold
on a machine that does nothing else and has two cores.
"""

import pytest

from benchmarks import command, results
from benchmarks.results import Figure

pytestmark = pytest.mark.prove

Line = dict[str, Figure]


@pytest.fixture(scope="module")
def lines() -> dict[str, Line]:
    """The run's lines by their unit."""
    assert command.run(["gateway", "--repeat", "3"]) == command.EXIT_OK
    read = results.read(results.default_path())
    return {str(line["unit"]): line for line in read if line["run"] == read[-1]["run"]}


def figure(line: Line, name: str) -> float:
    value = line.get(name)
    assert isinstance(value, int | float), f"no {name} in {line}"
    return float(value)


@pytest.mark.parametrize(("layer", "per_second_min"), [("+ database", 10_000), ("+ limit", 20_000)])
def test_so_many_requests_a_second_on_two_cores(
    lines: dict[str, Line], layer: str, per_second_min: float
) -> None:
    line = lines[f"request: {layer}"]
    assert figure(line, "per_second") >= per_second_min
    assert figure(line, "p95_ms") < 200
    asked = figure(line, "per_second") * 8
    assert figure(line, "lost") < asked / 1_000


@pytest.mark.parametrize("layer", ["http", "+ token", "+ limit"])
def test_the_gateway_adds_little_at_half_load(lines: dict[str, Line], layer: str) -> None:
    """Without a database all of the time is the gateway's."""
    assert figure(lines[f"request at half load: {layer}"], "p99_ms") < 5


def test_every_layer_is_told(lines: dict[str, Line]) -> None:
    layers = ["aiohttp", "http", "+ token", "+ limit", "+ database"]
    assert [unit for unit in lines if unit.startswith("request: ")] == [
        f"request: {layer}" for layer in layers
    ]
    assert all(figure(line, "edge_cpu_us") > 0 for line in lines.values())

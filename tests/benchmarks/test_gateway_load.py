"""`nexus bench gateway` against real workers and a real PostgreSQL: it counts real answers."""

import json
from pathlib import Path

import pytest

from benchmarks import command, gateway_load


def test_it_measures_and_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The first and the last layer: without any rule, and with every one of them.
    monkeypatch.setattr(
        gateway_load, "LAYERS", gateway_load.LAYERS[:: len(gateway_load.LAYERS) - 1]
    )
    results = tmp_path / "results.jsonl"
    words = ["gateway", "--seconds", "1", "--workers", "1", "--results", str(results)]
    assert command.run(words) == command.EXIT_OK
    lines = [json.loads(line) for line in results.read_text().splitlines()]
    assert [line["unit"] for line in lines] == [
        "request: aiohttp",
        "request at half load: aiohttp",
        "request: + database",
        "request at half load: + database",
    ]
    for line in lines:
        assert line["lost"] == 0
        assert line["per_second"] > 0
        assert line["edge_cpu_us"] > 0
    assert lines[2]["postgres_cpu_us"] > 1 > lines[0]["postgres_cpu_us"]


def test_without_wrk_it_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    assert command.run(["gateway", "--no-record"]) == command.EXIT_FAILED
    assert "wrk" in capsys.readouterr().err

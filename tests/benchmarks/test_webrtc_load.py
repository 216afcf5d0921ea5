"""`nexus bench webrtc` on a real node, small: what its rows say, and what it leaves behind."""

import asyncio
import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest

from benchmarks import command, results, target, webrtc_measure
from benchmarks.generator_process import GeneratorProcess
from benchmarks.peers import livekit
from benchmarks.target import Door

SMALL = ("--viewers", "6", "--seconds", "1", "--joins", "4", "--open-every", "1")


def test_it_measures_a_node_of_its_own_and_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.jsonl"
    words = ["webrtc", *SMALL, "--results", str(path), "--note", "small", "--webrtc.workers=2"]
    assert command.run(words) == command.EXIT_OK
    printed = capsys.readouterr().out
    lines = results.read(path)
    assert [(line["bench"], line["who"]) for line in lines] == [
        ("webrtc.fanout", "floor"),
        ("webrtc.fanout", "nexus"),
        ("webrtc.join", "nexus"),
        ("webrtc.join_crowd", "nexus"),
    ]
    floor, fanout, join, crowd = lines
    assert {line["run"] for line in lines} == {floor["run"]}
    assert all(line["note"] == "small" and str(line["bench"]) in printed for line in lines)
    assert (fanout["clients"], fanout["connected"], fanout["lost"]) == (6, 6, 0)
    assert (fanout["decrypt_errors"], fanout["index_repeats"]) == (0, 0)
    assert 120 <= int(str(fanout["frames_timed"])) <= 400
    assert 0 < float(str(fanout["p50_ms"])) <= float(str(fanout["p99_ms"])) < 1_000
    assert 45 < float(str(fanout["largest_share_percent"])) < 75
    assert float(str(fanout["media_cpu_us"])) <= float(str(fanout["cpu_us"]))
    for row in (join, crowd):
        assert row["clients"] == 4
        assert float(str(row["cpu_us"])) > 100
        assert 0 < float(str(row["p50_ms"])) <= float(str(row["p95_ms"]))


async def test_a_running_node_is_measured_from_outside_and_is_left_as_it_was() -> None:
    async with target.own({}) as node:
        assert isinstance(node, target.Nexus)
        again = target.running(node.url, run_dir=node.run_dir)
        before = set(node.pids())
        async with GeneratorProcess() as publisher, GeneratorProcess() as viewers:
            await publisher.publish(again.publish("s"))
            times = await viewers.join([again.play("s", 1)] * 3, parallel=3, retry_seconds=10)
            assert len(times) == 3
            received = await viewers.count()
            assert (received["connected"], len(received["ports"])) == (3, len(received["ports"]))
            await viewers.leave()
            assert (await viewers.count())["connected"] == 0
        assert set(node.pids()) == before


async def test_what_goes_wrong_in_a_generator_is_told() -> None:
    async with GeneratorProcess() as generator:
        with pytest.raises(LookupError, match="publish: "):
            await generator.publish(Door("http://127.0.0.1:1/whip/s"))
        with pytest.raises(LookupError, match="join: "):
            await generator.join([Door("http://127.0.0.1:1/whep/s")])
        assert (await generator.count())["packets"] == 0


def test_missing_programs_of_rivals_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["webrtc", *SMALL, "--no-record", "--mediamtx", "/nowhere/mediamtx"]
    assert command.run(words) == command.EXIT_FAILED
    assert "--mediamtx: there is no program" in capsys.readouterr().err


def test_a_rivals_token_is_signed_as_the_standard_says() -> None:
    token = livekit.signed({"iss": "key", "sub": "me"}, "secret")
    head, body, mark = token.split(".")
    wanted = hmac.new(b"secret", f"{head}.{body}".encode(), hashlib.sha256).digest()
    assert base64.urlsafe_b64decode(mark + "=") == wanted
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["sub"] == "me"
    assert claims["nbf"] < claims["exp"]


def test_the_floor_is_a_row_of_its_own() -> None:
    row = asyncio.run(asyncio.to_thread(webrtc_measure.floor, "quiet"))
    assert (row.bench, row.who, row.note, row.lost) == ("webrtc.fanout", "floor", "quiet", 0)
    assert row.cpu_us is not None
    assert row.cpu_us > float(str(row.more["gso_cpu_us"])) > 0

"""`nexus bench hls` against a real server and a real nginx: it counts what was really answered."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks import command, results
from benchmarks.hls_client import Connection, Engine, get

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: video/mp4\r\ncontent-length: %d\r\n\r\n"


@contextmanager
def speaking(pieces: list[bytes]) -> Iterator[tuple[str, int]]:
    """A server that says these pieces, one after another, to its only client's requests."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def speak() -> None:
            peer, _ = listening.accept()
            with peer:
                peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                for piece in pieces:
                    if piece:
                        peer.sendall(piece)
                    else:
                        peer.recv(65_536)

        speaker = threading.Thread(target=speak)
        speaker.start()
        yield listening.getsockname()
        speaker.join()


def test_an_answer_is_read_to_its_last_byte_however_it_is_cut() -> None:
    body = bytes(range(256)) * 1_000
    whole = HEAD % len(body) + body
    cuts = [1, 20, 60, 80, 3_000, len(whole)]
    pieces = [whole[a:b] for a, b in zip([0, *cuts], cuts, strict=False)]
    got: list[tuple[bytes, int, bytes | None]] = []

    def take(connection: Connection) -> None:
        got.append((connection.status, connection.size, connection.body))

    with speaking([b"", *pieces, b"", *pieces, b"", HEAD % 0]) as address:
        engine = Engine(address)
        connection = Connection(engine, take)
        for keep in (True, False, False):
            before = len(got)
            connection.ask(get("/x"), keep=keep)
            while len(got) == before:
                engine.turn(float("inf"))
        engine.close()
    assert got[0] == (b"200", len(whole), body)
    assert got[1] == (b"200", len(whole), None)
    assert got[2][:2] == (b"200", len(HEAD % 0))


def test_the_bench_counts_what_a_server_and_nginx_answer(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    options = "--seconds 0.5 --connections 4 --viewers 10 --herd 20"
    cores = os.sched_getaffinity(0)
    assert command.run(["hls", *options.split(), "--results", str(path)]) == 0
    threads = [int(task.name) for task in Path("/proc/self/task").iterdir()]
    assert {thread: os.sched_getaffinity(thread) for thread in threads} == dict.fromkeys(
        threads, cores
    )
    lines = results.read(path)
    requests = {(x["unit"], x["who"]): x for x in lines if x["bench"] == "hls.request"}
    assert len(requests) == 6
    for unit, low, high in (
        ("playlist", 1_000, 6_000),
        ("part", 25_000, 60_000),
        ("segment", 150_000, 280_000),
    ):
        for who in ("nexus", "nginx"):
            line = json.loads(json.dumps(requests[unit, who]))
            assert low < line["bytes"] < high
            assert line["lost"] == 0
            assert line["cpu_us"] > 0
            assert line["per_second"] > 0
    herd, players = (x for x in lines if x["bench"] == "hls.part_wake")
    assert (players["clients"], herd["clients"]) == (10, 20)
    assert players["lost"] == herd["lost"] == 0
    for figure in (players["p50_ms"], players["p99_ms"], herd["last_ms"]):
        assert isinstance(figure, float)
        assert 0 < figure < 5_000

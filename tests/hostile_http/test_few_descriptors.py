"""When descriptors are few: fewer connections, said so, and what is needed stays possible."""

import asyncio
import contextlib
import os
import re
import resource
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from edge.http_settings import HttpSettings
from ops import descriptors
from tests.edge.conftest import Running, Start, eventually
from tests.edge.test_tls import write_pair
from tests.end_to_end.family import Family, fetch, wait_until

LIMIT = 256
LIVE = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"


def number(metrics: bytes, name: str) -> float:
    found = re.search(rf"^{name} ([\d.e+]+)$", metrics.decode(), flags=re.MULTILINE)
    assert found is not None, name
    return float(found[1])


@contextlib.contextmanager
def crowd(port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many connections that say nothing."""
    socks = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(count)]
    try:
        yield socks
    finally:
        for sock in socks:
            sock.close()


def refused(socks: list[socket.socket]) -> list[bytes]:
    """What those were told that were told anything."""
    said = []
    for sock in socks:
        sock.settimeout(0)
        with contextlib.suppress(OSError):
            said.append(sock.recv(4_096))
    return said


def playlist(connection: socket.socket, family: Family) -> bytes:
    """The demo's present video playlist, on a connection that is there already."""
    host = f"127.0.0.1:{family.port}".encode()
    connection.sendall(b"GET /hls/demo/v/live.m3u8 HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    said = b""
    while b"\r\n\r\n" not in said:
        said += connection.recv(65_536)
    head, _, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None, head
    while len(body) < int(length[1]):
        body += connection.recv(65_536)
    assert b" 200 OK" in head, head
    return body


def test_a_node_with_256_descriptors_sheds_and_serves(tmp_path: Path) -> None:
    settings = {"NEXUS_EDGE_WORKERS": "1", "NEXUS_EDGE_HEAD_SECONDS": "30"}
    family = Family(tmp_path, demo=True, **settings)
    family.prefix = ["bash", "-c", f'ulimit -n {LIMIT}; exec "$@"', "bash"]
    with family:
        wait_until("the demo is live", lambda: family.live("demo"), 30)
        room = number(fetch(f"{family.url}/metrics")[1], "nexus_edge_connections_max")
        assert 50 < room < LIMIT - 64
        assert "fewer connections than edge.connections_max" in family.log_path.read_text()
        pids = family.pids()
        edge = psutil.Process(family.pids("edge")[0])
        with (
            socket.create_connection(("127.0.0.1", family.port), timeout=10) as viewer,
            crowd(family.port, 2 * LIMIT) as socks,
        ):
            before = playlist(viewer, family)
            said: list[bytes] = []

            def shed() -> bool:
                said.extend(item for item in refused(socks) if item)
                return len(said) >= 2 * LIMIT - room

            wait_until("who found no room is told so", shed, 15)
            assert all(b" 503 " in item and b"Retry-After: 1\r\n" in item for item in said)
            for path in ("/livez", "/metrics", "/api/v1/streams"):
                url = family.url + path
                wait_until("an operator gets through", lambda url=url: fetch(url)[0] == 200)
            wait_until("parts go on", lambda: playlist(viewer, family) != before, 10)
            cpu, began = sum(edge.cpu_times()[:2]), time.monotonic()
            wait_until("two seconds", lambda: time.monotonic() - began > 2)
            assert sum(edge.cpu_times()[:2]) - cpu < 1.0, "it spins"
            assert edge.num_fds() < LIMIT - 16
        wait_until(
            "there is room again", lambda: fetch(f"{family.url}/hls/demo/index.m3u8")[0] == 200
        )
        assert family.pids() == pids


@pytest.mark.parametrize("https", [False, True], ids=["http", "https"])
async def test_running_out_ends_neither_the_worker_nor_its_rest(
    start: Start, tmp_path: Path, *, https: bool
) -> None:
    """Somebody else in the process has taken every descriptor."""
    running: Running = await start(
        https=https,
        edge=HttpSettings(head_seconds=30),
        **({"tls": write_pair(tmp_path)} if https else {}),
    )
    loop = asyncio.get_running_loop()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    socks = [socket.socket() for _ in range(20)]
    port = running.https_port if https else running.port
    try:
        for sock in socks:
            sock.settimeout(0)
        lowest = os.dup(0)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        for sock in socks:
            await loop.sock_connect(sock, ("127.0.0.1", port))
        spent, began = time.process_time(), time.monotonic()
        await eventually(lambda: time.monotonic() - began > 1)
        # Looking at the clock costs what it costs: a loop of ours that spins would take it all.
        assert time.process_time() - spent < 0.8
        assert running.worker.door.count == 0
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        if https:
            await eventually(lambda: running.worker.door.count == 20)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for sock in socks:
            sock.close()
    await eventually(lambda: running.worker.door.count == 0)
    said = await running.raw(LIVE, until=b'"ok"}')
    assert said.startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    ("limit", "taken", "connections", "end"),
    [(20_000, 30, 18_000, 19_872), (1_024, 30, 738, 896), (256, 30, 113, 200), (32, 30, 1, 32)],
)
def test_connections_fit_what_the_limit_carries(
    limit: int, taken: int, connections: int, end: int
) -> None:
    room = descriptors.room(limit=limit, taken=taken, wanted=18_000, reserved=256)
    assert room == descriptors.Room(connections, end)

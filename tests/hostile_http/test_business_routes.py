"""Hostile clients of the business routes of a whole node: whoever behaves is served all along.

A hundred slow and deaf connections, bodies of a gigabyte and a corpus of smuggled requests come at
once. What is hidden behind a smuggled request never runs, and afterwards the node holds no more
than before.
"""

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.edge.conftest import eventually
from tests.edge.gateway.test_hostile import ANSWER, SMUGGLED
from tests.end_to_end.conftest import PROVE
from tests.end_to_end.figures import percentile, say
from tests.end_to_end.test_services import LISTS, SHOW, Node
from tests.fakes.slow_clients import SlowClients
from tests.fakes.state_node import ask_postgres, data_directory

SECONDS = 20.0 if PROVE else 4.0
"""How long all of them come at once."""
NORMAL = 5
ANSWER_SECONDS_MAX = 5.0
TIMES_MAX = 10.0
LEAST_MS = 2.0
"""Below this a waiting time is the machine's mood."""
GIGABYTE = 1_073_741_824
GROWN_MIB_MAX = 64.0
PIECE = b"x" * 65_536


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with data_directory() as data:
        made = Node(tmp_path_factory.mktemp("node"), data)
        made.environment |= {
            f"NEXUS_EDGE_{name}_SECONDS": "2" for name in ("HEAD", "BODY", "STALLED", "IDLE")
        }
        with made:
            yield made


def head(node: Node, method: str, path: str, *fields: str) -> bytes:
    """The head of a request of somebody who may do everything."""
    lines = [
        f"{method} {path} HTTP/1.1",
        f"Host: 127.0.0.1:{node.port}",
        f"Authorization: Bearer {node.token}",
        *fields,
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def normal(node: Node, path: str, over: asyncio.Event) -> list[float]:
    """Milliseconds from each request to its whole answer, on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
    took = []
    while not over.is_set():
        began = time.perf_counter()
        writer.write(head(node, "GET", path))
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            said = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert b" 200 ok" in said, said
            length = re.search(rb"content-length: (\d+)", said)
            assert length is not None, said
            await reader.readexactly(int(length[1]))
        took.append((time.perf_counter() - began) * 1_000)
        await asyncio.sleep(0.02)
    writer.close()
    return took


async def normals(node: Node, path: str, over: asyncio.Event) -> list[float]:
    rows = await asyncio.gather(*(normal(node, path, over) for _ in range(NORMAL)))
    return list(itertools.chain.from_iterable(rows))


async def alone(node: Node, path: str, seconds: float) -> list[float]:
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    return await normals(node, path, over)


async def gigabytes(node: Node, over: asyncio.Event, *, chunked: bool) -> int:
    """Sends such bodies one after another; how many were refused."""
    field = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {GIGABYTE}"
    piece = b"10000\r\n" + PIECE + b"\r\n" if chunked else PIECE
    refused = 0
    while not over.is_set():
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(head(node, "POST", LISTS, "Content-Type: application/json", field))
        sent = 0
        async with asyncio.timeout(ANSWER_SECONDS_MAX * 4):
            with contextlib.suppress(ConnectionError):
                while not writer.transport.is_closing():
                    writer.write(piece)
                    await writer.drain()
                    sent += len(piece)
                    await asyncio.sleep(0)
            with contextlib.suppress(ConnectionError):
                said = await reader.read(65_536)
                assert said.startswith(b"HTTP/1.1 413 "), said
        writer.transport.abort()
        # For a second it is read and dropped, so that a client sees why; then the connection ends.
        assert sent < GIGABYTE
        refused += 1
    return refused


async def smuggle(node: Node, over: asyncio.Event) -> int:
    """Sends the corpus over and over, each with a write hidden behind it; how often."""
    body = b'{"name":"smuggled","capacity":1,"ends_at":"2030-01-01T00:00:00Z"}'
    length = f"Content-Length: {len(body)}"
    hidden = head(node, "POST", LISTS, "Content-Type: application/json", length) + body
    count = 0
    while not over.is_set():
        for name, data in SMUGGLED.items():
            wrong = data.replace(b"/v1/stall/items", LISTS.encode())
            wrong = wrong.replace(b"/v1/stall/open", LISTS.encode())
            reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
            writer.write(wrong + hidden)
            async with asyncio.timeout(ANSWER_SECONDS_MAX):
                said = await reader.read()
            writer.close()
            assert len(ANSWER.findall(said)) == 1, (name, said)
            assert said.startswith(b"HTTP/1.1 400 "), (name, said)
            count += 1
    return count


async def slow(node: Node, over: asyncio.Event) -> None:
    """A hundred connections that are begun anew whenever they were all cut."""
    post = head(node, "POST", LISTS, "Content-Type: application/json", "Content-Length: 100")
    read = head(node, "GET", "/openapi.json")
    while not over.is_set():
        async with SlowClients(node.port) as clients:
            await clients.connect(30, b"GET /v1/guest-list/guest-lists HTTP/1.1\r\nX: ")
            await clients.connect(30, post + b'{"name": "')
            await clients.connect(20, read + b"GET /v1/")
            await clients.deaf(20, read * 20)
            for _ in range(15):
                clients.drip()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), 0.2)


def events(node: Node) -> int:
    """How many there are in the log."""
    servers = Path(node.environment["NEXUS_STATE_DATA_DIR"]) / "eu1/postgres"
    url = f"postgresql://nexus_admin@/nexus?host={servers}"
    return int(ask_postgres(url, "SELECT count(*) FROM guest_list.event"))


def held(edge: psutil.Process) -> int:
    """Descriptors but for Unix sockets: connections to the database stay as they were needed."""
    return edge.num_fds() - len(edge.net_connections("unix"))


async def test_hostile_clients_disturb_nobody(node: Node) -> None:
    status, show = await asyncio.to_thread(node.ask, "POST", LISTS, SHOW)
    assert status == 201
    path = f"{LISTS}/{show['id']}"
    edge = psutil.Process(node.pids("edge")[0])
    usual = await alone(node, path, SECONDS / 4)
    # Once to grow into, so that what comes is what grows.
    await hostile(node, path, SECONDS / 4)
    files, memory = held(edge), edge.memory_info().rss
    beside = await hostile(node, path, SECONDS)
    before, after = percentile(usual, 0.99), percentile(beside, 0.99)
    grown = (edge.memory_info().rss - memory) / 1_048_576
    say("business routes under attack", alone_p99_ms=before, beside_p99_ms=after, grown_mib=grown)
    assert len(beside) > SECONDS
    if PROVE:
        assert after <= TIMES_MAX * max(before, LEAST_MS)
    assert grown < GROWN_MIB_MAX
    await eventually(lambda: held(edge) <= files)
    assert await asyncio.to_thread(events, node) == 1
    assert edge.pid == node.pids("edge")[0]


async def hostile(node: Node, path: str, seconds: float) -> list[float]:
    """What somebody well-behaved waits while all the others come."""
    over = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        good = group.create_task(normals(node, path, over))
        large = [
            group.create_task(gigabytes(node, over, chunked=chunked)) for chunked in (False, True)
        ]
        smuggled = group.create_task(smuggle(node, over))
        group.create_task(slow(node, over))
        await asyncio.sleep(seconds)
        over.set()
    assert all(task.result() for task in (*large, smuggled))
    return good.result()

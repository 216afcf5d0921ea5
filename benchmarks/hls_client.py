"""Many HLS players in one process: the load, and what they saw. `benchmarks/hls_load.py` starts it.

    python -m benchmarks.hls_client '{"kind": "request", …}'      answers one line of JSON

Bare sockets on one epoll, GETs on keep-alive connections, answers read to their last byte: the
kernel drops bodies unseen (`MSG_TRUNC`), so that a player costs less than its server. Three kinds:

    request  every connection asks for the same again and again (`RequestJob`)
    players  each has two connections: the blocking playlist and the part it hints (`PlayersJob`)
    herd     all connections wait for the same part, one part after another (`HerdJob`)

It does not look into media: what was sent is the tests' business.
"""

import gc
import re
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Final

import msgspec

from benchmarks.process import cpu_seconds

HEAD_BYTES_MAX: Final = 2_048
"""Read at first of an answer whose body nobody looks at."""
BUFFER_BYTES: Final = 1 << 20
SILENCE_SECONDS_MAX: Final = 10.0
"""A server that says nothing for so long has hung."""
WARM_SECONDS: Final = 0.5
_LENGTH: Final = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)
_HINT: Final = re.compile(rb'PRELOAD-HINT:TYPE=PART,URI="(s(\d+)\.(\d+)\.m4s)"')
_EVENTS_MAX: Final = 1_024


class RequestJob(msgspec.Struct, frozen=True, tag="request"):
    """The same GET on every connection, the next one as soon as the last is answered."""

    address: tuple[str, int]
    target: str
    connections: int
    seconds: float
    pid: int
    """Whose CPU time is counted; 0: nobody's."""


class PlayersJob(msgspec.Struct, frozen=True, tag="players"):
    """Low-latency players of one rendition."""

    address: tuple[str, int]
    folders: list[str]
    """One a player: the path of its rendition, up to and with the last slash."""
    seconds: float
    pid: int


class HerdJob(msgspec.Struct, frozen=True, tag="herd"):
    """Connections that all wait for one part, and for another when all have it."""

    address: tuple[str, int]
    folder: str
    connections: int
    parts: int
    pid: int


Job = RequestJob | PlayersJob | HerdJob


class Requests(msgspec.Struct):
    """What a `RequestJob` found."""

    answers: int
    seconds: float
    cpu_seconds: float
    bytes: int
    """Of one answer, head included; the last one's."""
    failed: int


Seen = list[tuple[float, float]]
"""One part: unix seconds at which it was asked for, and had arrived to its last byte, by player."""


class Parts(msgspec.Struct):
    """What players or a herd found, by the part's name (`s7.3.m4s`)."""

    seen: dict[str, Seen]
    answers: int
    cpu_seconds: float
    failed: int


class Connection:
    """One keep-alive connection; `on_answer(connection, body)` at an answer's last byte."""

    __slots__ = ("_engine", "_head", "asked", "body", "left", "on_answer", "size", "sock", "status")

    def __init__(self, engine: "Engine", on_answer: "OnAnswer") -> None:
        self._engine = engine
        self._head = b""
        self.asked = 0.0
        """Unix seconds of its last request."""
        self.body: bytes | None = None
        self.left = -1
        self.on_answer = on_answer
        self.size = 0
        self.status = b""
        self.sock = socket.create_connection(engine.address)
        self.sock.setblocking(False)  # noqa: FBT003  its only parameter
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        engine.add(self)

    def ask(self, request: bytes, *, keep: bool = False) -> None:
        """Sends a request; `keep`: the body is wanted."""
        self.left = -1
        self.body = b"" if keep else None
        self.asked = time.time()
        if self.sock.send(request) != len(request):
            raise ConnectionError("a request did not fit into an empty socket buffer")

    def readable(self) -> None:
        """Takes what has come. Raises: ConnectionError when the server closed."""
        engine = self._engine
        if self.left >= 0 and self.body is None:
            want = min(self.left, BUFFER_BYTES)
            count = self.sock.recv_into(engine.buffer, want, socket.MSG_TRUNC)
            if not count:
                raise ConnectionError("the server has closed a connection")
            self._took(count)
            return
        want = HEAD_BYTES_MAX if self.body is None else BUFFER_BYTES
        count = self.sock.recv_into(engine.buffer, want)
        if not count:
            raise ConnectionError("the server has closed a connection")
        data = self._head + bytes(engine.view[:count])
        if self.left < 0:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                self._head = data
                return
            self._head = b""
            self.status = data[9:12]
            found = _LENGTH.search(data, 0, end + 2)
            length = int(found[1]) if found else 0
            self.size = end + 4 + length
            self.left = length
            data = data[end + 4 :]
        if self.body is not None:
            self.body += data
        self._took(len(data))

    def _took(self, count: int) -> None:
        self.left -= count
        if not self.left:
            self.on_answer(self)


OnAnswer = Callable[[Connection], None]


class Engine:
    """All connections of this process."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        self.buffer = bytearray(BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.failed = 0
        """Answers that were not 200."""
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}

    def add(self, connection: Connection) -> None:
        """The connection is listened to."""
        self._connections[connection.sock.fileno()] = connection
        self._epoll.register(connection.sock, select.EPOLLIN)

    def turn(self, until: float) -> None:
        """Waits for answers, at most until a moment of the monotonic clock; takes them."""
        wait = max(until - time.monotonic(), 0.0)
        found = self._epoll.poll(min(wait, SILENCE_SECONDS_MAX), _EVENTS_MAX)
        if not found and wait > SILENCE_SECONDS_MAX:
            raise TimeoutError("the server says nothing")
        connections = self._connections
        for number, _ in found:
            connections[number].readable()

    def close(self) -> None:
        """Ends all connections."""
        for connection in self._connections.values():
            connection.sock.close()
        self._epoll.close()


def get(target: str, host: str = "localhost") -> bytes:
    """A GET as a browser's player sends it."""
    return (
        f"GET {target} HTTP/1.1\r\nHost: {host}\r\n"
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko)"
        " Chrome/142.0.0.0 Safari/537.36\r\nAccept: */*\r\nAccept-Encoding: gzip, deflate\r\n"
        "Accept-Language: en-US,en;q=0.9\r\nConnection: keep-alive\r\n\r\n"
    ).encode()


def ask_again(job: RequestJob) -> Requests:
    """Runs a `RequestJob`."""
    engine = Engine(job.address)
    request = get(job.target)
    answers = size = 0

    def again(connection: Connection) -> None:
        nonlocal answers, size
        answers += 1
        size = connection.size
        engine.failed += connection.status != b"200"
        connection.ask(request)

    for connection in [Connection(engine, again) for _ in range(job.connections)]:
        connection.ask(request)
    warm = time.monotonic() + WARM_SECONDS
    while time.monotonic() < warm:
        engine.turn(warm)
    began, count, cpu = time.monotonic(), answers, _cpu(job.pid)
    until = began + job.seconds
    while time.monotonic() < until:
        engine.turn(until)
    taken, counted = _cpu(job.pid) - cpu, answers - count
    seconds = time.monotonic() - began
    engine.close()
    return Requests(counted, seconds, taken, size, engine.failed)


class _Player:
    """Two connections: the playlist that waits for a part, and that part."""

    def __init__(self, engine: Engine, folder: str, seen: dict[str, Seen]) -> None:
        self._engine = engine
        self._folder = folder
        self._seen = seen
        self._part = ""
        self._next = ("", b"")
        self._busy = False
        self._playlist = Connection(engine, self._listed)
        self._media = Connection(engine, self._loaded)
        self._playlist.ask(get(f"{folder}live.m3u8"), keep=True)

    def _listed(self, connection: Connection) -> None:
        body = connection.body or b""
        found = _HINT.search(body, max(len(body) - 400, 0))
        if connection.status != b"200" or found is None:
            self._engine.failed += 1
            connection.ask(get(f"{self._folder}live.m3u8"), keep=True)
            return
        name = found[1].decode()
        self._next = name, get(self._folder + name)
        if not self._busy:
            self._load()
        query = f"_HLS_msn={int(found[2])}&_HLS_part={int(found[3])}&_HLS_skip=YES"
        connection.ask(get(f"{self._folder}live.m3u8?{query}"), keep=True)

    def _load(self) -> None:
        self._part, request = self._next
        self._next = ("", b"")
        self._busy = True
        self._media.ask(request)

    def _loaded(self, connection: Connection) -> None:
        self._busy = False
        if connection.status == b"200":
            self._seen.setdefault(self._part, []).append((connection.asked, time.time()))
        else:
            self._engine.failed += 1
        if self._next[1]:
            self._load()


def play(job: PlayersJob) -> Parts:
    """Runs a `PlayersJob`."""
    engine = Engine(job.address)
    seen: dict[str, Seen] = {}
    for number, folder in enumerate(job.folders):
        _Player(engine, folder, seen)
        if number % 20 == 19:
            engine.turn(time.monotonic() + 0.01)
    warm = time.monotonic() + 2 * WARM_SECONDS
    while time.monotonic() < warm:
        engine.turn(warm)
    seen.clear()
    cpu = _cpu(job.pid)
    until = time.monotonic() + job.seconds
    while time.monotonic() < until:
        engine.turn(until)
    taken = _cpu(job.pid) - cpu
    engine.close()
    return Parts(seen, 2 * sum(map(len, seen.values())), taken, engine.failed)


def wait_together(job: HerdJob) -> Parts:
    """Runs a `HerdJob`."""
    engine = Engine(job.address)
    seen: dict[str, Seen] = {}
    now: Seen = []
    hint = b""

    def listed(connection: Connection) -> None:
        nonlocal hint
        found = _HINT.search(connection.body or b"")
        if found is None:
            raise ConnectionError(f"no part is hinted: {connection.status!r}")
        hint = found[1]

    def loaded(connection: Connection) -> None:
        now.append((connection.asked, time.time()))
        engine.failed += connection.status != b"200"

    leader = Connection(engine, listed)
    herd = [Connection(engine, loaded) for _ in range(job.connections)]
    leader.ask(get(f"{job.folder}live.m3u8"), keep=True)
    cpu = _cpu(job.pid)
    while len(seen) < job.parts:
        deadline = time.monotonic() + SILENCE_SECONDS_MAX
        while not hint:
            engine.turn(deadline)
        part, hint = hint.decode(), b""
        now = []
        request = get(job.folder + part)
        for connection in herd:
            connection.ask(request)
        while len(now) < len(herd):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{part} came to {len(now)} of {len(herd)}")
            engine.turn(deadline)
        seen[part] = now
        msn, index = (int(number) for number in part[1:].split(".")[:2])
        # Two parts on: the playlist has just been left behind, so that the next wait is whole.
        leader.ask(get(f"{job.folder}live.m3u8?_HLS_msn={msn}&_HLS_part={index + 2}"), keep=True)
    taken = _cpu(job.pid) - cpu
    engine.close()
    return Parts(seen, len(seen) * len(herd), taken, engine.failed)


def _cpu(pid: int) -> float:
    return cpu_seconds(pid) if pid else 0.0


def main() -> None:
    """Runs the job in the first argument; prints what was found."""
    job = msgspec.json.decode(sys.argv[1].encode(), type=Job)
    gc.freeze()
    gc.disable()
    found: Requests | Parts
    match job:
        case RequestJob():
            found = ask_again(job)
        case PlayersJob():
            found = play(job)
        case HerdJob():
            found = wait_together(job)
    sys.stdout.buffer.write(msgspec.json.encode(found))


if __name__ == "__main__":
    main()

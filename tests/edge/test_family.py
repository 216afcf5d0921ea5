"""A node's processes: who dies, who comes back, what is kept. Real processes and sockets."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
THREE = [["media-0", "echo", True], ["edge-0", "echo", True], ["edge-1", "echo", True]]


def wait_until(check: Callable[[], object], what: str, seconds: float = 10.0) -> float:
    start = time.monotonic()
    while not check():
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.005)
    return time.monotonic() - start


class Node:
    """A supervisor over dummy children, in its own process."""

    def __init__(self, directory: Path, children: list[list[Any]], **plan: Any) -> None:
        self.run_dir = directory / "run"
        self.log = directory / "log"
        self.plan = {
            "run_dir": str(self.run_dir),
            "http": "127.0.0.1:0",
            "udp": 0,
            "children": children,
            **plan,
        }
        self.process: subprocess.Popen[str] | None = None
        self.ready: dict[str, Any] = {}

    def start(self) -> None:
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.fakes.dummy_node", json.dumps(self.plan)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it never was ready:\n{self.log.read_text()}"
        self.ready = json.loads(line)
        host, _, port = self.ready["http"][0].rpartition(":")
        self.http = (host, int(port))
        self.udp = ("127.0.0.1", int(self.ready["udp"]))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def pids(self) -> dict[str, int]:
        try:
            facts = json.loads((self.run_dir / "supervisor.json").read_text())
        except (OSError, ValueError):
            return {}
        return dict(facts["children"])

    def ask(self, seconds: float = 5.0) -> int:
        """The pid of whoever answers on the HTTP port."""
        with socket.create_connection(self.http, timeout=seconds) as sock:
            sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while chunk := sock.recv(4096):
                answer += chunk
        return int(answer.rpartition(b"\r\n\r\n")[2])

    def end(self) -> None:
        if self.process is None:
            return
        children = self.all_children()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        wait_until(lambda: not any(alive(pid) for pid in children), "children are gone")

    def all_children(self) -> list[int]:
        with contextlib.suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]
        return []


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    nodes: list[Node] = []

    def begin(children: list[list[Any]], **plan: Any) -> Node:
        node = Node(tmp_path, children, **plan)
        nodes.append(node)
        node.start()
        return node

    yield begin
    for node in nodes:
        node.end()


def test_every_child_gets_its_sockets(start: Callable[..., Node]) -> None:
    node = start(THREE)
    pids = node.pids()
    wait_until(
        lambda: {node.ask() for _ in range(20)} == {pids["edge-0"], pids["edge-1"]},
        "the kernel spreads connections over both workers",
    )
    with socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.settimeout(5)
        udp.sendto(b"hello", node.udp)
        assert udp.recv(100) == b"hello"


@pytest.mark.parametrize("name", ["media-0", "edge-0"])
def test_a_killed_child_is_back_within_a_second(start: Callable[..., Node], name: str) -> None:
    node = start(THREE)
    before = node.pids()
    os.kill(before[name], signal.SIGKILL)
    seconds = wait_until(
        lambda: node.pids().get(name, before[name]) != before[name], "it is started again", 1.0
    )
    assert seconds < 1.0
    after = node.pids()
    assert {key: pid for key, pid in after.items() if key != name} == {
        key: pid for key, pid in before.items() if key != name
    }, "the others did not notice"


def test_connections_and_datagrams_wait_for_a_dead_child(start: Callable[..., Node]) -> None:
    """What arrives while nobody is there is answered by the next one."""
    node = start([["media-0", "echo", True], ["edge-0", "echo", True]])
    for name in ("edge-0", "media-0"):
        os.kill(node.pids()[name], signal.SIGSTOP)
    old = node.pids()
    clients = [socket.create_connection(node.http, timeout=10) for _ in range(20)]
    udp = socket.socket(type=socket.SOCK_DGRAM)
    udp.settimeout(10)
    try:
        for client in clients:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        udp.sendto(b"while you were away", node.udp)
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        answers = {client.recv(4096).rpartition(b"\r\n\r\n")[2] for client in clients}
        assert answers == {str(node.pids()["edge-0"]).encode()}
        assert int(answers.pop()) != old["edge-0"]
        assert udp.recv(100) == b"while you were away"
    finally:
        for client in (*clients, udp):
            client.close()


def test_the_pause_grows_for_a_child_that_dies_again_and_again(start: Callable[..., Node]) -> None:
    node = start([*THREE, ["demo-0", "broken", False]])
    text = node.log.read_text
    wait_until(lambda: text().count("child died") >= 4, "four deaths", 15)
    lines = [json.loads(line) for line in text().splitlines()]
    pauses = [line["restart_in_seconds"] for line in lines if line["event"] == "child died"]
    assert pauses[:4] == [0.0, 0.2, 0.4, 0.8]
    assert node.ask() in node.pids().values()


def test_killed_supervisor_takes_its_children_along(start: Callable[..., Node]) -> None:
    """No orphan, no stale port: the next node starts at once on the same ports."""
    node = start(THREE)
    children = node.all_children()
    assert len(children) == 3
    os.kill(node.pid, signal.SIGKILL)
    seconds = wait_until(lambda: not any(alive(pid) for pid in children), "they end", 1.0)
    assert seconds < 1.0
    node.plan["http"] = f"{node.http[0]}:{node.http[1]}"
    node.plan["udp"] = node.udp[1]
    assert node.process is not None
    node.process.wait()
    assert node.process.stdout is not None
    node.process.stdout.close()
    node.start()
    assert node.ask() in node.pids().values()


def test_a_child_that_begins_while_its_supervisor_dies_ends_too(
    start: Callable[..., Node],
) -> None:
    node = start([["edge-0", "echo", True], ["media-0", "echo", True]])
    os.kill(node.pids()["edge-0"], signal.SIGKILL)
    wait_until(lambda: len(node.all_children()) == 2, "a new one begins")
    children = node.all_children()
    os.kill(node.pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in children), "all end", 2.0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_clean_stop_leaves_nothing(start: Callable[..., Node], number: int) -> None:
    node = start([*THREE, ["demo-0", "parent", False]])
    wait_until(lambda: "demo-0" in node.pids(), "the parent runs")
    wait_until(lambda: len(node.all_children()) == 5, "and its own child")
    children = node.all_children()
    assert node.process is not None
    began = time.monotonic()
    node.process.send_signal(number)
    assert node.process.wait(5) == 0
    assert time.monotonic() - began < 2.0
    wait_until(lambda: not any(alive(pid) for pid in children), "nothing is left", 1.0)
    assert not node.run_dir.exists()
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(node.http)


def test_a_deaf_child_is_killed_in_the_end(start: Callable[..., Node]) -> None:
    node = start([["media-0", "echo", True], ["edge-0", "deaf", True]], stop_seconds=0.3)
    children = node.all_children()
    assert node.process is not None
    node.process.terminate()
    assert node.process.wait(5) == 0
    assert not any(alive(pid) for pid in children)
    assert "did not stop in time" in node.log.read_text()


def test_a_second_signal_kills_at_once(start: Callable[..., Node]) -> None:
    node = start([["media-0", "echo", True], ["edge-0", "deaf", True]], stop_seconds=60)
    assert node.process is not None
    node.process.terminate()
    wait_until(lambda: "stopping" in node.log.read_text(), "it begins to stop")
    began = time.monotonic()
    node.process.terminate()
    assert node.process.wait(5) == 1
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize(("kind", "code"), [("refuses", 2), ("broken", 1)])
def test_a_child_that_never_comes_up_ends_the_node(tmp_path: Path, kind: str, code: int) -> None:
    node = Node(tmp_path, [["media-0", "echo", True], ["edge-0", kind, True]])
    with pytest.raises(AssertionError, match="cannot start"):
        node.start()
    assert node.process is not None
    assert node.process.wait(5) == code
    assert not node.run_dir.exists()
    node.end()


def test_two_nodes_do_not_share_a_run_directory(start: Callable[..., Node], tmp_path: Path) -> None:
    node = start(THREE)
    second = Node(tmp_path, THREE)
    with pytest.raises(AssertionError, match=rf"another node runs there \(process {node.pid}\)"):
        second.start()
    second.end()
    assert node.ask() in node.pids().values()


def test_the_run_directory_is_private(start: Callable[..., Node]) -> None:
    node = start(THREE)
    assert node.run_dir.stat().st_mode & 0o777 == 0o700
    assert (node.run_dir / "supervisor.json").stat().st_mode & 0o777 == 0o600


def figures(node: Node) -> dict[str, float]:
    """The whole family's metrics, as any process of it would render them."""
    code = (
        "import sys; from pathlib import Path; from ops import metrics;"
        "metrics.start(Path(sys.argv[1]), 'reader-0');"
        "sys.stdout.write(metrics.render().decode())"
    )
    command = [sys.executable, "-c", code, str(node.run_dir / "metrics")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    pairs = (line.rpartition(" ") for line in done.stdout.splitlines() if line[0] != "#")
    return {name: float(value) for name, _, value in pairs}


def test_a_hangup_tells_edge_workers_to_reload(start: Callable[..., Node]) -> None:
    node = start(THREE)
    before = node.pids()
    os.kill(node.pid, signal.SIGHUP)
    wait_until(lambda: figures(node).get("dummy_reloaded_total") == 2, "both have reloaded")
    assert node.pids() == before


def test_counters_go_on_after_a_death(start: Callable[..., Node]) -> None:
    """Metrics of all processes together, through any of them; a restart does not reset them."""
    node = start(THREE)
    for _ in range(10):
        node.ask()
    assert figures(node)["dummy_served_total"] == 10
    assert figures(node)["nexus_children_running"] == 3
    for name in ("edge-0", "edge-1"):
        os.kill(node.pids()[name], signal.SIGKILL)
    for _ in range(5):
        node.ask()
    assert figures(node)["dummy_served_total"] == 15
    assert figures(node)['nexus_child_restarts_total{child="edge-0"}'] == 1
    memory = 'nexus_process_resident_memory_bytes{role="media",slot="0"}'
    wait_until(lambda: figures(node).get(memory, 0) > 1_000_000, "its memory is told of")


@pytest.mark.parametrize("name", ["media-0", "edge-0"])
def test_a_child_that_hangs_is_killed_and_started_again(
    start: Callable[..., Node], name: str
) -> None:
    node = start(THREE, hang_seconds=1.0)
    before = node.pids()
    os.kill(before[name], signal.SIGSTOP)
    wait_until(lambda: node.pids().get(name, before[name]) != before[name], "it is a new one", 10)
    assert {key: pid for key, pid in node.pids().items() if key != name} == {
        key: pid for key, pid in before.items() if key != name
    }, "the others did not notice"
    wait_until(lambda: figures(node).get("nexus_children_running") == 3, "and it is ready")
    assert figures(node)[f'nexus_child_hangs_total{{child="{name}"}}'] == 1
    assert not alive(before[name])


def test_a_supervisor_that_was_asleep_blames_nobody(start: Callable[..., Node]) -> None:
    node = start(THREE, hang_seconds=0.5)
    before = node.pids()
    os.kill(node.pid, signal.SIGSTOP)
    waited = time.monotonic() + 1.5
    wait_until(lambda: time.monotonic() > waited, "three times as long as a hang")
    os.kill(node.pid, signal.SIGCONT)
    wait_until(lambda: node.ask() in before.values(), "it goes on")
    waited = time.monotonic() + 1.0
    wait_until(lambda: time.monotonic() > waited, "it has looked again")
    assert node.pids() == before
    assert "child hangs" not in node.log.read_text()

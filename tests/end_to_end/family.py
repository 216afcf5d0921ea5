"""A real process family for the tests: `nexus up` as a user starts it, found and killed by role.

Everything runs on loopback, on ports of its own, with a run directory of its own.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Self

import psutil

START_SECONDS = 30.0
STOP_SECONDS = 8.0


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody holds now."""
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def fetch(
    url: str, *, method: str = "GET", key: str = "", timeout: float = 5.0
) -> tuple[int, bytes]:
    """Status and body; an error status is an answer too. Raises OSError when nobody answers."""
    request = urllib.request.Request(url, method=method)
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read()


def wait_until(what: str, check: object, seconds: float = 10.0, every: float = 0.05) -> float:
    """Polls `check()` until it is true; the seconds it took. Raises AssertionError in time."""
    assert callable(check)
    start = time.monotonic()
    while True:
        if check():
            return time.monotonic() - start
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {what}"
        time.sleep(every)


class Family:
    """`nexus up` in a process of its own. Enter to start, leave to stop."""

    def __init__(self, directory: Path, *, demo: bool = False, **settings: str) -> None:
        self.port = free_port()
        self.udp_port = free_port(socket.SOCK_DGRAM)
        self.run_dir = directory / "run"
        self.log_path = directory / "family.log"
        self.url = f"http://127.0.0.1:{self.port}"
        self.arguments = ["up", "--demo" if demo else "--no-demo"]
        self.environment = {
            **os.environ,
            "NEXUS_EDGE_LISTEN": f"127.0.0.1:{self.port}",
            "NEXUS_WEBRTC_PORT": str(self.udp_port),
            "NEXUS_NODE_RUN_DIR": str(self.run_dir),
            # Without state, which few tests need: those name the roles that they want.
            "NEXUS_NODE_ROLES": "edge,media",
            **settings,
        }
        self.prefix: list[str] = []
        """What the command is started by, such as a shell that sets a limit first."""
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, sys.executable, "-m", "edge.main", *self.arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_until("the family is ready", self.ready, START_SECONDS)

    def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"nexus up ended:\n{self.log()}"
        try:
            return fetch(f"{self.url}/readyz", timeout=1.0)[0] == 200
        except OSError:
            return False

    def log(self) -> str:
        return self.log_path.read_text(errors="replace")[-6000:]

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def pids(self, role: str = "") -> list[int]:
        """Process ids of the children, or of one role: "media", "edge", "demo"."""
        found = []
        try:
            children = psutil.Process(self.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        for child in children:
            try:
                words = child.cmdline()
            except psutil.Error:
                continue
            if not role or ("serve" in words and role in words):
                found.append(child.pid)
        return sorted(found)

    def kill(self, role: str) -> int:
        """SIGKILL to the first process of a role; its pid."""
        pid = self.pids(role)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    def resident_kib(self, role: str) -> int:
        return sum(psutil.Process(p).memory_info().rss for p in self.pids(role)) // 1024

    def descriptors(self, role: str) -> int:
        return sum(psutil.Process(p).num_fds() for p in self.pids(role))

    def streams(self) -> dict[str, dict[str, object]]:
        status, body = fetch(f"{self.url}/api/v1/streams")
        assert status == 200, body
        answer = json.loads(body)
        return {s["stream"]: s for s in answer["streams"]}

    def live(self, stream: str) -> bool:
        try:
            return self.streams().get(stream, {}).get("state") == "live"
        except (OSError, AssertionError):
            return False

    def stop(self) -> int:
        """SIGTERM; the exit code. Raises when it is not prompt or leaves a process behind."""
        assert self.process is not None
        children = self.pids()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(STOP_SECONDS)
        left = [p for p in children if psutil.pid_exists(p)]
        assert not left, f"left behind: {left}"
        return code

    def __exit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.poll() is None:
            try:
                self.stop()
            finally:
                if self.process.poll() is None:
                    os.killpg(self.process.pid, signal.SIGKILL)
                    self.process.wait()

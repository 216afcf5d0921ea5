"""A node that has the role `state` alone: `nexus up` with real servers, and no video."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import asyncpg
import psutil

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 30.0


def until(what: str, check: Callable[[], object], seconds: float = 10.0) -> float:
    """Polls until `check()` is true; the seconds it took."""
    began = time.monotonic()
    while not check():
        assert time.monotonic() - began < seconds, f"not within {seconds} s: {what}"
        time.sleep(0.01)
    return time.monotonic() - began


def alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@contextlib.contextmanager
def data_directory() -> Iterator[Path]:
    """A directory that the servers' account may enter, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="nexus-tests-state-"))
    path.chmod(0o711)
    try:
        yield path
    finally:
        for pid in servers(path).values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(path, ignore_errors=True)


def servers(data: Path, region: str = "eu1") -> dict[str, int]:
    """The living servers of a region, by name."""
    found = {}
    for name, file in (("postgres", "data/postmaster.pid"), ("valkey", "pid")):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pid = int((data / region / name / file).read_text().split()[0])
            if alive(pid):
                found[name] = pid
    return found


def ask_postgres(url: str, sql: str, *values: Any) -> Any:
    """The first value of one statement. Raises OSError or asyncpg's errors."""

    async def ask() -> Any:
        connection = await asyncpg.connect(url, timeout=2)
        try:
            return await connection.fetchval(sql, *values)
        finally:
            connection.terminate()

    return asyncio.run(ask())


class StateNode:
    """`nexus up`. Enter to start, and wait until the state role is ready; leave to stop."""

    def __init__(self, data: Path, scratch: Path, *, region: str = "eu1", **settings: str) -> None:
        self.data, self.region = data, region
        self.prefix: list[str] = []
        """What the command is started by, such as one that becomes another user."""
        self.run_dir = scratch / "run"
        self.log_path = scratch / "log"
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "NEXUS_NODE_ROLES": "state",
            "NEXUS_NODE_RUN_DIR": str(self.run_dir),
            "NEXUS_EDGE_LISTEN": "127.0.0.1:0",
            "NEXUS_STATE_DATA_DIR": str(data),
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(15)
            finally:
                self.process.kill()
        self.process.wait()

    def begin(self) -> None:
        """Starts it, and waits for nothing."""
        dies_with_us = ["setpriv", "--pdeathsig", "TERM"]
        words = ["up", "--no-demo", "--region", self.region]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*dies_with_us, *self.prefix, sys.executable, "-m", "edge.main", *words],
                cwd="/",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def start(self) -> None:
        said = self.said("child is ready")
        self.begin()
        ready = lambda: self.said("child is ready") > said or self._over()  # noqa: E731
        try:
            until("state is ready", ready, START_SECONDS)
            assert not self._over(), "nexus up ended"
        except AssertionError as fault:
            self.__exit__()
            raise AssertionError(self.log()[-4_000:]) from fault

    def said(self, event: str) -> int:
        """How often the log says so."""
        return self.log().count(event)

    def log(self) -> str:
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def role_pid(self) -> int:
        """Of the role's process; 0 while there is none."""
        try:
            facts = json.loads((self.run_dir / "supervisor.json").read_text())
        except (OSError, ValueError):
            return 0
        return int(facts["children"].get("state-0", 0))

    def servers(self) -> dict[str, int]:
        return servers(self.data, self.region)

    def url(self, login: str = "nexus_app") -> str:
        return f"postgresql://{login}@/nexus?host={self.data / self.region / 'postgres'}"

    def ask(self, sql: str, *values: Any, login: str = "nexus_admin") -> Any:
        return ask_postgres(self.url(login), sql, *values)

    def answers(self) -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            return bool(self.ask("SELECT 1") == 1)
        return False

    def kill(self) -> None:
        """SIGKILL to the supervisor."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def _over(self) -> bool:
        return self.process is not None and self.process.poll() is not None

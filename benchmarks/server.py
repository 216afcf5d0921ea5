"""A node of our own to measure: `nexus up` on free ports of loopback, stopped afterwards."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.error import URLError
from urllib.request import urlopen

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
LOG_BYTES_SHOWN: Final = 4_000
_PAUSE_SECONDS: Final = 0.1


def free_port(kind: int = socket.SOCK_STREAM) -> int:
    """A port of 127.0.0.1 that nobody holds now."""
    with socket.socket(socket.AF_INET, kind) as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def children(run_dir: Path) -> dict[str, int]:
    """Name and pid of a node's children, from its run directory. Raises LookupError."""
    try:
        return {str(name): int(pid) for name, pid in _facts(run_dir)["children"].items()}
    except (KeyError, ValueError, AttributeError) as fault:
        raise LookupError(f"no node found by {run_dir}") from fault


def supervisor(run_dir: Path) -> int:
    """The pid of a node's supervisor. Raises LookupError."""
    try:
        return int(_facts(run_dir)["pid"])
    except (KeyError, ValueError, TypeError) as fault:
        raise LookupError(f"no node found by {run_dir}") from fault


def _facts(run_dir: Path) -> dict[str, Any]:
    try:
        facts = json.loads((run_dir / "supervisor.json").read_text())
    except (OSError, ValueError) as fault:
        raise LookupError(f"no node found by {run_dir}") from fault
    return facts if isinstance(facts, dict) else {}


@dataclass(frozen=True, slots=True)
class Node:
    """A running node: its address, and where its processes are found."""

    url: str
    run_dir: Path


@contextlib.asynccontextmanager
async def started(
    flags: Mapping[str, str], *, wrapper: tuple[str, ...] = ()
) -> AsyncIterator[Node]:
    """A node without demo. `flags`: settings by name; `wrapper`: a command in front, such as
    `("taskset", "-c", "0")`.

    Raises LookupError when it does not start. **Owns** the node: leaving stops it.
    """
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="nexus-bench-", dir=memory) as scratch:
        port = free_port()
        run_dir = Path(scratch) / "run"
        settings = {
            "edge.listen": f"127.0.0.1:{port}",
            "webrtc.listen": "127.0.0.1",
            "webrtc.port": str(free_port(socket.SOCK_DGRAM)),
            "node.run_dir": str(run_dir),
            "node.roles": "edge,media",
            **flags,
        }
        words = [f"--{name}={value}" for name, value in settings.items()]
        command = [*wrapper, sys.executable, "-m", "edge.main", "up", "--no-demo", *words]
        log = Path(scratch) / "log"
        async with process_of(command, log) as process:
            url = f"http://{settings['edge.listen']}"
            await until(lambda: answers_ok(f"{url}/readyz"), process, log)
            yield Node(url, run_dir)


async def until(check: Callable[[], bool], process: asyncio.subprocess.Process, log: Path) -> None:
    """Until the check, made in a thread, is true. Raises LookupError with the end of the log."""
    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while not await asyncio.to_thread(check):
        over = asyncio.get_running_loop().time() > deadline
        if over or process.returncode is not None:
            raise LookupError(f"{'not ready in time' if over else 'it ended'}:\n{_end(log)}")
        await asyncio.sleep(_PAUSE_SECONDS)


def answers_ok(address: str) -> bool:
    """Whether an HTTP address answers 200 now."""
    try:
        with urlopen(address, timeout=1.0) as answer:
            return bool(answer.status == 200)
    except (URLError, OSError):
        return False


def listens(port: int) -> bool:
    """Whether somebody takes TCP connections on a port of 127.0.0.1 now."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1.0).close()
    except OSError:
        return False
    return True


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_BYTES_SHOWN:]


@contextlib.asynccontextmanager
async def process_of(command: list[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A process whose output goes to `log`, with no NEXUS_ settings of ours; leaving stops it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=kept,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        await stop(process)


async def stop(process: asyncio.subprocess.Process) -> None:
    """Ends it and waits; by force when it takes too long."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

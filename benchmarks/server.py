"""A node of our own to measure: `nexus up` on free ports of loopback, stopped afterwards."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final
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
        known = json.loads((run_dir / "supervisor.json").read_text())["children"]
        return {str(name): int(pid) for name, pid in known.items()}
    except (OSError, ValueError, KeyError) as fault:
        raise LookupError(f"no node found by {run_dir}") from fault


class Node:
    """A running node: its address, and where its processes are found."""

    def __init__(self, url: str, run_dir: Path, pid: int) -> None:
        self.url = url
        self.run_dir = run_dir
        self.pid = pid
        """The supervisor's."""

    @property
    def media_pid(self) -> int:
        """Raises LookupError when there is no media process."""
        for name, pid in children(self.run_dir).items():
            if name.startswith("media"):
                return pid
        raise LookupError("the node has no media process")


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
            **flags,
        }
        words = [f"--{name}={value}" for name, value in settings.items()]
        command = [*wrapper, sys.executable, "-m", "edge.main", "up", "--no-demo", *words]
        log = Path(scratch) / "log"
        async with _process(command, log) as process:
            url = f"http://{settings['edge.listen']}"
            await ready(f"{url}/readyz", process, log)
            yield Node(url, run_dir, process.pid)


async def ready(address: str, process: asyncio.subprocess.Process, log: Path) -> None:
    """Until the address answers 200. Raises LookupError with the end of the log."""

    def answers() -> bool:
        try:
            with urlopen(address, timeout=1.0) as answer:
                return bool(answer.status == 200)
        except (URLError, OSError):
            return False

    deadline = asyncio.get_running_loop().time() + START_SECONDS
    while not await asyncio.to_thread(answers):
        over = asyncio.get_running_loop().time() > deadline
        if over or process.returncode is not None:
            raise LookupError(f"{'not ready in time' if over else 'it ended'}:\n{_end(log)}")
        await asyncio.sleep(_PAUSE_SECONDS)


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-LOG_BYTES_SHOWN:]


@contextlib.asynccontextmanager
async def _process(command: list[str], log: Path) -> AsyncIterator[asyncio.subprocess.Process]:
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

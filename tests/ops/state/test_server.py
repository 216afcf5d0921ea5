"""Keeping a server running: one that never answers, one that cannot start, one that will not stop.

The servers are shell scripts; real ones are in tests/edge/test_state_role.py.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.state.errors import StateError
from ops.state.programs import Account
from ops.state.server import Kept, own_folder, pid_in
from ops.state.settings import StateSettings

MYSELF = Account("myself", os.geteuid(), os.getegid())
SETTINGS = StateSettings(start_seconds=1.0, stop_seconds=0.2)


@dataclass
class Script:
    """A server that is a script; it answers when it has made the file `answers`."""

    folder: Path
    script: str
    starts: int = 0

    name = "script"
    stop_signals = (signal.SIGTERM, signal.SIGQUIT)

    def prepare(self) -> None:
        self.starts += 1

    def command(self) -> Sequence[str | Path]:
        return ["sh", "-c", self.script]

    def living(self) -> int | None:
        return pid_in(self.folder / "pid", program="sh", folder=self.folder)

    async def answers(self) -> bool:
        return (self.folder / "answers").exists()

    async def furnish(self) -> None:
        """Nothing must be in it."""


def kept(folder: Path, script: str) -> tuple[Kept, Script]:
    server = Script(folder, script)
    return Kept(server, MYSELF, SETTINGS), server


def alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM; ", "trap '' TERM QUIT; "])
async def test_one_that_never_answers_is_given_up_and_ended(tmp_path: Path, stubborn: str) -> None:
    server, _ = kept(tmp_path, f"{stubborn}echo $$ >pid; while :; do sleep 0.05; done")
    began = time.monotonic()
    with pytest.raises(StateError, match="script has not answered for 1 s"):
        await server.run()
    assert time.monotonic() - began >= 1.0
    pid = server.pid
    assert alive(pid)
    await server.stop()
    assert not alive(pid)
    assert server.pid == 0


async def test_one_that_answers_no_more_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL may hang when it loses another process while it recovers from such a loss."""
    monkeypatch.setattr("ops.state.server._LOOK_SECONDS", 0.05)
    server, script = kept(tmp_path, "echo $$ >pid; >answers; while :; do sleep 0.05; done")
    running = asyncio.create_task(server.run())
    async with asyncio.timeout(10):
        await server.ready.wait()
        (tmp_path / "answers").unlink()
        with pytest.raises(StateError, match="script has not answered for 1 s"):
            await running
    assert script.starts == 1
    assert not server.ready.is_set()
    await server.stop()


async def test_one_that_ends_is_started_again_with_growing_pauses(tmp_path: Path) -> None:
    server, script = kept(tmp_path, "echo broken; exit 3")
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(1.5):
            await server.run()
    assert 2 <= script.starts <= 5, "at once, after 0.2 s, after 0.4 s, after 0.8 s"
    assert not server.ready.is_set()
    assert "broken" in (tmp_path / "log").read_text()
    await server.stop()


async def test_one_that_lives_is_taken_over_and_not_started(tmp_path: Path) -> None:
    first, script = kept(tmp_path, "echo $$ >pid; touch answers; while :; do sleep 0.05; done")
    running = asyncio.ensure_future(first.run())
    await asyncio.wait_for(first.ready.wait(), 10)
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    pid = first.pid
    assert alive(pid), "cancelling leaves it alone"
    second, other = kept(tmp_path, script.script)
    taken = asyncio.ensure_future(second.run())
    await asyncio.wait_for(second.ready.wait(), 10)
    assert (second.pid, other.starts) == (pid, 0)
    taken.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await taken
    await second.stop()
    await first.stop()
    assert not alive(pid)


def test_a_pid_that_somebody_else_has_now_is_not_it(tmp_path: Path) -> None:
    (tmp_path / "pid").write_text(f"{os.getpid()}\n")
    assert pid_in(tmp_path / "pid", program="postgres", folder=tmp_path) is None
    for text in ("", "x\n", "99999999\n"):
        (tmp_path / "pid").write_text(text)
        assert pid_in(tmp_path / "pid", program="sh", folder=tmp_path) is None


def test_a_servers_folder_is_its_own(tmp_path: Path) -> None:
    own_folder(tmp_path / "mine", MYSELF)
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700
    own_folder(tmp_path / "mine", MYSELF)
    stranger = Account("stranger", MYSELF.uid + 4_711, MYSELF.gid)
    (tmp_path / "mine" / "file").write_text("")
    with pytest.raises(StateError, match="belongs to user"):
        own_folder(tmp_path / "mine", stranger)
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    with pytest.raises(StateError):
        own_folder(tmp_path / "link", MYSELF)

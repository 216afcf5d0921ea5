"""A real worker on loopback sockets, with a fake media process and a fake shelf behind it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import uvloop

from edge import worker
from edge.settings import Settings
from ops.inherited import Inherited
from tests.fakes.media_process import FakeMedia
from tests.fakes.shelf import FakeShelf

DEADLINE_SECONDS = 10.0


def pytest_asyncio_loop_factories(
    config: pytest.Config,  # noqa: ARG001
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Workers run on uvloop, and so do the tests that start one; all others as they always do."""
    if "start" in getattr(item, "fixturenames", ()):
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


@dataclass(slots=True)
class Running:
    """A worker that serves."""

    worker: worker.Worker
    media: FakeMedia
    shelf: FakeShelf
    port: int
    https_port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def raw(self, data: bytes, *, until: bytes = b"", eof: bool = True) -> bytes:
        """What the worker says to these bytes: all of it, or until some bytes are seen."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(data)
            async with asyncio.timeout(DEADLINE_SECONDS):
                if until:
                    return await reader.readuntil(until)
                assert eof
                return await reader.read()
        finally:
            writer.close()


async def eventually(what: Callable[[], Any]) -> None:
    """Waits until something is so, at most ten seconds."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not what():  # noqa: ASYNC110  it is anything at all
            await asyncio.sleep(0.005)


Start = Callable[..., Any]


@pytest.fixture
async def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Start]:
    """Starts workers with the settings' sections given; all are stopped at the end."""
    async with AsyncExitStack() as stack:

        async def make(*, https: bool = False, business: Any = None, **sections: Any) -> Running:
            shelf = FakeShelf()
            monkeypatch.setattr(worker, "Shelf", lambda *_args, **_options: shelf)
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(ours.close)
            stack.callback(theirs.close)
            listening = [_listening(stack) for _ in range(2 if https else 1)]
            base = Settings()
            node = replace(base.node, run_dir=tmp_path, roles=("edge", "media"))
            settings = replace(base, node=node, **sections)
            inherited = Inherited(http=listening[:1], https=listening[1:], media=[ours])
            media = await stack.enter_async_context(FakeMedia(theirs))
            running = await stack.enter_async_context(
                worker.Worker(settings, inherited, business=business)
            )
            await eventually(lambda: running.link.ready)
            ports = [sock.getsockname()[1] for sock in listening]
            return Running(running, media, shelf, ports[0], ports[-1])

        yield make


@pytest.fixture
async def running(start: Start) -> Running:
    """A worker in the open mode on loopback."""
    made: Running = await start()
    return made


def _listening(stack: AsyncExitStack) -> socket.socket:
    sock = socket.create_server(("127.0.0.1", 0), backlog=2_048)
    sock.settimeout(0)
    stack.callback(sock.close)
    return sock

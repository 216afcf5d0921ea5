"""A child for tests of the supervisor: does next to nothing, but really.

python -m tests.fakes.dummy_role echo      answers every HTTP connection with its pid, echoes UDP
python -m tests.fakes.dummy_role deaf      is ready, and ignores SIGTERM
python -m tests.fakes.dummy_role broken    exits with 3 at once
python -m tests.fakes.dummy_role refuses   exits with 2 at once, as for wrong settings
python -m tests.fakes.dummy_role parent    is ready, and has started a child of its own
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from ops import metrics
from ops.inherited import Handed, Inherited, take

_RELOADED = metrics.counter("dummy_reloaded", "Times it was told to reload.")
_SERVED = metrics.counter("dummy_served", "Connections answered.")


async def _answer(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        connection, _ = await loop.sock_accept(sock)
        with connection:
            await loop.sock_recv(connection, 4096)
            _SERVED.inc()
            body = str(os.getpid()).encode()
            head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body)
            await loop.sock_sendall(connection, head + body)


async def _echo(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while True:
        data, address = await loop.sock_recvfrom(sock, 4096)
        await loop.sock_sendto(sock, data, address)


async def _pong(link: socket.socket) -> None:
    """Tells whoever asks over a link what its pid is."""
    loop = asyncio.get_running_loop()
    while True:
        data = await loop.sock_recv(link, 4096)
        await loop.sock_sendall(link, data + b":" + str(os.getpid()).encode())


async def _serve(given: Inherited, hang_seconds: float) -> None:
    given.watch_life()
    given.beat(hang_seconds)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _RELOADED.inc)
    async with asyncio.TaskGroup() as group:
        for sock in given.http:
            group.create_task(_answer(sock))
        for sock in given.udp:
            group.create_task(_echo(sock))
        for link in given.media if given.udp else ():
            group.create_task(_pong(link))
        given.ready()


def _run(kind: str, handed: Handed) -> int:
    given = handed.inherited
    if kind == "broken":
        return 3
    if kind == "refuses":
        return 2
    if kind == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if kind == "parent":
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"])
    metrics_dir = str(handed.settings.get("metrics", ""))
    if metrics_dir:
        metrics.start(Path(metrics_dir), f"{kind}-{given.slot}")
    asyncio.run(_serve(given, float(handed.settings.get("hang_seconds", 0))))
    return 0


def main() -> int:
    handed = take()
    assert handed is not None
    return _run(sys.argv[1], handed)


if __name__ == "__main__":
    sys.exit(main())

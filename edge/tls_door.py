"""Accepts connections for TLS: who may come is asked before the handshake, not after it.

An event loop's own TLS server shows a connection only once its handshake is done, so handshakes
that never end are nobody's. Here each accepted connection is counted by the door and by its address
at once, handshakes have a number and a time, and when descriptors run out accepting pauses: what
waits stays in the listening socket's queue.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Final, Protocol

from edge.admission import Taker
from edge.cuts import cut
from edge.http_settings import HttpSettings
from edge.problems import Refusal
from ops.descriptors import EXHAUSTED
from ops.errors import Unavailable
from ops.log import get_logger
from ops.tasks import SupervisedGroup

ACCEPTS_A_TURN: Final = 64
"""Connections that are accepted before the loop may do something else."""
PAUSE_SECONDS: Final = 0.5
"""How long accepting pauses when descriptors have run out."""

_log = get_logger("edge.tls_door")


class Door(Protocol):
    """What admits connections (`edge/front.py`)."""

    def reserve(self, peer: str, descriptor: int) -> Taker | None: ...
    def release(self, account: Taker | None) -> None: ...


class Shaken(asyncio.Protocol):
    """A protocol whose handshake may never be done."""

    __slots__ = ()
    begun: bool
    """Whether it was."""


class TlsDoor:
    """One listening socket for TLS.

    Owns: the loop's callback on the socket, from `start` to `close`; handshakes are `tasks`'.
    """

    def __init__(
        self,
        listening: socket.socket,
        context: ssl.SSLContext,
        *,
        door: Door,
        settings: HttpSettings,
        tasks: SupervisedGroup,
        make: Callable[[Taker | None], Shaken],
    ) -> None:
        """make: the protocol of a connection whose handshake is done, and who holds it."""
        self._listening = listening
        self._context = context
        self._door = door
        self._settings = settings
        self._tasks = tasks
        self._make = make
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._shaking = 0

    def start(self) -> None:
        """Begins to accept."""
        self._timer = None
        self._loop.add_reader(self._listening, self._accept)

    def close(self) -> None:
        """Accepts no more."""
        self._loop.remove_reader(self._listening)
        if self._timer is not None:
            self._timer.cancel()

    def _accept(self) -> None:
        for _ in range(ACCEPTS_A_TURN):
            try:
                sock, address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as fault:
                if fault.errno not in EXHAUSTED:
                    raise
                self._pause(fault)
                return
            sock.setblocking(False)  # noqa: FBT003  its only parameter
            self._admit(sock, str(address[0]))

    def _pause(self, fault: OSError) -> None:
        _log.warning("accepting pauses", reason=fault.strerror, seconds=PAUSE_SECONDS)
        self._loop.remove_reader(self._listening)
        self._timer = self._loop.call_later(PAUSE_SECONDS, self.start)

    def _admit(self, sock: socket.socket, peer: str) -> None:
        if self._shaking >= self._settings.handshakes_max:
            cut("handshakes_full")
            sock.close()
            return
        try:
            account = self._door.reserve(peer, sock.fileno())
        except Refusal:
            # No TLS yet, and so no way to say why.
            cut("handshakes_full")
            sock.close()
            return
        try:
            self._tasks.start("tls handshake", self._shake(sock, account))
        except Unavailable:
            cut("handshakes_full")
            self._door.release(account)
            sock.close()

    async def _shake(self, sock: socket.socket, account: Taker | None) -> None:
        made = self._make(account)
        self._shaking += 1
        try:
            await self._loop.connect_accepted_socket(
                lambda: made,
                sock,
                ssl=self._context,
                ssl_handshake_timeout=self._settings.head_seconds,
            )
        except (OSError, ssl.SSLError, TimeoutError):
            cut("handshake")
        finally:
            self._shaking -= 1
            if not made.begun:
                self._door.release(account)
                with contextlib.suppress(OSError):
                    sock.close()

"""What a role gets from its supervisor: sockets, the life pipe, the settings, the way to say
"ready".

The supervisor passes descriptors by number and describes them in NEXUS_FDS (JSON); `take` turns
them into sockets, once. A role that runs alone has an `Inherited` of sockets it bound for itself.
Descriptors that are not named there stay closed to the child.
"""

import asyncio
import contextlib
import ctypes
import json
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

VARIABLE: Final = "NEXUS_FDS"
READY: Final = b"ready\n"
BEAT: Final = b"."
BEATS_IN_A_HANG: Final = 8
"""How often a child shows that it lives in the time after which it is taken to hang."""
EXIT_ORPHANED: Final = 70
"""A child's exit code when its supervisor was gone before it began."""
SETTINGS_BYTES_MAX: Final = 1_048_576
_PR_SET_PDEATHSIG: Final = 1


@dataclass(slots=True)
class Inherited:
    """Sockets of one role. Owns: all of them; `close` closes what is left."""

    http: list[socket.socket] = field(default_factory=list)
    """Listening sockets for HTTP, non-blocking: an edge worker's own."""
    https: list[socket.socket] = field(default_factory=list)
    """Listening sockets for HTTPS, likewise."""
    media: list[socket.socket] = field(default_factory=list)
    """SEQPACKET links: an edge worker's one end to media; media's ends, one an edge slot."""
    udp: list[socket.socket] = field(default_factory=list)
    """Media's bound UDP sockets, one a native worker."""
    slot: int = 0
    """Which of its role's processes this is."""
    supervised: bool = False
    outlives: bool = False
    """Whether this role ends by itself when its supervisor is gone, instead of with it."""
    life: int = -1
    """Reads end of file when the supervisor is gone."""
    status: int = -1
    """Takes the line that says this role is ready, and from then on its beats."""

    _said_ready: bool = False

    def ready(self) -> None:
        """Tells the supervisor that this role does its work. More calls do nothing."""
        if self.status >= 0 and not self._said_ready:
            self._said_ready = True
            self._say(READY)

    def watch_life(self, gone: Callable[[], None] | None = None) -> None:
        """Ends this process at once when the supervisor is gone. Needs a running event loop.

        gone: called once instead, for a role that outlives it.
        """
        if self.life >= 0:
            loop = asyncio.get_running_loop()
            if gone is None:
                loop.add_reader(self.life, os._exit, EXIT_ORPHANED)
            else:
                loop.add_reader(self.life, self._orphaned, gone)

    def _orphaned(self, gone: Callable[[], None]) -> None:
        asyncio.get_running_loop().remove_reader(self.life)
        gone()

    def beat(self, hang_seconds: float) -> None:
        """Shows the supervisor from now on that the event loop turns. Needs a running one.

        hang_seconds: when it takes a silent child to hang; 0: never, and nothing is done.
        """
        if self.status >= 0 and hang_seconds > 0:
            os.set_blocking(self.status, False)
            self._beat_on(asyncio.get_running_loop(), hang_seconds / BEATS_IN_A_HANG)

    def _beat_on(self, loop: asyncio.AbstractEventLoop, pause_seconds: float) -> None:
        if self.status >= 0:
            self._say(BEAT)
            loop.call_later(pause_seconds, self._beat_on, loop, pause_seconds)

    def _say(self, what: bytes) -> None:
        """A supervisor that is gone, or does not read for long, is told nothing."""
        with contextlib.suppress(OSError):
            os.write(self.status, what)

    def close(self) -> None:
        """Closes every socket and pipe that is still open."""
        for sock in (*self.http, *self.https, *self.media, *self.udp):
            sock.close()
        for descriptor in (self.life, self.status):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self.life = self.status = -1


@dataclass(frozen=True, slots=True)
class Handed:
    """What `take` found: the sockets, and the settings that the supervisor decided on."""

    inherited: Inherited
    settings: dict[str, Any]


def take(environment: Mapping[str, str] = os.environ) -> Handed | None:
    """What a supervisor handed over, or None when this process runs alone. Call it once, early.

    From here on the process dies with its supervisor, unless its role outlives it; it exits at once
    when that is gone already.
    """
    text = environment.get(VARIABLE)
    if not text:
        return None
    description = json.loads(text)
    outlives = bool(description["outlives"])
    if not outlives:
        die_with_parent(int(description["parent"]))
    inherited = Inherited(
        http=_sockets(description["http"]),
        https=_sockets(description["https"]),
        media=_sockets(description["media"]),
        udp=_sockets(description["udp"]),
        slot=int(description["slot"]),
        supervised=True,
        outlives=outlives,
        life=_descriptor(description["life"]),
        status=_descriptor(description["status"]),
    )
    memory = int(description["settings"])
    settings = json.loads(os.pread(memory, SETTINGS_BYTES_MAX, 0))
    os.close(memory)
    return Handed(inherited, settings)


def describe(
    *,
    sockets: Mapping[str, Sequence[socket.socket]],
    slot: int,
    life: int,
    status: int,
    settings: int,
    parent: int,
    outlives: bool = False,
) -> tuple[str, tuple[int, ...]]:
    """The value of NEXUS_FDS, and the descriptors that it names."""
    numbers = {
        name: [sock.fileno() for sock in sockets.get(name, ())]
        for name in ("http", "https", "media", "udp")
    }
    text = json.dumps(
        {
            **numbers,
            "slot": slot,
            "life": life,
            "status": status,
            "settings": settings,
            "parent": parent,
            "outlives": outlives,
        }
    )
    passed = [number for row in numbers.values() for number in row]
    return text, (*passed, life, status, settings)


def settings_memory(settings: Mapping[str, Any]) -> int:
    """An anonymous file in memory with the settings: no secret on disk, in the environment or `ps`.

    Raises ValueError when they are too long. Owns nothing: the caller closes the descriptor.
    """
    data = json.dumps(settings).encode()
    if len(data) > SETTINGS_BYTES_MAX:
        raise ValueError(f"settings of {len(data)} bytes: over {SETTINGS_BYTES_MAX}")
    memory = os.memfd_create("nexus-settings")
    os.write(memory, data)
    return memory


def die_with_parent(parent: int) -> None:
    """The kernel kills this process when its parent dies; exits now if that happened before."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(EXIT_ORPHANED)


def _sockets(numbers: Sequence[int]) -> list[socket.socket]:
    found = []
    for number in numbers:
        sock = socket.socket(fileno=_descriptor(number))
        sock.setblocking(False)  # noqa: FBT003  its only parameter
        found.append(sock)
    return found


def _descriptor(number: int) -> int:
    """The descriptor, closed to what this process may start itself."""
    os.set_inheritable(number, False)  # noqa: FBT003  positional only
    return number

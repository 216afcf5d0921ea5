"""Binds the node's sockets, and says clearly why it cannot and who is in the way.

TCP: one listening socket a worker on the same address (SO_REUSEPORT), so the kernel spreads
connections and a restarted worker finds its own queue. UDP: one port a native worker. It accepts
nothing itself.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.errors import Rejected

UDP_BUFFER_BYTES: Final = 8_388_608
"""Asked for in each direction; the kernel grants up to net.core.rmem_max and wmem_max."""
LINK_BUFFER_BYTES: Final = 1_048_576
"""Asked for on each end of a link between edge and media."""
_ADDRESSES_MAX: Final = 16
_ALL: Final = frozenset({"*", ""})
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_LISTEN_STATE: Final = "0A"
_CLOSED_STATE: Final = "07"


class ListenError(Rejected):
    """An address cannot be listened on; the message names it, why, and who has it if known."""

    code = "listen.failed"

    def __init__(self, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.number = number


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that holds a port."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


@dataclass(frozen=True, slots=True)
class _Bind:
    """A resolved address; `dual`: an IPv6 socket that takes IPv4 as well."""

    family: socket.AddressFamily
    host: str
    port: int
    dual: bool = False

    @property
    def shown(self) -> str:
        bracketed = f"[{self.host}]" if self.family == socket.AF_INET6 else self.host
        return f"{bracketed}:{self.port}"


def split_host_port(address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[IPv6]:port"; the host may be empty or "*".

    Raises ListenError.
    """
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ListenError(f"cannot listen on {address!r}: write host:port or [IPv6]:port")
    return host, int(port)


def tcp_slots(
    addresses: Sequence[str], *, slots: int, backlog: int
) -> tuple[list[list[socket.socket]], list[str]]:
    """Listening sockets for each of `slots` workers, and the addresses with their real ports.

    A port 0 is chosen by the kernel, the same for all slots. Raises ListenError.
    Owns nothing: the caller closes the sockets.
    """
    with _closing_on_failure() as made:
        rows: list[list[socket.socket]] = [[] for _ in range(slots)]
        shown: list[str] = []
        for address in addresses:
            for target in _resolve(address, socket.SOCK_STREAM):
                chosen = _claim_tcp(target)
                for row in rows:
                    sock = _tcp(chosen)
                    made.append(sock)
                    _listen(sock, chosen, backlog)
                    row.append(sock)
                shown.append(chosen.shown)
        return rows, shown


def udp_ports(host: str, port: int, *, count: int, ipv6: bool) -> list[socket.socket]:
    """UDP sockets on `count` ports from `port` on (0: any free ports), with large buffers.

    A wildcard host takes IPv4 and IPv6 on one socket when `ipv6` and the machine have it.
    Raises ListenError. Owns nothing: the caller closes the sockets.
    """
    with _closing_on_failure() as made:
        for number in range(count):
            wanted = port + number if port else 0
            if wanted > 65_535:
                raise ListenError(f"cannot use UDP port {wanted}: the last one is 65535")
            made.append(_udp(_udp_target(host, wanted, ipv6=ipv6)))
        return list(made)


def link() -> tuple[socket.socket, socket.socket]:
    """Both ends of a SEQPACKET pair, with buffers as large as the kernel grants."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LINK_BUFFER_BYTES)
    return ends


def holder(port: int, *, udp: bool) -> Holder | None:
    """Who holds a local port, as far as this user may see. Cost: reads all processes' files."""
    inodes = _inodes(port, udp=udp)
    if not inodes:
        return None
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and _holds(process, inodes):
            return Holder(int(process.name), _command(process))
    return None


def _resolve(address: str, kind: socket.SocketKind) -> list[_Bind]:
    host, port = split_host_port(address)
    if host in _ALL:
        if _ipv6_works():
            return [_Bind(socket.AF_INET6, "::", port, dual=True)]
        return [_Bind(socket.AF_INET, "0.0.0.0", port)]  # noqa: S104  asked for
    try:
        found = socket.getaddrinfo(host, port, type=kind, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as fault:
        raise ListenError(f"cannot listen on {address}: unknown host {host!r}") from fault
    targets: list[_Bind] = []
    for family, _, _, _, where in found[:_ADDRESSES_MAX]:
        if family in (socket.AF_INET, socket.AF_INET6):
            target = _Bind(family, str(where[0]), port)
            if target not in targets:
                targets.append(target)
    usable = [item for item in targets if item.family == socket.AF_INET or _ipv6_works()]
    if not usable:
        raise ListenError(f"cannot listen on {address}: this machine has no IPv6")
    return usable


def _ipv6_works() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _claim_tcp(target: _Bind) -> _Bind:
    """Finds out whether somebody else listens there, and the port when the kernel is to choose.

    Without this, SO_REUSEPORT would let two nodes of one user share a port without noticing.
    """
    probe = socket.socket(target.family, socket.SOCK_STREAM)
    with probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _bind(probe, target)
        port = int(probe.getsockname()[1])
    return _Bind(target.family, target.host, port, target.dual)


def _tcp(target: _Bind) -> socket.socket:
    sock = socket.socket(target.family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def _listen(sock: socket.socket, target: _Bind, backlog: int) -> None:
    _bind(sock, target)
    sock.listen(backlog)
    sock.setblocking(False)  # noqa: FBT003  its only parameter


def _udp_target(host: str, port: int, *, ipv6: bool) -> _Bind:
    if host in _ALL or host == "0.0.0.0":  # noqa: S104  asked for
        if ipv6 and _ipv6_works():
            return _Bind(socket.AF_INET6, "::", port, dual=True)
        return _Bind(socket.AF_INET, "0.0.0.0", port)  # noqa: S104  asked for
    bare = host.strip("[]")
    shown = f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"
    target = _resolve(shown, socket.SOCK_DGRAM)[0]
    dual = bare == "::" and ipv6
    return _Bind(target.family, target.host, port, dual)


def _udp(target: _Bind) -> socket.socket:
    sock = socket.socket(target.family, socket.SOCK_DGRAM)
    try:
        _bind(sock, target, udp=True)
    except ListenError:
        sock.close()
        raise
    _enlarge(sock, socket.SO_RCVBUF, _SO_RCVBUFFORCE)
    _enlarge(sock, socket.SO_SNDBUF, _SO_SNDBUFFORCE)
    sock.setblocking(False)  # noqa: FBT003  its only parameter
    return sock


def _enlarge(sock: socket.socket, option: int, forced: int) -> None:
    """Past the kernel's limit where we may, up to it otherwise."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, forced, UDP_BUFFER_BYTES)
    except OSError:
        sock.setsockopt(socket.SOL_SOCKET, option, UDP_BUFFER_BYTES)


def _bind(sock: socket.socket, target: _Bind, *, udp: bool = False) -> None:
    if target.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not target.dual))
    try:
        sock.bind((target.host, target.port))
    except OSError as fault:
        raise ListenError(_why(fault, target, udp=udp), fault.errno or 0) from fault


def _why(fault: OSError, target: _Bind, *, udp: bool) -> str:
    kind = "UDP " if udp else ""
    what = f"cannot listen on {kind}{target.shown}: "
    if fault.errno == errno.EADDRINUSE:
        who = holder(target.port, udp=udp)
        if who is not None:
            return f"{what}{who} holds it; stop it or choose another port"
        return f"{what}another process holds it, of another user or container; choose another port"
    if fault.errno == errno.EACCES:
        return f"{what}ports below 1024 need privileges; choose another port"
    if fault.errno == errno.EADDRNOTAVAIL:
        return f"{what}this machine has no such address"
    return what + (fault.strerror or str(fault))


@contextlib.contextmanager
def _closing_on_failure() -> Iterator[list[socket.socket]]:
    made: list[socket.socket] = []
    try:
        yield made
    except (ListenError, OSError):
        for sock in made:
            sock.close()
        raise


def _inodes(port: int, *, udp: bool) -> set[str]:
    """Socket inodes bound to a port, from /proc/net."""
    found: set[str] = set()
    wanted = _CLOSED_STATE if udp else _LISTEN_STATE
    for name in ("udp", "udp6") if udp else ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == wanted:
                    found.add(fields[9])
    return found


def _holds(process: Path, inodes: set[str]) -> bool:
    with contextlib.suppress(OSError), os.scandir(process / "fd") as descriptors:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                target = str(Path(descriptor.path).readlink())
                if target.startswith("socket:[") and target[8:-1] in inodes:
                    return True
    return False


def _command(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return "?"
    text = " ".join(word.decode(errors="replace") for word in words if word)
    return text if len(text) <= 80 else text[:77] + "..."

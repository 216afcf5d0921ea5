"""`nexus doctor`: looks at this machine as a node would use it, and says what to do.

Each check is one function that returns findings; none of them changes anything, and none needs the
network. What is only slow or risky is a warning; what keeps a node from serving is a fault.
"""

import contextlib
import ctypes
import datetime as dt
import importlib
import importlib.metadata
import json
import os
import platform
import resource
import shutil
import socket
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from cryptography import x509

from edge import access, doctor_regions, doctor_state
from edge.family import edge_count
from edge.finding import Finding
from edge.settings import Settings
from edge.tls import Certificates
from media.addresses import candidates, interface_addresses
from media.webrtc_settings import worker_count
from ops import descriptors, run_dir
from ops.errors import Rejected
from ops.listeners import (
    UDP_BUFFER_BYTES,
    Holder,
    ListenError,
    holder,
    split_host_port,
    tcp_slots,
    udp_ports,
)

PYTHON_MIN: Final = (3, 11)
BUFFER_BYTES_MIN: Final = 2_097_152
"""Below this a burst of a few hundred viewers' packets is lost in the kernel."""
HLS_BYTES_A_STREAM: Final = 33_554_432
"""Room that one stream's HLS window may take in memory: 60 s at 4 Mb/s."""
MEMORY_BYTES_MIN: Final = 4 * HLS_BYTES_A_STREAM
EXPIRY_DAYS_MIN: Final = 14
UDP_SECONDS: Final = 1.0
_UDP_SEGMENT: Final = 103
_SOL_UDP: Final = 17
_TIME_ERROR: Final = 5
_TIMEX_BYTES: Final = 512


def examine(settings: Settings) -> list[Finding]:
    """Every finding, in the order in which one would mend things. Cost: about a second."""
    checks: list[Callable[[Settings], Iterator[Finding]]] = [
        _versions,
        _native,
        _codecs,
        _cores,
        _guard,
        _tcp,
        _udp,
        _udp_buffers,
        _segmentation,
        _files,
        _memory,
        doctor_state.examine,
        doctor_regions.examine,
        _tls,
        _clock,
        _pages,
    ]
    return [finding for check in checks for finding in check(settings)]


def is_ill(findings: Sequence[Finding]) -> bool:
    """Whether a node could not serve here."""
    return any(finding.state == "fail" for finding in findings)


def as_text(findings: Sequence[Finding]) -> str:
    """Lines for people."""
    width = max(len(finding.check) for finding in findings)
    lines = []
    for finding in findings:
        lines.append(f"{finding.state:<5} {finding.check:<{width}}  {finding.detail}")
        if finding.advice:
            lines.append(f"      {'':<{width}}  → {finding.advice}")
    counts = {state: sum(item.state == state for item in findings) for state in ("warn", "fail")}
    verdict = "this machine cannot run a node yet" if counts["fail"] else "ready to run a node"
    lines.append(f"\n{verdict}: {counts['fail']} faults, {counts['warn']} warnings")
    return "\n".join(lines) + "\n"


def as_json(findings: Sequence[Finding]) -> str:
    """One object for programs."""
    body = {"ok": not is_ill(findings), "findings": [asdict(item) for item in findings]}
    return json.dumps(body, indent=1) + "\n"


def _versions(_settings: Settings) -> Iterator[Finding]:
    found = platform.python_version()
    if sys.version_info < PYTHON_MIN:
        yield Finding("python", "fail", found, "install Python 3.11 or later")
    else:
        yield Finding("python", "ok", found)
    names = ("uvloop", "aiohttp", "msgspec", "av", "cryptography")
    missing, present = [], []
    for name in names:
        try:
            present.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        detail = f"missing: {', '.join(missing)}"
        yield Finding("libraries", "fail", detail, "install requirements.lock (make setup)")
    else:
        yield Finding("libraries", "ok", ", ".join(present))


def _native(_settings: Settings) -> Iterator[Finding]:
    try:
        version = importlib.import_module("media._native").VERSION
    except ImportError as fault:
        yield Finding("native module", "fail", str(fault), "build it: make native")
    else:
        yield Finding("native module", "ok", str(version))


def _codecs(_settings: Settings) -> Iterator[Finding]:
    """The demo encodes H.264 and Opus, HLS makes AAC from Opus."""
    wanted = (("libx264", "w"), ("libopus", "w"), ("opus", "r"), ("aac", "w"))
    missing = []
    try:
        codec = importlib.import_module("av.codec").Codec
    except ImportError as fault:
        yield Finding("codecs", "fail", str(fault), "install PyAV from its wheel: make setup")
        return
    for name, mode in wanted:
        try:
            codec(name, mode)
        except ValueError:
            missing.append(name)
    if missing:
        detail = f"this FFmpeg lacks {', '.join(missing)}"
        advice = "install PyAV from its wheel, which has them; HLS lacks AAC sound without"
        yield Finding("codecs", "warn", detail, advice)
    else:
        yield Finding("codecs", "ok", "H.264, Opus and AAC")


def _cores(settings: Settings) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0))
    wanted = max(edge_count(settings), worker_count(settings.webrtc))
    detail = f"{cores} cores; {edge_count(settings)} edge, {worker_count(settings.webrtc)} media"
    if wanted > 2 * cores:
        advice = "more workers than cores only cost: lower edge.workers and webrtc.workers"
        yield Finding("cores", "warn", detail, advice)
    else:
        yield Finding("cores", "ok", detail)


def _guard(settings: Settings) -> Iterator[Finding]:
    try:
        access.check_start(settings)
    except Rejected as fault:
        yield Finding("access", "fail", fault.message, "see auth in docs/settings.md")
    else:
        guarded = bool(settings.auth.keys or settings.auth.hook_url)
        yield Finding("access", "ok", "keys or a hook" if guarded else "loopback alone, no keys")


def _tcp(settings: Settings) -> Iterator[Finding]:
    for name, addresses in (("http", settings.edge.listen), ("https", settings.tls.listen)):
        for address in addresses:
            try:
                rows, shown = tcp_slots([address], slots=1, backlog=1)
            except ListenError as fault:
                yield _taken(f"{name} {address}", fault, address, udp=False)
                continue
            for sock in rows[0]:
                sock.close()
            yield Finding(f"{name} {address}", "ok", f"free: {', '.join(shown)}")


def _taken(check: str, fault: ListenError, address: str, *, udp: bool) -> Finding:
    """A node of ours that already runs is no fault of the machine."""
    _, port = split_host_port(address)
    who = holder(port, udp=udp)
    if who is not None and _is_ours(who):
        return Finding(
            check, "warn", f"a node runs here already: {who}", "stop it to start another"
        )
    return Finding(check, "fail", fault.message, "stop it, or change the setting")


def _is_ours(who: Holder) -> bool:
    return "edge.main" in who.command or "nexus" in who.command


def _udp(settings: Settings) -> Iterator[Finding]:
    """Binds the real ports, and sends a datagram to each address that peers would be offered."""
    webrtc = settings.webrtc
    count = worker_count(webrtc)
    check = f"udp {webrtc.listen}:{webrtc.port}" + (f" and {count - 1} more" if count > 1 else "")
    try:
        socks = udp_ports(webrtc.listen, webrtc.port, count=count, ipv6=webrtc.ipv6)
    except ListenError as fault:
        yield _taken(check, fault, f"0.0.0.0:{webrtc.port}", udp=True)
        return
    try:
        addresses = candidates(
            bound=webrtc.listen,
            given=(),
            found=interface_addresses(),
            ipv6=webrtc.ipv6,
            loopback_first=True,
        )
        deaf = [address for address in addresses if not _hears(socks[0], address.strip("[]"))]
    except ValueError as fault:
        yield Finding(check, "fail", str(fault), "correct webrtc.listen")
        return
    finally:
        for sock in socks:
            sock.close()
    if deaf:
        detail = f"nothing arrives on {', '.join(deaf)}"
        yield Finding(check, "warn", detail, "look at the firewall: these addresses are offered")
    elif not addresses:
        yield Finding(check, "fail", "this machine has no address", "bring an interface up")
    else:
        yield Finding(check, "ok", f"free; datagrams arrive on {', '.join(addresses)}")


def _hears(sock: socket.socket, address: str) -> bool:
    """Whether a datagram sent to that address of ours arrives."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    token = os.urandom(16)
    sock.settimeout(UDP_SECONDS)
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
        sender.sendto(token, (address, sock.getsockname()[1]))
        while True:
            if sock.recv(64) == token:
                return True
    return False


def _udp_buffers(_settings: Settings) -> Iterator[Finding]:
    sock = udp_ports("127.0.0.1", 0, count=1, ipv6=False)[0]
    with sock:
        # The kernel reports twice what it grants, to account for its own overhead.
        receive = sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2
        send = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) // 2
    detail = f"receive {receive // 1024} KiB, send {send // 1024} KiB"
    if min(receive, send) >= BUFFER_BYTES_MIN:
        yield Finding("udp buffers", "ok", detail)
        return
    size = UDP_BUFFER_BYTES
    advice = f"sysctl -w net.core.rmem_max={size} net.core.wmem_max={size}"
    yield Finding("udp buffers", "warn", f"{detail}: bursts will be lost", advice)


def _segmentation(settings: Settings) -> Iterator[Finding]:
    """Sends three datagrams in one call, as the packet plane does."""
    if not settings.webrtc.gso:
        yield Finding("udp segmentation", "ok", "switched off by webrtc.gso")
        return
    why = ""
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(UDP_SECONDS)
        size = struct.pack("=H", 100)
        try:
            control = [(_SOL_UDP, _UDP_SEGMENT, size)]
            sender.sendmsg([bytes(300)], control, 0, receiver.getsockname())
            if [len(receiver.recv(400)) for _ in range(3)] != [100, 100, 100]:
                why = "the kernel does not split"
        except OSError as fault:
            why = fault.strerror or str(fault)
    if why:
        advice = "nothing to do: packets are sent one by one, at a higher cost"
        yield Finding("udp segmentation", "warn", why, advice)
    else:
        yield Finding("udp segmentation", "ok", "works")


def _files(settings: Settings) -> Iterator[Finding]:
    """`nexus up` raises the soft limit to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    edge = settings.edge
    wanted = edge.connections_max + edge.reserved_files_max
    shown = "unlimited" if hard == resource.RLIM_INFINITY else f"{hard}"
    detail = f"{shown} a process, {wanted} wanted"
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        yield Finding("open files", "ok", detail)
    else:
        fit = descriptors.room(
            limit=hard,
            taken=descriptors.used(),
            wanted=edge.connections_max,
            reserved=edge.reserved_files_max,
        )
        detail = f"{detail}: about {fit.connections} connections a worker"
        advice = f"ulimit -Hn {wanted} (LimitNOFILE= for systemd), or lower edge.connections_max"
        yield Finding("open files", "warn", detail, advice)


def _memory(settings: Settings) -> Iterator[Finding]:
    """The run directory's file system: HLS parts live there."""
    _, port = split_host_port(settings.edge.listen[0])
    path = run_dir.choose(settings.node.run_dir, port)
    folder = path
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    detail = f"{path}: {free // 1_048_576} MiB free, for about {free // HLS_BYTES_A_STREAM} streams"
    if not doctor_state.can_make_a_folder(folder):
        yield Finding("run directory", "fail", f"{folder} is not writable", "set node.run_dir")
    elif free < MEMORY_BYTES_MIN:
        advice = "make it larger (docker: --shm-size=1g), or set node.run_dir"
        yield Finding("run directory", "warn", detail, advice)
    elif not _in_memory(folder):
        advice = "HLS parts are rewritten all the time: choose a folder in memory, such as /dev/shm"
        yield Finding("run directory", "warn", f"{path} is on a disk", advice)
    else:
        yield Finding("run directory", "ok", detail)


def _in_memory(folder: Path) -> bool:
    best, kind = "", ""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, mount, found, *_ = line.split()
        inside = str(folder) == mount or str(folder).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    return kind in {"tmpfs", "ramfs"}


def _tls(settings: Settings) -> Iterator[Finding]:
    tls = settings.tls
    if not tls.listen:
        advice = "" if access_is_local(settings) else "cameras work only over HTTPS: set tls.listen"
        yield Finding("tls", "warn" if advice else "ok", "no HTTPS", advice)
        return
    if not tls.certificate:
        yield Finding("tls", "ok", "a self-made certificate: browsers warn of it once")
        return
    try:
        Certificates(Path(tls.certificate), Path(tls.key))
        first = x509.load_pem_x509_certificate(Path(tls.certificate).read_bytes())
    except (Rejected, OSError, ValueError) as fault:
        yield Finding("tls", "fail", str(fault), "check tls.certificate and tls.key")
        return
    left = first.not_valid_after_utc - dt.datetime.now(dt.UTC)
    detail = f"valid until {first.not_valid_after_utc:%Y-%m-%d}"
    if left.total_seconds() <= 0:
        yield Finding("tls", "fail", f"expired: {detail}", "renew the certificate")
    elif left < dt.timedelta(days=EXPIRY_DAYS_MIN):
        yield Finding("tls", "warn", detail, "renew the certificate; it is reloaded by itself")
    else:
        yield Finding("tls", "ok", detail)


def access_is_local(settings: Settings) -> bool:
    """Whether the node listens on loopback alone, where cameras work without HTTPS."""
    hosts = [split_host_port(address)[0] for address in settings.edge.listen]
    return all(access.is_loopback(host) for host in hosts)


def _clock(_settings: Settings) -> Iterator[Finding]:
    """Asks the kernel whether something keeps its clock; dates in playlists rest on it."""
    if dt.datetime.now(dt.UTC).year < 2026:
        yield Finding("clock", "fail", "it is in the past", "set the clock")
        return
    buffer = ctypes.create_string_buffer(_TIMEX_BYTES)
    state = ctypes.CDLL(None).adjtimex(buffer)
    if 0 <= state < _TIME_ERROR:
        yield Finding("clock", "ok", "kept in step")
    elif state == _TIME_ERROR:
        advice = "run chrony or systemd-timesyncd, or latency shown to viewers will be off"
        yield Finding("clock", "warn", "nothing keeps it in step", advice)
    else:
        yield Finding("clock", "ok", "unknown: the kernel does not tell here")


def _pages(_settings: Settings) -> Iterator[Finding]:
    index = Path(__file__).parent / "static" / "index.html"
    if index.is_file():
        yield Finding("pages", "ok", "built")
    else:
        yield Finding("pages", "warn", "not built", "make web")

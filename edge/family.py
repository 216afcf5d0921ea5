"""A node: which children it has, which socket each gets, and what it tells whoever started it.

It binds everything, writes the effective settings down for the children (real ports, real run
directory) and hands over to `ops/supervisor.py`, which knows nothing of edge or media.
"""

import asyncio
import os
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from edge.settings import Settings
from media.webrtc_settings import worker_count
from ops import descriptors, listeners, metrics, run_dir
from ops.clock import SYSTEM
from ops.listeners import ListenError
from ops.log import get_logger
from ops.settings import to_plain
from ops.state.claim import family_claim
from ops.supervisor import Child, Supervisor

BIND_SECONDS: Final = 2.0
"""How long a node that follows a killed one waits for its last children to let their ports go."""
_BIND_PAUSE_SECONDS: Final = 0.05
_WILDCARDS: Final = frozenset({"0.0.0.0", "::", ""})  # noqa: S104  compared with

_log = get_logger("edge.family")


@dataclass(frozen=True, slots=True)
class Bound:
    """Every socket of a node, and the settings with the addresses they really have.

    Owns: the sockets, until `close`.
    """

    settings: Settings
    http: list[list[socket.socket]]
    """By edge slot."""
    https: list[list[socket.socket]]
    links: list[tuple[socket.socket, socket.socket]]
    """By edge slot: the edge worker's end, and media's."""
    udp: list[socket.socket]

    def close(self) -> None:
        """Closes this process's copies."""
        for row in (*self.http, *self.https, *self.links, self.udp):
            for sock in row:
                sock.close()


async def run_node(settings: Settings, on_ready: Callable[[Settings], None]) -> int:
    """Runs a node until it is told to stop; its exit code. `on_ready` gets the effective settings.

    Raises ListenError, RunDirError, StateError. Owns: sockets, run directory, the right to its
    region's state, children, all gone on return.
    """
    descriptors.raise_limit()
    _, port = listeners.split_host_port(settings.edge.listen[0])
    path = run_dir.choose(settings.node.run_dir, port)
    with (
        _state_claim(settings),
        run_dir.RunDir(path, adopt_seconds=settings.node.adopt_seconds) as directory,
    ):
        placed = replace(settings, node=replace(settings.node, run_dir=path))
        try:
            bound = await _bind_patiently(placed, patient=directory.had_leftovers)
        except ListenError:
            if directory.adopted:
                directory.keep()
            raise
        for dead in run_dir.sweep_dead(settings.node.adopt_seconds):
            _log.info("a killed node's directory is removed", run_dir=str(dead))
        metrics.start(path / "metrics", "supervisor-0")
        _log.info("node starts", run_dir=str(path), adopted=directory.adopted)
        try:
            supervisor = Supervisor(
                children(bound),
                run_dir=directory,
                settings=to_plain(bound.settings),
                facts=_facts(bound),
                stop_seconds=settings.node.stop_seconds,
                hang_seconds=settings.node.hang_seconds,
                on_ready=lambda: on_ready(bound.settings),
            )
            return await supervisor.run()
        finally:
            metrics.stop()
            bound.close()


def bind(settings: Settings) -> Bound:
    """Binds every socket of a node with these roles. Raises ListenError."""
    edges = edge_count(settings) if "edge" in settings.node.roles else 0
    backlog = settings.edge.backlog
    http, listen = listeners.tcp_slots(settings.edge.listen, slots=edges, backlog=backlog)
    try:
        https, listen_tls = listeners.tcp_slots(settings.tls.listen, slots=edges, backlog=backlog)
    except ListenError:
        _close(http)
        raise
    try:
        udp = bind_udp(settings) if "media" in settings.node.roles else []
    except ListenError:
        _close((*http, *https))
        raise
    effective = replace(
        settings,
        edge=replace(settings.edge, listen=tuple(listen), workers=edges or settings.edge.workers),
        tls=replace(settings.tls, listen=tuple(listen_tls)),
        webrtc=replace(
            settings.webrtc,
            port=int(udp[0].getsockname()[1]) if udp else settings.webrtc.port,
            workers=len(udp) or settings.webrtc.workers,
        ),
    )
    links = [listeners.link() for _ in range(edges)]
    return Bound(effective, http, https, links, udp)


def bind_udp(settings: Settings) -> list[socket.socket]:
    """Media's UDP sockets. Raises ListenError."""
    webrtc = settings.webrtc
    return listeners.udp_ports(
        webrtc.listen, webrtc.port, count=worker_count(webrtc), ipv6=webrtc.ipv6
    )


def children(bound: Bound) -> list[Child]:
    """The processes of a node, media first: edge workers greet it when they start."""
    roles = bound.settings.node.roles
    found: list[Child] = []
    if "media" in roles:
        sockets = {"media": [media for _, media in bound.links], "udp": bound.udp}
        found.append(_child("media", 0, sockets))
    for slot, (link, _) in enumerate(bound.links):
        row = {"http": bound.http[slot], "https": bound.https[slot], "media": [link]}
        found.append(replace(_child("edge", slot, row), reloads=True))
    if "state" in roles:
        found.append(_state_child(bound.settings))
    if "worker" in roles:
        # It waits for the database by itself.
        count = bound.settings.jobs.workers
        found += [replace(_child("worker", slot, {}), essential=False) for slot in range(count)]
    if "demo" in roles:
        found.append(replace(_child("demo", 0, {}), essential=False, stops_first=True))
    return found


def edge_count(settings: Settings) -> int:
    """Edge workers of a node: as many as said, or one a core that this process may use."""
    return settings.edge.workers or len(os.sched_getaffinity(0))


def address_to_open(listen: str) -> str:
    """Host and port that somebody on this machine would type for a listening address."""
    host, port = listeners.split_host_port(listen)
    if host in _WILDCARDS:
        host = "127.0.0.1"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def banner(settings: Settings) -> str:
    """What `nexus up` says when it serves."""
    base = f"http://{address_to_open(settings.edge.listen[0])}"
    secure = [f"https://{address_to_open(item)}" for item in settings.tls.listen]
    stream = settings.demo.stream if "demo" in settings.node.roles else "STREAM"
    first, last = settings.webrtc.port, settings.webrtc.port + settings.webrtc.workers - 1
    keys = "a key is needed" if settings.auth.keys or settings.auth.hook_url else "no key is needed"
    rows = [
        ("open", base + "/"),
        *(("or", f"{item}/   (cameras work here from other machines)") for item in secure),
        ("watch", f"{base}/watch/{stream}"),
        ("go live", f"{base}/live"),
        ("WHIP", f"{base}/whip/STREAM   (publish; {keys})"),
        ("WHEP", f"{base}/whep/{stream}"),
        ("HLS", f"{base}/hls/{stream}/index.m3u8"),
        ("media", f"UDP {first}" + (f" to {last}" if last > first else "")),
        ("stop", "Ctrl-C"),
    ]
    lines = "".join(f"  {name:<8} {text}\n" for name, text in rows)
    return f"\nNexus COS is ready.\n\n{lines}\n"


def _state_claim(settings: Settings) -> AbstractContextManager[object]:
    """Two nodes never share embedded state. Raises StateError, which names the other one."""
    if "state" not in settings.node.roles:
        return nullcontext()
    return family_claim(settings, holder=f"listening on {settings.edge.listen[0]}")


async def _bind_patiently(settings: Settings, *, patient: bool) -> Bound:
    deadline = SYSTEM.monotonic() + (BIND_SECONDS if patient else 0.0)
    while True:
        try:
            return bind(settings)
        except ListenError:
            if SYSTEM.monotonic() >= deadline:
                raise
        await asyncio.sleep(_BIND_PAUSE_SECONDS)


def _child(role: str, slot: int, sockets: dict[str, list[socket.socket]]) -> Child:
    """It runs the same code as this process does, wherever it was started."""
    code = str(Path(__file__).parent.parent)
    others = [item for item in os.environ.get("PYTHONPATH", "").split(os.pathsep) if item]
    return Child(
        name=f"{role}-{slot}",
        command=(sys.executable, "-P", "-m", "edge.main", "serve", role),
        slot=slot,
        sockets=sockets,
        environment={"PYTHONPATH": os.pathsep.join([code, *others])},
    )


def _state_child(settings: Settings) -> Child:
    """Media serves without it, so nobody waits for it; whoever uses it may need it to the last."""
    return replace(
        _child("state", 0, {}),
        essential=False,
        stops_last=True,
        stop_seconds=settings.node.stop_seconds + settings.state.stop_seconds,
        outlives=True,
    )


def _facts(bound: Bound) -> dict[str, object]:
    """For `supervisor.json`: nothing secret."""
    settings = bound.settings
    return {
        "started_unix": round(SYSTEM.unix(), 3),
        "http": list(settings.edge.listen),
        "https": list(settings.tls.listen),
        "udp": [int(sock.getsockname()[1]) for sock in bound.udp],
        "roles": list(settings.node.roles),
    }


def _close(rows: Sequence[Sequence[socket.socket]]) -> None:
    for row in rows:
        for sock in row:
            sock.close()

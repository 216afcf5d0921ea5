"""One edge worker: puts the HTTP side together, serves until it is cancelled, stops promptly.

    listening sockets ─ Door ─┬─ Connection ─┬─ HlsServer ── Shelf (run directory)
                              │              └─ Lane ─ Gateway ── services
                              └─ aiohttp: pages, WHIP, WHEP, control API, operations, gateway
    SEQPACKET to media ─ MediaLink: commands, the mirror of all streams, wake-ups for HLS

Entering starts everything in this order, leaving stops it in the reverse one: no new connections,
waiting players answered 503, requests under way given half a second.
"""

import asyncio
import signal
import socket
import ssl
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Final

from edge.access import Access
from edge.admission import Admission, GuardedAccess
from edge.connection import Surroundings
from edge.control import Control, Events
from edge.front import Door
from edge.gateway.gateway import Clocks
from edge.gateway.lane import PREFIX, Lane
from edge.gateway.side import Business, GatewaySide, NoServices
from edge.health import liveness, readiness
from edge.hls_audience import Audience
from edge.hls_server import LOOK_SECONDS, HlsServer
from edge.hls_twin import HlsTwin
from edge.hook import Hook
from edge.http_app import SHUTDOWN_SECONDS, HttpSide, make_app
from edge.http_date import HttpDate
from edge.link_api import LinkApi
from edge.media_link import MediaLink
from edge.openapi import Description
from edge.operations import Operations
from edge.pages import Pages
from edge.routes import Gate, Routed
from edge.services_side import ServicesSide, has_services
from edge.settings import Settings
from edge.signalling import WHEP, WHIP, Signalling
from edge.timer_wheel import TimerWheel
from edge.tls import CHECK_SECONDS, Certificates, certificates
from edge.token_keys import key_file
from media.hls.shelf import Shelf
from media.messages import StreamChanged
from ops import descriptors, metrics
from ops.clock import SYSTEM, Clock
from ops.descriptors import Room
from ops.inherited import Inherited
from ops.log import get_logger
from ops.opened import Opened
from ops.tasks import SupervisedGroup

TELL_SECONDS: Final = 2.0
"""How often media is told how many HLS viewers this worker has."""

_log = get_logger("edge.worker")
_connections = metrics.gauge("nexus_edge_connections", "Open connections.")
_connections_max = metrics.gauge(
    "nexus_edge_connections_max", "Connections for which there is room."
)
_refused = metrics.counter("nexus_edge_connections_refused", "Connections that found no room.")
_hls_requests = metrics.counter("nexus_hls_requests", "HLS requests answered.", ("status",))
_hls_bytes = metrics.counter("nexus_hls_sent_bytes", "Bytes of these answers, heads included.")
_hls_released = metrics.counter(
    "nexus_hls_released_requests", "HLS requests answered because what they waited for came."
)
_hls_waiting = metrics.gauge("nexus_hls_waiting_requests", "HLS requests that wait for a part.")
_link_dropped = metrics.counter("nexus_edge_link_dropped", "Messages to media that found no room.")
_link_pending = metrics.gauge("nexus_edge_link_pending", "Requests to media without a reply.")


async def run(settings: Settings, inherited: Inherited) -> None:
    """Serves on the inherited sockets until it is cancelled."""
    async with Worker(settings, inherited) as worker:
        inherited.ready()
        _log.info("serving", http=list(settings.edge.listen), https=list(settings.tls.listen))
        await worker.serve()


class Worker(Opened):
    """All parts of one worker. `async with` it.

    Owns: everything it makes; the sockets stay the caller's (`Inherited.close`).
    """

    def __init__(
        self,
        settings: Settings,
        inherited: Inherited,
        *,
        clock: Clock = SYSTEM,
        business: Business | None = None,
    ) -> None:
        """business: what the gateway leads to, when it is not what the settings say."""
        self._settings = settings
        self._inherited = inherited
        self._clock = clock
        self._business = business
        self.certificates: Certificates | None = None
        self._told: dict[str, float] = {}
        self._counted: dict[str, int] = {}
        self._hls_counted: dict[int, int] = {}

    async def serve(self) -> None:
        """Runs the worker's own small jobs until it is cancelled."""
        loop = asyncio.get_running_loop()
        told = checked = loop.time()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            self.hls.look()
            self._count()
            if now - told >= TELL_SECONDS:
                told = now
                self._tell(now)
            if self.certificates is not None and now - checked >= CHECK_SECONDS:
                checked = now
                self.certificates.reload(only_when_changed=True)

    async def _start(self, stack: AsyncExitStack) -> None:
        settings, loop = self._settings, asyncio.get_running_loop()
        self.tasks = await stack.enter_async_context(SupervisedGroup("edge"))
        admission = Admission(
            settings.limits,
            trusted_proxies=settings.edge.trusted_proxies,
            workers=settings.edge.workers or 1,
            clock=loop.time,
        )
        access = GuardedAccess(
            settings.auth,
            listens=(*settings.edge.listen, *settings.tls.listen),
            clock=self._clock.unix,
            hook=await self._hook(stack),
        )
        access.watch(admission)
        self.wheel = TimerWheel(loop)
        self.wheel.start()
        stack.callback(self.wheel.stop)
        shelf = Shelf(
            settings.node.run_dir / "hls", cache_bytes_max=settings.edge.hls_cache_bytes_max
        )
        stack.callback(shelf.close)
        self.link = MediaLink(
            self._media_socket(stack), on_hls=self._hls_changed, on_stream=self._stream_changed
        )
        self.hls = HlsServer(
            shelf,
            access=access,
            admission=admission,
            wheel=self.wheel,
            tasks=self.tasks,
            demand=self.link.demand,
            audience=Audience(
                part_seconds=settings.hls.part_ms / 1_000,
                segment_seconds=settings.hls.segment_ms / 1_000,
            ),
            loop=loop,
        )
        gate = Gate(access, admission)
        self.admission = admission
        self.events = Events(link=self.link, gate=gate, settings=settings.edge)
        await stack.enter_async_context(self.link)
        services = None
        if self._business is None and has_services(settings):
            services = await stack.enter_async_context(ServicesSide(settings, clock=self._clock))
            self._business = services.business()
        self.gateway = await stack.enter_async_context(self._gateway(admission))
        parts = [*self._parts(gate, access), *self.gateway.parts]
        if services is not None:
            parts += services.parts(self.gateway)
        app = make_app(settings.edge, parts, admission, gateway=self.gateway.handle)
        http = HttpSide(app, settings.edge)
        await http.start()
        stack.push_async_callback(http.stop)
        date = self._date(stack)
        self.lane = await self._lane(stack, parts, date)
        around = Surroundings(self.hls, settings.edge, self.wheel, loop, admission, date, self.lane)
        self.door = await stack.enter_async_context(
            Door(around, http.protocol, room=self._room(), tasks=self.tasks)
        )
        stack.callback(self.events.stop)
        self.certificates = self._certificates(stack)
        await self.door.listen(self._inherited.http)
        if self.certificates is not None:
            await self.door.listen(self._inherited.https, context=self._context())
        if services is not None:
            stack.callback(services.lists.stop)
            # So that nobody waits for it: types of all services are read, in a thread.
            self.tasks.start("graphql", services.graphql.warm())

    def _gateway(self, admission: Admission) -> GatewaySide:
        settings = self._settings
        business = self._business or Business(
            NoServices(), (), operator_tenant=settings.backend_api.operator_tenant
        )
        return GatewaySide(
            settings.gateway,
            business,
            tokens=settings.tokens,
            key_file=key_file(settings),
            clocks=Clocks(asyncio.get_running_loop().time, self._clock.unix),
            admission=admission,
            workers=settings.edge.workers or 1,
            body_seconds=settings.edge.body_seconds,
        )

    def _date(self, stack: AsyncExitStack) -> HttpDate:
        date = HttpDate(asyncio.get_running_loop(), self._clock)
        date.start()
        stack.callback(date.stop)
        return date

    async def _lane(
        self, stack: AsyncExitStack, parts: Sequence[Routed], date: HttpDate
    ) -> Lane | None:
        """The short way to the gateway; None: it has regions beside it."""
        gateway, loop = self.gateway.gateway, asyncio.get_running_loop()
        if gateway.elsewhere is not None:
            return None
        connections_max = self._settings.edge.connections_max
        tasks = await stack.enter_async_context(SupervisedGroup("lane", tasks_max=connections_max))
        paths = frozenset(route.path for part in parts for route in part.routes)
        others = frozenset(path for path in paths if path.startswith(PREFIX))
        lane = Lane(gateway, others=others, tasks=tasks, date=date, clock=loop.time)
        stack.push_async_callback(lane.finish, SHUTDOWN_SECONDS)
        return lane

    def _room(self) -> Room:
        """For how many connections this process has descriptors."""
        edge = self._settings.edge
        limit = descriptors.raise_limit()
        room = descriptors.room(
            limit=limit,
            taken=descriptors.used(),
            wanted=edge.connections_max,
            reserved=edge.reserved_files_max,
        )
        _connections_max.set(room.connections)
        if room.connections < edge.connections_max:
            _log.warning(
                "fewer connections than edge.connections_max: raise the limit of open files",
                connections=room.connections,
                wanted=edge.connections_max,
                open_files=limit,
            )
        return room

    def _parts(self, gate: Gate, access: Access) -> list[Routed]:
        settings = self._settings.edge
        return [
            Signalling(WHIP, link=self.link, gate=gate, settings=settings),
            Signalling(WHEP, link=self.link, gate=gate, settings=settings),
            HlsTwin(self.hls, self.wheel),
            Control(link=self.link, gate=gate),
            LinkApi(access=access, gate=gate, settings=self._settings.auth),
            self.events,
            self._operations(gate),
            Description(),
            Pages(),
        ]

    def _operations(self, gate: Gate) -> Operations:
        run_dir = self._settings.node.run_dir
        return Operations(
            liveness=liveness(run_dir, supervised=self._inherited.supervised),
            readiness=readiness(self.link, listening=lambda: self.door.listening, run_dir=run_dir),
            gate=gate,
            settings=self._settings.edge,
        )

    async def _hook(self, stack: AsyncExitStack) -> Hook | None:
        auth = self._settings.auth
        if not auth.hook_url:
            return None
        return await stack.enter_async_context(
            Hook(
                auth.hook_url,
                timeout_seconds=auth.hook_timeout_seconds,
                cache_seconds=auth.hook_cache_seconds,
                concurrency_max=auth.hook_concurrency_max,
                clock=self._clock.unix,
            )
        )

    def _media_socket(self, stack: AsyncExitStack) -> socket.socket:
        """The link to media; alone without one, a pair whose other end says nothing."""
        if self._inherited.media:
            return self._inherited.media[0]
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.callback(ours.close)
        stack.callback(theirs.close)
        _log.warning("no link to media: nothing can be published or played")
        return ours

    def _certificates(self, stack: AsyncExitStack) -> Certificates | None:
        """The certificates, when HTTPS is served. SIGHUP reads them again, if there are any."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        stack.callback(loop.remove_signal_handler, signal.SIGHUP)
        if not self._inherited.https:
            return None
        return certificates(self._settings.tls, self._settings.node.run_dir)

    def _reload(self) -> None:
        if self.certificates is not None:
            self.certificates.reload()

    def _context(self) -> ssl.SSLContext:
        assert self.certificates is not None
        return self.certificates.context

    def _hls_changed(self, stream: str) -> None:
        self.hls.changed(stream)

    def _stream_changed(self, stream: StreamChanged) -> None:
        self.events.changed(stream)

    def _tell(self, now: float) -> None:
        counts = self.hls.audience.counts(now)
        if counts or self._told:
            self.link.viewers(counts)
        self._told = counts

    def _count(self) -> None:
        _connections.set(self.door.count)
        _hls_waiting.set(self.hls.waiting)
        _link_pending.set(self.link.pending)
        self.admission.count()
        totals = {
            _refused: self.door.refused,
            _hls_bytes: self.hls.sent_bytes,
            _hls_released: self.hls.released,
            _link_dropped: self.link.dropped,
        }
        for counter, total in totals.items():
            counter.inc(total - self._counted.get(counter.name, 0))
            self._counted[counter.name] = total
        for status, total in self.hls.statuses.items():
            grown = total - self._hls_counted.get(status, 0)
            _hls_requests.inc(grown, labels=(str(status),))
            self._hls_counted[status] = total

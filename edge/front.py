"""The one public port: the first request's head decides which protocol owns the connection.

A connection belongs first to a `Front`, which collects one whole head, bounded in bytes and time,
and has it read strictly (`edge/http_head.py`). A request for HLS or a service goes to
`edge/connection.py`, all else to aiohttp. The first hands the connection on when something else is
asked later; aiohttp, which never lets go of a connection, serves /hls/ and /v1/ by routes of the
same code (`edge/hls_twin.py`, `edge/gateway/http.py`). So the same target is answered by the same
rules on every connection.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Final, Self

from aiohttp import StreamReader, web
from aiohttp.web_protocol import RequestHandler

from edge.admission import Taker
from edge.connection import LINGER_SECONDS, Connection, Surroundings, end_with
from edge.cuts import cut
from edge.http_head import HEAD_BYTES_MAX, Head, parse
from edge.http_watch import Watch
from edge.problems import Refusal, from_status, response, wire
from edge.timer_wheel import Timer
from edge.tls_door import Shaken, TlsDoor
from ops.descriptors import Room
from ops.log import get_logger
from ops.tasks import SupervisedGroup

PIECES_MAX: Final = 64
"""Most heads at the beginning of what was read that aiohttp is given one by one."""
SPARE_SECONDS: Final = 1.0
"""How long a connection that found no room may take for a head that is served all the same."""
_SPARE_PATHS: Final = frozenset({"/livez", "/readyz", "/metrics"})
_SPARE_PREFIX: Final = "/api/v1/"
_FULL: Final = Refusal(
    503,
    "this server has as many connections as it can take",
    code="edge.full",
    headers={"Retry-After": "1"},
)

_log = get_logger("edge.front")


class Door:
    """The listening side of one worker. `async with` it.

    Owns: the servers on the listening sockets it was given, and every connection they accept.
    """

    def __init__(
        self,
        around: Surroundings,
        make_http: Callable[[], "HttpHandler"],
        *,
        room: Room,
        tasks: SupervisedGroup,
    ) -> None:
        """room: for how many connections there are descriptors. tasks: get the handshakes."""
        self._around = around
        self._make_http = make_http
        self._room = room
        self._tasks = tasks
        self._servers: list[asyncio.AbstractServer] = []
        self._tls: list[TlsDoor] = []
        self._connections: set[Front | Connection] = set()
        self.count = 0
        """Open connections, whoever owns them."""
        self.refused = 0
        """Connections that were refused because there were too many."""
        self._spare = 0
        """Open connections that found no room."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_accepting()
        self._around.server.stop()
        for connection in tuple(self._connections):
            connection.close()
        for server in self._servers:
            await server.wait_closed()

    async def listen(
        self, sockets: Iterable[socket.socket], *, context: ssl.SSLContext | None = None
    ) -> None:
        """Accepts connections from these listening sockets, over TLS when a context is given."""
        settings = self._around.settings
        for listening in sockets:
            with contextlib.suppress(OSError):
                stalled_ms = int(settings.stalled_seconds * 1_000)
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, stalled_ms)
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if context is not None:
                self._listen_tls(listening, context)
                continue
            server = await self._around.loop.create_server(
                lambda: Front(self._around, self), sock=listening, backlog=settings.backlog
            )
            self._servers.append(server)

    def _listen_tls(self, listening: socket.socket, context: ssl.SSLContext) -> None:
        def make(account: Taker | None) -> Front:
            front = Front(self._around, self)
            front.account, front.admitted = account, True
            return front

        door = TlsDoor(
            listening,
            context,
            door=self,
            settings=self._around.settings,
            tasks=self._tasks,
            make=make,
        )
        door.start()
        self._tls.append(door)

    @property
    def listening(self) -> bool:
        """Whether every listening socket takes connections."""
        plain = all(server.is_serving() for server in self._servers)
        return plain and bool(self._servers or self._tls)

    def stop_accepting(self) -> None:
        """New connections are no longer taken."""
        for server in self._servers:
            server.close()
        for door in self._tls:
            door.close()

    def reserve(self, peer: str, descriptor: int) -> Taker | None:
        """Room for a connection, on whose account. Raises: Refusal (429, 503)."""
        if self.count >= self._room.connections or descriptor >= self._room.descriptor_end:
            raise _FULL
        account = self._around.admission.opened(peer)
        self.count += 1
        return account

    def release(self, account: Taker | None) -> None:
        """Such a connection has ended."""
        self.count -= 1
        self._around.admission.closed(account)

    def opened(self, connection: "Front", transport: asyncio.Transport) -> bool:
        """Whether there is room for it; if not, it has been told so and is closing."""
        try:
            if not connection.admitted:
                connection.account = self.reserve(connection.peer, _descriptor(transport))
        except Refusal as problem:
            if problem is not _FULL:
                transport.write(wire(problem, close=True))
                transport.close()
                return False
            if self._spare >= self._around.settings.spare_connections_max:
                self.refused += 1
                transport.write(wire(_FULL, close=True))
                transport.close()
                return False
            connection.spare = True
            self._spare += 1
            self.count += 1
        self._connections.add(connection)
        return True

    def closed(self, connection: "Front | Connection | HttpHandler") -> None:
        """A connection has ended."""
        self.release(connection.account)
        if connection.spare:
            self._spare -= 1
        if not isinstance(connection, HttpHandler):
            self._connections.discard(connection)

    def to_own(self, connection: "Front", transport: asyncio.Transport, data: bytes) -> None:
        """Hands a connection to our own protocol."""
        self._connections.discard(connection)
        protocol = Connection(self._around, self, peer=connection.peer)
        protocol.account = protocol.taker = connection.account
        self._connections.add(protocol)
        transport.set_protocol(protocol)
        protocol.take_over(transport, data)

    def to_http(
        self, connection: "Front | Connection", transport: asyncio.Transport, data: bytes
    ) -> None:
        """Hands a connection to aiohttp."""
        self._connections.discard(connection)
        protocol = self._make_http()
        protocol.door = self
        protocol.account = connection.account
        protocol.spare = connection.spare
        protocol.watch = Watch(
            transport, protocol, self._around.settings, self._around.wheel, self._around.loop
        )
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)


class Front(Timer, Shaken):
    """A connection before its first request is known."""

    __slots__ = (
        "_around",
        "_data",
        "_door",
        "_ending",
        "_transport",
        "account",
        "admitted",
        "begun",
        "peer",
        "spare",
    )

    def __init__(self, around: Surroundings, door: Door) -> None:
        super().__init__()
        self._around = around
        self._door = door
        self._data = b""
        self._ending = False
        self._transport: asyncio.Transport | None = None
        self.account: Taker | None = None
        """Who holds the connection; None: whoever it is may hold any number."""
        self.admitted = False
        """The door has counted it already."""
        self.begun = False
        """It is a connection now: its TLS handshake, if any, is done."""
        self.peer = "local"
        self.spare = False
        """There was no room: it is served what operators ask, or told so."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "write")
        real: Any = transport
        self.peer = address_of(real)
        self.begun = True
        if self._door.opened(self, real):
            self._transport = real
            seconds = self._around.settings.head_seconds
            self._deadline_in(min(seconds, SPARE_SECONDS) if self.spare else seconds)
        else:
            self._ending = True

    def data_received(self, data: bytes) -> None:
        """Collects the first head, and hands the connection to whom it is for."""
        transport = self._transport
        if self._ending or transport is None:
            return
        data = self._data + data
        if data[:2] == b"\r\n":
            data = data[2:]
        self._data = data
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            if len(data) >= HEAD_BYTES_MAX:
                self._end(Refusal(431, "the request's head is too long", code="http.head_too_long"))
            return
        try:
            asked = parse(data[: end + 4])
        except Refusal as problem:
            self._end(problem)
            return
        if self.spare and not _is_spare(asked):
            self._refuse_full()
            return
        self._let_go()
        if self._around.takes(asked):
            self._door.to_own(self, transport, data)
        else:
            self._door.to_http(self, transport, data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._transport is not None:
            self._let_go()
            self._door.closed(self)

    def on_deadline(self) -> None:
        if self._ending:
            if self._transport is not None:
                self._transport.abort()
        elif self.spare:
            self._refuse_full()
        elif self._data:
            cut("head_slow")
            self._end(Refusal(408, "the request's head took too long", code="http.head_too_slow"))
        else:
            cut("silent")
            self.close()

    def close(self) -> None:
        """The worker stops, or nothing was asked."""
        self._ending = True
        if self._transport is not None:
            self._transport.close()

    def _refuse_full(self) -> None:
        self._door.refused += 1
        self._end(_FULL)

    def _end(self, problem: Refusal) -> None:
        end_with(self._transport, problem)
        self._ending = True
        self._data = b""
        self._deadline_in(LINGER_SECONDS)

    def _let_go(self) -> None:
        self._around.wheel.forget(self)
        self._transport = None
        self._data = b""

    def _deadline_in(self, seconds: float) -> None:
        self._around.wheel.set(self, self._around.loop.time() + seconds)


class HttpHandler(RequestHandler):
    """aiohttp's protocol, with problems for what its parser refuses, and counted by the door."""

    __slots__ = ("_body", "account", "door", "spare", "watch")

    def __init__(self, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self.door: Door | None = None
        self.account: Taker | None = None
        self.spare = False
        self.watch: Watch | None = None
        self._body: StreamReader | None = None
        """The body of the last request that was read."""

    def data_received(self, data: bytes) -> None:
        """Hands heads over one by one: what is wrong with a request does not then take the answers
        of those before it in the same bytes."""
        for _ in range(PIECES_MAX):
            end = data.find(b"\r\n\r\n") + 4
            if end in (3, len(data)):
                break
            self._feed(data[:end])
            data = data[end:]
        partial = self._feed(data)
        if self.watch is not None:
            self.watch.received(partial=partial)

    def _feed(self, data: bytes) -> bool:
        """Has aiohttp read this; whether it ends in the midst of a head."""
        body, count = self._body, self._request_count
        inside = body is not None and not body.is_eof()
        super().data_received(data)
        if self._request_count == count:
            return bool(data) and not inside
        if inside and body is not None and not body.is_eof():
            # What followed is no request: aiohttp did not understand how the body goes on.
            body.set_exception(web.RequestPayloadError("the body is broken"))
        self._body = self._messages[-1][1] if self._messages else None
        return False

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc)
        if isinstance(exc, TimeoutError):
            cut("stalled")
        if self.watch is not None:
            self.watch.forget()
        door, self.door = self.door, None
        if door is not None:
            door.closed(self)

    @property
    def busy(self) -> bool:
        """Whether a request is being answered, or waits for that."""
        return self._current_request is not None or bool(self._messages)

    def _process_keepalive(self) -> None:
        before = self._force_close
        super()._process_keepalive()
        if self._force_close and not before:
            cut("idle")

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """A problem document in place of aiohttp's page; a bug is logged with its traceback."""
        if status >= 500 and exc is not None:
            _log.error("a handler failed", path=request.path, exc_info=exc)
        detail = message if status < 500 and message else ""
        if request.writer.output_size > 0:
            raise ConnectionError("the response was already begun") from exc
        answer = response(from_status(status, detail=detail.partition("\n")[0]))
        answer.force_close()
        return answer


def address_of(transport: asyncio.BaseTransport) -> str:
    """The peer's address without its port."""
    peer = transport.get_extra_info("peername")
    return str(peer[0]) if isinstance(peer, tuple) else "local"


def _descriptor(transport: asyncio.BaseTransport) -> int:
    held = transport.get_extra_info("socket")
    return -1 if held is None else int(held.fileno())


def _is_spare(asked: Head) -> bool:
    return asked.path in _SPARE_PATHS or asked.target.startswith(_SPARE_PREFIX)

"""A connection of our own: HLS without a task, and the business requests that are usual.

Between the bytes of an HLS request and the shelf there is nothing else. A business request is a
task's, by `edge/gateway/lane.py`. Requests are answered in order; one that waits holds up those
behind it, which are kept (bounded) or not read. A request for anything else hands the whole
connection on to aiohttp (`edge/front.py`), once everything before it has been answered.
"""

import asyncio
import os
from dataclasses import dataclass
from typing import Final, Protocol

from edge.admission import Admission, Taker
from edge.cuts import cut
from edge.gateway.lane import PREFIX, Lane
from edge.hls_reply import JOINED_BYTES_MAX, Bytes, head, ready
from edge.hls_request import Request, is_hls, read_target, read_whole, unreadable
from edge.hls_server import Client, HlsServer
from edge.http_date import HttpDate
from edge.http_head import HEAD_BYTES_MAX, Fields, Head, parse
from edge.http_settings import HttpSettings
from edge.http_watch import is_stalled
from edge.problems import Refusal, from_status, refusal, wire
from edge.timer_wheel import TimerWheel
from media.hls.shelf import Reply
from ops.errors import Unavailable

REQUESTS_A_TURN: Final = 64
"""Pipelined requests that are answered before the loop may do something else."""
LINGER_SECONDS: Final = 1.0
"""How long a refused client's bytes are read and dropped, so that it sees why before the reset."""


class Door(Protocol):
    """What a connection needs of `edge/front.py`."""

    def to_http(
        self, connection: "Connection", transport: asyncio.Transport, data: bytes
    ) -> None: ...
    def closed(self, connection: "Connection") -> None: ...


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What all connections of a worker share."""

    server: HlsServer
    settings: HttpSettings
    wheel: TimerWheel
    loop: asyncio.AbstractEventLoop
    admission: Admission
    date: HttpDate
    lane: Lane | None = None
    """How business requests are answered here; None: aiohttp answers them."""

    def takes(self, asked: Head) -> bool:
        """Whether a connection that begins with this request is worth a protocol of our own."""
        return is_hls(asked) or (self.lane is not None and asked.target.startswith(PREFIX))


class Connection(Client, asyncio.Protocol):
    """One client's connection, from its first request for HLS or a service on."""

    __slots__ = (
        "_around",
        "_busy",
        "_data",
        "_descriptor",
        "_door",
        "_drained",
        "_ending",
        "_full",
        "_idle_seconds",
        "_looping",
        "_partial",
        "_proxied",
        "_remote",
        "_server",
        "_task",
        "_transport",
        "_unsent",
        "account",
        "peer",
        "secure",
        "spare",
    )

    def __init__(self, around: Surroundings, door: Door, *, peer: str) -> None:
        super().__init__()
        self._around = around
        self._server = around.server
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._idle_seconds = around.settings.idle_seconds
        self._descriptor = -1
        """Of the socket that answers may go to directly; -1: there is none, as with TLS."""
        self._data = b""
        self._busy = False
        """A request is being answered."""
        self._full = False
        """The client takes its bytes too slowly: it gets no more for now."""
        self._ending = False
        """Nothing more is answered."""
        self._looping = False
        """`_go_on` runs and looks at what is next by itself."""
        self._partial = False
        """Part of a head has come, and its deadline is set."""
        self._unsent = 0
        """Unsent bytes when they were last looked at."""
        self._task: asyncio.Task[None] | None = None
        """Answers a business request."""
        self._drained: asyncio.Future[None] | None = None
        """Done when the client takes more again."""
        self.account: Taker | None = None
        """Who holds the connection."""
        self.peer = self._remote = peer
        self._proxied = around.admission.is_proxy(peer)
        self.spare = False
        """As of `edge/front.py`: who found no room never comes here."""
        self.secure = False
        """Whether it is encrypted."""

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Goes on with a connection whose first bytes somebody else has read."""
        self._transport = transport
        self.secure = transport.get_extra_info("sslcontext") is not None
        held = None if self.secure else transport.get_extra_info("socket")
        self._descriptor = -1 if held is None else held.fileno()
        transport.set_write_buffer_limits(high=self._around.settings.unsent_bytes_max)
        self.data_received(data)

    @property
    def gone(self) -> bool:
        return self._transport is None

    @property
    def remote(self) -> str:
        return self._remote

    @property
    def ending(self) -> bool:
        return self._ending

    def data_received(self, data: bytes) -> None:
        """Answers at once what is one whole, usual request; collects and reads all else."""
        if self._ending:
            return
        if self._data:
            data = self._data + data
        elif not (self._busy or self._full):
            request = read_whole(data)
            if request is not None:
                if self._proxied or self.taker is not None:
                    self._begin(request)
                else:
                    self._busy = True
                    self._server.begin(request, self)
                return
        self._data = data
        if not self._busy and not self._full:
            self._go_on()
        if len(self._data) > self._around.settings.pipelined_bytes_max and self._transport:
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        if not self._busy:
            self._around.loop.call_soon(self._resume)

    def connection_lost(self, exc: Exception | None) -> None:
        if isinstance(exc, TimeoutError):
            cut("stalled")
        self._transport = None
        self._ending = True
        self._data = b""
        if self._task is not None:
            self._task.cancel()
        self._server.forget(self)
        self._door.closed(self)

    def on_deadline(self) -> None:
        """Ends what has taken too long: a wait, a head, a client that takes nothing, idleness."""
        transport = self._transport
        if transport is None:
            return
        unsent = transport.get_write_buffer_size()
        settings = self._around.settings
        if unsent and not (
            self._unsent and is_stalled(settings, before=self._unsent, unsent=unsent)
        ):
            # It takes its bytes slowly, but it takes them.
            self._unsent = unsent
            due = self._around.loop.time() + self._around.settings.stalled_seconds
            self._around.wheel.set(self, due)
        elif unsent or self._ending:
            if unsent:
                cut("stalled")
            transport.abort()
        elif self.waits_for is not None:
            self._server.overdue(self)
        elif self._busy:
            due = self._around.loop.time() + self._around.settings.idle_seconds
            self._around.wheel.set(self, due)
        elif self._data:
            cut("head_slow")
            self._end(Refusal(408, "the request's head took too long", code="http.head_too_slow"))
        else:
            cut("idle")
            self._ending = True
            transport.close()

    def finish(self, request: Request, reply: Reply) -> None:
        """Sends the answer: bytes that lie ready, or what a range or HEAD makes of it."""
        transport = self._transport
        if transport is None:
            return
        if not request.plain:
            self._finish_unusual(request, reply)
            return
        around = self._around
        made = reply.wire_shared if self.shared else reply.wire_own
        if made is None or made[0] is not around.date.value:
            made = ready(reply, around.date.value, shared=self.shared)
        server = self._server
        server.statuses[reply.status] += 1
        server.sent_bytes += len(made[1]) + len(made[2])
        if made[2]:
            self._send_much(transport, made[1], made[2])
        else:
            transport.write(made[1])
        self._busy = False
        around.wheel.set(self, around.loop.time() + self._idle_seconds)
        if self._data and not self._looping:
            around.loop.call_soon(self._resume)

    def refuse(self, request: Request, problem: Refusal) -> None:
        if self._transport is None:
            return
        head_only = request.method == "HEAD"
        data = wire(problem, close=not request.keep_alive, head_only=head_only)
        self._server.statuses[problem.status] += 1
        self._server.sent_bytes += len(data)
        self._transport.write(data)
        self.answered(keep_alive=request.keep_alive)

    def send(self, start: bytes, *, rest: bytes = b"") -> None:
        """Part of a business request's answer."""
        transport = self._transport
        if transport is None:
            return
        if len(rest) > JOINED_BYTES_MAX:
            self._send_much(transport, start, rest)
        else:
            transport.write(start + rest)

    async def drained(self) -> None:
        """Until the client has taken enough of an answer that is sent in pieces."""
        if self._full and self._transport is not None:
            around = self._around
            around.wheel.set(self, around.loop.time() + around.settings.stalled_seconds)
            self._drained = around.loop.create_future()
            await self._drained

    def broken(self, *, begun: bool) -> None:
        """A business request gets no answer, or not all of one that has begun."""
        if self._transport is None:
            return
        if begun:
            self._transport.abort()
        else:
            self._transport.write(wire(from_status(500), close=True))
            self.answered(keep_alive=False)

    def close(self) -> None:
        """The worker stops. A business request under way is still answered."""
        self._ending = True
        if self._transport is not None and self._task is None:
            self._transport.close()

    def _finish_unusual(self, request: Request, reply: Reply) -> None:
        """Ranges, HEAD, preflights, last answers."""
        try:
            start, body = head(
                reply,
                range=request.range,
                keep_alive=request.keep_alive,
                date=self._around.date.value,
                shared=self.shared,
            )
        except Refusal as problem:
            self.refuse(request, problem)
            return
        transport = self._transport
        assert transport is not None
        bare = request.method == "HEAD" or not body
        self._server.statuses[int(start[9:12])] += 1
        self._server.sent_bytes += len(start) if bare else len(start) + len(body)
        if bare:
            transport.write(start)
        else:
            self._send_much(transport, start, body)
        self.answered(keep_alive=request.keep_alive)

    def _send_much(self, transport: asyncio.Transport, first: bytes, rest: Bytes) -> None:
        """Writes both without joining them, straight to the socket as far as it takes them.

        The descriptor is the transport's until `connection_lost`; nothing overtakes what the
        transport still holds.
        """
        sent = 0
        if self._descriptor >= 0 and not transport.get_write_buffer_size():
            try:
                sent = os.writev(self._descriptor, (first, rest))
            except OSError:  # no room now, or broken: the transport will see
                sent = 0
        if sent < len(first):
            transport.write(first[sent:])
            transport.write(rest)
        elif sent < len(first) + len(rest):
            transport.write(memoryview(rest)[sent - len(first) :])

    def answered(self, *, keep_alive: bool) -> None:
        """Goes on after an answer, or closes."""
        self._busy = False
        self._task = None
        if not keep_alive or self._ending:
            self._ending = True
            if self._transport is not None:
                self._transport.close()
            return
        around = self._around
        around.wheel.set(self, around.loop.time() + self._idle_seconds)
        if self._data and not self._looping:
            around.loop.call_soon(self._resume)

    def _resume(self) -> None:
        """Goes on with what came while a request was being answered."""
        if self._busy or self._full or self._ending:
            return
        self._go_on()
        transport = self._transport
        if transport is not None and len(self._data) <= self._around.settings.pipelined_bytes_max:
            transport.resume_reading()

    def _go_on(self) -> None:
        """Answers what has been read, in order, as far as it can be answered now."""
        self._looping = True
        for _ in range(REQUESTS_A_TURN):
            if self._busy or self._full or self._ending or not self._data:
                break
            try:
                if not self._next():
                    break
            except Refusal as problem:
                self._end(problem)
        else:
            self._around.loop.call_soon(self._resume)
        self._looping = False

    def _next(self) -> bool:
        """Takes the next request; False when it is not whole or not ours. Raises: Refusal."""
        data = self._data
        end = data.find(b"\r\n\r\n", 0, HEAD_BYTES_MAX)
        if end < 0:
            self._unfinished(data)
            return False
        asked = parse(data[: end + 4])
        self._partial = False
        if not is_hls(asked):
            return self._next_elsewhere(asked, data, end + 4)
        if asked.fields.body:
            raise Refusal(400, "a request for HLS has no body", code="http.malformed")
        self._data = data[end + 4 :]
        try:
            request = read_target(
                asked.target,
                method=asked.method,
                keep_alive=asked.keep_alive,
                fields=asked.fields,
            )
        except Refusal as problem:
            self._busy = True
            self.refuse(unreadable(asked), self._over(asked.fields) or problem)
        else:
            self._begin(request)
        return True

    def _next_elsewhere(self, asked: Head, data: bytes, end: int) -> bool:
        """A request for a service is answered here; what is not hands the connection on."""
        lane = self._around.lane
        found = None if lane is None else lane.read(asked, data, end)
        if lane is None or found is None:
            self._hand_over(data)
            return False
        self._data = data[found.end :]
        self._busy = True
        problem = self._over(asked.fields)
        try:
            if problem is None:
                self._task = lane.start(found.inbound, self)
        except Unavailable as error:
            problem = refusal(error)
        if problem is not None:
            assert self._transport is not None
            self._transport.write(wire(problem, close=False))
            self.answered(keep_alive=True)
        return True

    def _begin(self, request: Request) -> None:
        self._busy = True
        if self._proxied or self.taker is not None:
            problem = self._over(request.fields)
            if problem is not None:
                self.refuse(request, problem)
                return
        self._server.begin(request, self)

    def _over(self, fields: Fields) -> Refusal | None:
        """Why whoever asks may not ask any more now."""
        if self._proxied:
            self._see_through(fields)
        try:
            self._around.admission.request(self.taker)
        except Refusal as problem:
            return problem
        return None

    def _see_through(self, fields: Fields) -> None:
        """A trusted proxy's connection carries many clients' requests: this one's, now."""
        admission = self._around.admission
        remote = admission.address_of(self.peer, fields)
        if remote != self._remote:
            self.passed = None
        self._remote, self.taker = remote, admission.find(remote)

    def _unfinished(self, data: bytes) -> None:
        if len(data) >= HEAD_BYTES_MAX:
            raise Refusal(431, "the request's head is too long", code="http.head_too_long")
        if data[:2] == b"\r\n":
            self._data = data[2:]
        elif not self._partial:
            self._partial = True
            due = self._around.loop.time() + self._around.settings.head_seconds
            self._around.wheel.set(self, due)

    def _hand_over(self, data: bytes) -> None:
        transport = self._transport
        assert transport is not None
        self._transport = None
        self._ending = True
        self._data = b""
        self._server.forget(self)
        transport.set_write_buffer_limits()
        self._door.to_http(self, transport, data)

    def _end(self, problem: Refusal) -> None:
        """Says why, and drops what still comes until the client has had time to read it."""
        end_with(self._transport, problem)
        self._ending = True
        self._data = b""
        self._around.wheel.set(self, self._around.loop.time() + LINGER_SECONDS)


def end_with(transport: asyncio.Transport | None, problem: Refusal) -> None:
    """Writes a last answer. The caller drops what it reads from then on, and closes later."""
    if transport is not None and not transport.is_closing():
        transport.write(wire(problem, close=True))
        if transport.can_write_eof():
            transport.write_eof()

"""Media's end of the SEQPACKET pair to one edge worker (`media/messages.py`).

It never blocks the loop. What the socket does not take waits: replies in a bounded queue; news of
streams conflated, the newest state of each stream only, wake-ups once a stream. Replies are never
dropped while the worker lives: when their queue is full the worker has stopped reading, its
requests are no longer read, and nothing is lost but its turn.

The supervisor keeps both ends, so an edge worker's death does not close the link; its successor's
`Hello` is what tells, and everything owed to the former one is then forgotten. Requests that come
before a `Hello` were meant for a former media process and are dropped: their sender knows.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Callable
from typing import Final

import msgspec

from media.messages import (
    EdgeMessage,
    Hello,
    HlsChanged,
    MediaMessage,
    Ready,
    StreamChanged,
    decode_from_edge,
    encode,
)
from ops import metrics
from ops.log import get_logger

REPLIES_MAX: Final = 4_096
"""Replies that may wait for the socket before requests are left unread."""
QUEUE_MAX: Final = 16_384
"""Never reached: what was read before the stop is far less than the difference."""
DRAIN_MESSAGES: Final = 500
"""Messages read at one go before others have their turn."""
DATAGRAM_BYTES: Final = 262_144

_log = get_logger("media.edge_link")
_malformed = metrics.counter("nexus_link_malformed", "Messages of edge workers not understood.")
_conflated = metrics.counter(
    "nexus_link_conflated", "News for edge workers that newer news overtook."
)


class EdgeLink:
    """One link. `handle` gets each request; `greeted` is called after a worker's `Hello`.

    Owns: the loop's callbacks on the socket, from `open` to `close`; the socket is the caller's.
    """

    def __init__(
        self,
        link: socket.socket,
        *,
        boot: str,
        handle: Callable[["EdgeLink", EdgeMessage], None],
        greeted: Callable[["EdgeLink"], None],
    ) -> None:
        self._socket = link
        # Not made anew for each message: so much at a time frays the heap.
        self._room = memoryview(bytearray(DATAGRAM_BYTES))
        self._boot = boot
        self._handle = handle
        self._greeted = greeted
        self._peer = ""
        self._replies: deque[bytes] = deque(maxlen=QUEUE_MAX)
        self._news: dict[str, StreamChanged] = {}
        self._wakes: dict[str, None] = {}
        self._ready_due = False
        self._open = False
        self._reading = False
        self._writing = False

    @property
    def peer(self) -> str:
        """The edge worker's boot; empty before its `Hello`."""
        return self._peer

    @property
    def waiting(self) -> int:
        """Messages that wait for the socket."""
        return len(self._replies) + len(self._news) + len(self._wakes)

    def open(self) -> None:
        """Says `Hello` and starts to read."""
        self._socket.setblocking(False)  # noqa: FBT003  its only parameter
        self._open = True
        self._replies.append(encode(Hello(boot=self._boot, role="media")))
        self._flush()
        self._read_on()

    def close(self) -> None:
        """Stops reading and forgets what waits. Idempotent."""
        if self._open:
            self._open = False
            self._read_off()
            self._write_off()
            self._forget()

    def reply(self, message: MediaMessage, *, peer: str) -> None:
        """Answers a request of the worker `peer`; nothing when another one is there by now."""
        if self._open and peer == self._peer:
            self._replies.append(encode(message))
            self._flush()
            if len(self._replies) >= REPLIES_MAX:
                self._read_off()

    def stream_changed(self, changed: StreamChanged) -> None:
        """Tells of a stream, or has newer news take the place of what waits."""
        if self._peer:
            if self._news.pop(changed.stream, None) is not None:
                _conflated.inc()
            self._news[changed.stream] = changed
            self._flush()

    def hls_changed(self, stream: str) -> None:
        """Wakes whoever waits for this stream's next part."""
        if self._peer:
            self._wakes[stream] = None
            self._flush()

    def ready(self) -> None:
        """After the news so far: every stream has been told of."""
        self._ready_due = True
        self._flush()

    def _flush(self) -> None:
        """Sends what waits, until the socket takes no more."""
        while self._open:
            data = self._next()
            if data is None:
                break
            if not self._send(data):
                self._write_on()
                return
            self._sent()
        self._write_off()
        if self._open and not self._reading:
            self._read_on()

    def _next(self) -> bytes | None:
        """The message whose turn it is: replies, wake-ups, news, then `Ready`."""
        if self._replies:
            return self._replies[0]
        if self._wakes:
            return encode(HlsChanged(next(iter(self._wakes))))
        if self._news:
            return encode(next(iter(self._news.values())))
        return encode(Ready()) if self._ready_due else None

    def _sent(self) -> None:
        """Forgets what `_next` gave."""
        if self._replies:
            self._replies.popleft()
        elif self._wakes:
            del self._wakes[next(iter(self._wakes))]
        elif self._news:
            del self._news[next(iter(self._news))]
        else:
            self._ready_due = False

    def _send(self, data: bytes) -> bool:
        try:
            self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            # ENOBUFS passes; a closed end does not: there is nobody to tell then.
            if not isinstance(error, ConnectionError):
                return False
            _log.error("a link to an edge worker is closed", reason=str(error))
            self.close()
        return True

    def _readable(self) -> None:
        for _ in range(DRAIN_MESSAGES):
            if not self._reading:
                return
            try:
                size = self._socket.recv_into(self._room)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                _log.error("a link to an edge worker is broken", reason=str(error))
                self.close()
                return
            if not size:
                self.close()
                return
            self._received(bytes(self._room[:size]))

    def _received(self, data: bytes) -> None:
        try:
            message = decode_from_edge(data)
        except (msgspec.ValidationError, msgspec.DecodeError) as error:
            _malformed.inc()
            _log.warning("an edge worker sent what cannot be read", reason=str(error))
            return
        if isinstance(message, Hello):
            self._hello(message)
        elif self._peer:
            self._handle(self, message)

    def _hello(self, message: Hello) -> None:
        if message.boot != self._peer:
            self._forget()
            self._peer = message.boot
            self._replies.append(encode(Hello(boot=self._boot, role="media")))
        self._greeted(self)

    def _forget(self) -> None:
        self._replies.clear()
        self._news.clear()
        self._wakes.clear()
        self._ready_due = False

    def _read_on(self) -> None:
        if not self._reading:
            self._reading = True
            asyncio.get_running_loop().add_reader(self._socket, self._readable)

    def _read_off(self) -> None:
        if self._reading:
            self._reading = False
            asyncio.get_running_loop().remove_reader(self._socket)

    def _write_on(self) -> None:
        if not self._writing:
            self._writing = True
            asyncio.get_running_loop().add_writer(self._socket, self._flush)

    def _write_off(self) -> None:
        if self._writing:
            self._writing = False
            asyncio.get_running_loop().remove_writer(self._socket)

"""One edge worker's end of the SEQPACKET pair to the media process (`media/messages.py`).

It sends requests and awaits their replies, keeps the mirror of all streams, and passes wake-ups on.
It never blocks the loop: what the socket does not take waits in a bounded queue. The supervisor
keeps both ends of the pair, so a dead media process is not seen as an end of file: its successor's
`Hello` is what tells. What the former one still owed is asked once more of the new one, so that who
publishes or joins in that second is served, not refused; asked twice, it fails. It decides nothing
about access or HTTP.
"""

import asyncio
import itertools
import secrets
import socket
from collections import deque
from collections.abc import Callable, Mapping
from types import MappingProxyType, TracebackType
from typing import Final, Self, TypeVar

import msgspec

from media.messages import (
    Answered,
    AskKeyFrame,
    Close,
    Demand,
    Done,
    EdgeMessage,
    Grant,
    Hello,
    HlsChanged,
    ListSessions,
    MediaMessage,
    Ping,
    Play,
    Publish,
    Ready,
    Refused,
    SessionInfo,
    Sessions,
    StreamChanged,
    Viewers,
    decode_from_media,
    encode,
)
from ops import tracing
from ops.errors import Rejected, Unavailable
from ops.log import get_logger

REPLY_SECONDS: Final = 5.0
"""How long a reply may take."""
READY_SECONDS: Final = 2.0
"""How long a request waits for a media process that is just starting."""
ASKED_MAX: Final = 2
"""How many media processes are asked the same, one after the other."""
PENDING_MAX: Final = 2_000
"""Most requests without a reply."""
QUEUE_MESSAGES_MAX: Final = 2_000
"""Most messages that wait for room in the socket."""
_DRAIN_MESSAGES: Final = 1_000
_DATAGRAM_BYTES: Final = 262_144
_UNAVAILABLE_CODES: Final = frozenset({"media.overloaded", "media.restarting", "unavailable"})

_log = get_logger("edge.media_link")

Command = Publish | Play | Close | Ping | AskKeyFrame | ListSessions
Reply = Answered | Refused | Done | Sessions
R = TypeVar("R", Answered, Done, Sessions)


class _Pending:
    """A request without a reply."""

    __slots__ = ("asked", "boot", "data", "future")

    def __init__(self, data: bytes, future: asyncio.Future[Reply], boot: str) -> None:
        self.data = data
        self.future = future
        self.boot = boot
        """Which media process was asked last."""
        self.asked = 1


class MediaLink:
    """The connection to media. `async with` it.

    Owns: the reader and writer callbacks on the socket; the socket itself stays the caller's.
    """

    def __init__(
        self,
        link: socket.socket,
        *,
        on_hls: Callable[[str], None] = lambda _stream: None,
        on_stream: Callable[[StreamChanged], None] = lambda _changed: None,
        reply_seconds: float = REPLY_SECONDS,
        ready_seconds: float = READY_SECONDS,
    ) -> None:
        self._socket = link
        # Not made anew for each message: so much at a time frays the heap.
        self._room = memoryview(bytearray(_DATAGRAM_BYTES))
        self._on_hls = on_hls
        self._on_stream = on_stream
        self._reply_seconds = reply_seconds
        self._ready_seconds = ready_seconds
        self._boot = f"edge-{secrets.token_hex(8)}"
        self._media_boot = ""
        self._ready = asyncio.Event()
        self._open = False
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._queue: deque[bytes] = deque(maxlen=QUEUE_MESSAGES_MAX)
        self._streams: dict[str, StreamChanged] = {}
        self._untold: set[str] = set()
        self.dropped = 0
        """Messages that found the queue full."""

    @property
    def streams(self) -> Mapping[str, StreamChanged]:
        """Every stream that is live or waiting, by name; a live view."""
        return MappingProxyType(self._streams)

    @property
    def ready(self) -> bool:
        """Whether media has told of every stream: an unknown one does not exist."""
        return self._ready.is_set()

    @property
    def pending(self) -> int:
        """Requests without a reply yet."""
        return len(self._pending)

    async def __aenter__(self) -> Self:
        self._socket.settimeout(0)
        self._open = True
        asyncio.get_running_loop().add_reader(self._socket, self._readable)
        self._send(Hello(boot=self._boot, role="edge"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._detach()
        self._fail_pending()

    async def publish(
        self, stream: str, *, offer: str, grant: Grant, asked_at: float = 0.0
    ) -> Answered:
        """A new publisher; asked_at: when the POST came, by the machine's monotonic clock.

        Raises: Rejected, Unavailable (media refuses, restarts or is silent).
        """
        return await self._request(lambda n: Publish(n, stream, offer, grant, asked_at), Answered)

    async def play(
        self, stream: str, *, offer: str, grant: Grant, asked_at: float = 0.0
    ) -> Answered:
        """A new viewer, as `publish`."""
        return await self._request(lambda n: Play(n, stream, offer, grant, asked_at), Answered)

    async def ping(self) -> None:
        """Raises: Unavailable (media restarts or is silent)."""
        await self._request(Ping, Done)

    async def close(
        self, session: str, *, stream: str = "", reason: str = "closed by request"
    ) -> None:
        """Ends a session. Raises: Rejected (`session.unknown`), Unavailable."""
        await self._request(lambda n: Close(n, session, stream, reason), Done)

    async def ask_key_frame(self, stream: str) -> None:
        """Raises: Rejected (nobody publishes), Unavailable."""
        await self._request(lambda n: AskKeyFrame(n, stream), Done)

    async def sessions(self, *, stream: str = "", after: str = "", limit: int = 100) -> Sessions:
        """A page of sessions in id order. Raises: Unavailable."""
        return await self._request(lambda n: ListSessions(n, stream, after, limit), Sessions)

    async def session(self, session: str, *, stream: str = "") -> SessionInfo:
        """One session by its id. Raises: Rejected (`session.unknown`), Unavailable."""
        if session:
            page = await self.sessions(stream=stream, after=session[:-1], limit=8)
            for info in page.sessions:
                if info.session == session:
                    return info
        raise Rejected("there is no such session", code="session.unknown")

    def demand(self, stream: str) -> None:
        """Somebody plays the AAC rendition."""
        self._send(Demand(stream))

    def viewers(self, counts: dict[str, float]) -> None:
        """How many HLS viewers this worker sees, per stream."""
        self._send(Viewers(counts))

    async def _request(self, make: Callable[[int], Command], want: type[R]) -> R:
        with tracing.span(f"media {want.__name__}"):
            return await self._traced(make, want)

    async def _traced(self, make: Callable[[int], Command], want: type[R]) -> R:
        await self._until_ready()
        if len(self._pending) >= PENDING_MAX:
            raise Unavailable(
                "too many requests wait for media", code="media.overloaded", retry_after_seconds=1
            )
        number = next(self._numbers)
        data = encode(make(number))
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[number] = _Pending(data, future, self._media_boot)
        try:
            if not self._send_data(data):
                raise Unavailable(
                    "media does not keep up", code="media.overloaded", retry_after_seconds=1
                )
            async with asyncio.timeout(self._reply_seconds):
                reply = await future
        except TimeoutError:
            raise Unavailable(
                "media did not answer in time", code="media.silent", retry_after_seconds=1
            ) from None
        finally:
            self._pending.pop(number, None)
        if isinstance(reply, Refused):
            raise _refused(reply)
        assert isinstance(reply, want), reply
        return reply

    async def _until_ready(self) -> None:
        if not self._ready.is_set():
            try:
                async with asyncio.timeout(self._ready_seconds):
                    await self._ready.wait()
            except TimeoutError:
                raise _restarting() from None
        if not self._open:
            raise _restarting()

    def _send(self, message: EdgeMessage) -> bool:
        """Whether it was sent or queued."""
        return self._send_data(encode(message))

    def _send_data(self, data: bytes) -> bool:
        if not self._open:
            return False
        if not self._queue and self._write(data):
            return True
        if len(self._queue) >= QUEUE_MESSAGES_MAX:
            self.dropped += 1
            return False
        if not self._queue:
            asyncio.get_running_loop().add_writer(self._socket, self._writable)
        self._queue.append(data)
        return True

    def _write(self, data: bytes) -> bool:
        try:
            self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError as error:
            self._broken(error)
        return True

    def _writable(self) -> None:
        while self._queue and self._write(self._queue[0]):
            if self._queue:
                self._queue.popleft()
        if not self._queue and self._open:
            asyncio.get_running_loop().remove_writer(self._socket)

    def _readable(self) -> None:
        for _ in range(_DRAIN_MESSAGES):
            try:
                size = self._socket.recv_into(self._room)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                self._broken(error)
                return
            if not size:
                self._broken(ConnectionResetError("the other end is closed"))
                return
            try:
                message = decode_from_media(bytes(self._room[:size]))
            except (msgspec.ValidationError, msgspec.DecodeError) as error:
                _log.warning("media sent what cannot be read", reason=str(error))
                continue
            self._received(message)

    def _received(self, message: MediaMessage) -> None:
        match message:
            case HlsChanged(stream):
                self._on_hls(stream)
            case StreamChanged():
                self._mirror(message)
            case Hello(boot):
                self._hello(boot)
            case Ready():
                for name in tuple(self._untold):
                    self._mirror(msgspec.structs.replace(self._streams[name], state="gone"))
                self._ready.set()
                self._repeat_pending()
            case Answered() | Refused() | Done() | Sessions():
                self._reply(message)

    def _mirror(self, changed: StreamChanged) -> None:
        self._untold.discard(changed.stream)
        if changed.state == "gone":
            self._streams.pop(changed.stream, None)
        else:
            self._streams[changed.stream] = changed
        self._on_stream(changed)

    def _hello(self, boot: str) -> None:
        """A media process has started: nothing that its forerunner owed will come any more."""
        if boot == self._media_boot:
            return
        self._media_boot = boot
        self._ready.clear()
        self._untold = set(self._streams)
        for pending in self._pending.values():
            if pending.asked >= ASKED_MAX:
                _fail(pending)
        self._send(Hello(boot=self._boot, role="edge"))

    def _reply(self, message: Reply) -> None:
        pending = self._pending.pop(message.id, None)
        if pending is not None and not pending.future.done():
            pending.future.set_result(message)
        elif isinstance(message, Answered):
            # Whoever asked is gone and will never know its URL: the session would only take room.
            self._send(Close(next(self._numbers), message.session, reason="nobody waits for it"))

    def _repeat_pending(self) -> None:
        """Asks the new media process what the former one did not answer."""
        for pending in self._pending.values():
            if pending.boot != self._media_boot and not pending.future.done():
                pending.boot = self._media_boot
                pending.asked += 1
                self._send_data(pending.data)

    def _fail_pending(self) -> None:
        for pending in self._pending.values():
            _fail(pending)
        self._pending.clear()

    def _broken(self, error: OSError) -> None:
        if self._open:
            _log.error("the link to media is broken", reason=str(error))
            self._detach()
            self._ready.clear()
            self._fail_pending()

    def _detach(self) -> None:
        if self._open:
            self._open = False
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket)
            loop.remove_writer(self._socket)
        self._queue.clear()


def _fail(pending: _Pending) -> None:
    if not pending.future.done():
        pending.future.set_exception(_restarting())


def _restarting() -> Unavailable:
    return Unavailable("media is restarting", code="media.restarting", retry_after_seconds=1)


def _refused(reply: Refused) -> Rejected | Unavailable:
    if reply.code in _UNAVAILABLE_CODES or reply.retry_after_seconds:
        return Unavailable(
            reply.detail, code=reply.code, retry_after_seconds=reply.retry_after_seconds
        )
    return Rejected(reply.detail, code=reply.code)

"""A media process that only speaks: the other end of an edge worker's SEQPACKET link.

It keeps sessions as media would and answers what it is asked, or what a test tells it to. It moves
no packet and reads no SDP but for its ice-ufrag.
"""

import asyncio
import re
import socket
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from media.messages import (
    Answered,
    AskKeyFrame,
    Close,
    Done,
    EdgeMessage,
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
    decode_from_edge,
    encode,
)


def stream_state(stream: str, **changes: Any) -> StreamChanged:
    """A live stream's state."""
    state: dict[str, Any] = {
        "state": "live",
        "since_unix": 1_700_000_000.0,
        "publisher": "",
        "video": "H264",
        "audio": "opus",
        "width": 1280,
        "height": 720,
        "hls": True,
        "hls_reason": "",
        "viewers_webrtc": 0,
        "viewers_hls": 0,
        "bits_per_second": 1_500_000,
        "keyframe_age_ms": 100,
        "lost": 0,
    }
    return StreamChanged(stream, **{**state, **changes})


class FakeMedia:
    """`async with` it. Owns nothing: the socket is the caller's."""

    def __init__(self, link: socket.socket, *, boot: str = "media-1") -> None:
        self._link = link
        self.boot = boot
        self.received: list[EdgeMessage] = []
        self.streams: dict[str, StreamChanged] = {}
        self.sessions: dict[str, SessionInfo] = {}
        self.refusals: dict[str, Refused] = {}
        """By stream: what a Publish or Play of it is told."""
        self.mute = False
        """Answers nothing more, as a hanging process."""
        self.on_message: Callable[[EdgeMessage], None] = lambda _message: None
        self._count = 0

    async def __aenter__(self) -> Self:
        self._link.settimeout(0)
        asyncio.get_running_loop().add_reader(self._link, self._readable)
        self.say(Hello(self.boot, "media"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._link)

    def say(self, message: MediaMessage) -> None:
        """Sends a message to the worker."""
        self._link.send(encode(message))

    def live(self, stream: str, **changes: Any) -> None:
        """A stream is live now, or another of its facts is."""
        self.streams[stream] = stream_state(stream, **changes)
        self.say(self.streams[stream])

    def hls_changed(self, stream: str) -> None:
        """The stream's journal has grown."""
        self.say(HlsChanged(stream))

    def asked(self, kind: type[Any]) -> list[Any]:
        """What was received of one kind."""
        return [message for message in self.received if isinstance(message, kind)]

    def _readable(self) -> None:
        while True:
            try:
                data = self._link.recv(262_144)
            except BlockingIOError:
                return
            if not data:
                return
            message = decode_from_edge(data)
            self.received.append(message)
            self.on_message(message)
            if not self.mute:
                self._answer(message)

    def _answer(self, message: EdgeMessage) -> None:
        match message:
            case Hello():
                for state in self.streams.values():
                    self.say(state)
                self.say(Ready())
            case Publish() | Play():
                self._make(message)
            case Close(number, session):
                if self.sessions.pop(session, None) is None:
                    self.say(Refused(number, "session.unknown", "there is no such session"))
                else:
                    self.say(Done(number))
            case AskKeyFrame(number) | Ping(number):
                self.say(Done(number))
            case ListSessions(number, stream, after, limit):
                every = sorted(
                    (info for info in self.sessions.values() if stream in ("", info.stream)),
                    key=lambda info: info.session,
                )
                later = [info for info in every if info.session > after]
                self.say(Sessions(number, tuple(later[:limit]), len(later) > limit))

    def _make(self, message: Publish | Play) -> None:
        refused = self.refusals.get(message.stream)
        if refused is not None:
            self.say(Refused(message.id, refused.code, refused.detail, refused.retry_after_seconds))
            return
        self._count += 1
        session = f"session{self._count:019d}"
        found = re.search(r"a=ice-ufrag:(\S+)", message.offer)
        info = SessionInfo(
            session=session,
            stream=message.stream,
            kind="publisher" if isinstance(message, Publish) else "viewer",
            subject=message.grant.subject,
            state="connecting",
            remote="",
            since_unix=1_700_000_000.0,
            packets=0,
            bytes=0,
            lost=0,
            etag=f"tag{self._count}",
            remote_ufrag=found[1] if found else "",
        )
        self.sessions[session] = info
        self.say(Answered(message.id, session, "v=0\r\n", info.etag, info.remote_ufrag))

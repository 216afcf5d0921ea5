"""The control API: what is live, who publishes and watches, asking for a key frame, kicking.

It reads the mirror of the streams (`edge/media_link.py`) and passes commands on to media. The list
of streams needs the right to read (and shows what the key covers), all else the right to control.
Lists are paged by key: `after` the last name of the page before. A publisher's session id is shown
only to who may control: it names a WHIP resource.
"""

import asyncio
from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from aiohttp import web

from edge.access import Pass
from edge.http_settings import HttpSettings
from edge.media_link import MediaLink
from edge.problems import Refusal
from edge.routes import Answer, Gate, Route, page_of, stream_of
from media.messages import SessionInfo, StreamChanged
from ops.errors import Rejected

_SCAN_PAGES_MAX: Final = 50
"""Most pages of media's list that are read for one page of a filtered one."""
_WRITE_SECONDS: Final = 10.0
"""How long a client of /api/events may take for what it is sent."""
_KINDS: Final = ("publisher", "viewer")


class Stream(msgspec.Struct, frozen=True):
    """A stream's public state."""

    stream: str
    state: Literal["live", "waiting", "gone"]
    since_unix: float
    video: str
    audio: str
    width: int
    height: int
    hls: bool
    hls_reason: str
    viewers_webrtc: int
    viewers_hls: int
    bits_per_second: int
    keyframe_age_ms: int
    lost: int


class StreamList(msgspec.Struct, frozen=True):
    """A page of streams, by name. `next` is the `after` of the next page, or null."""

    streams: list[Stream]
    next: str | None = None


class Session(msgspec.Struct, frozen=True):
    """A publisher or a viewer over WebRTC."""

    session: str
    stream: str
    kind: Literal["publisher", "viewer"]
    subject: str
    state: Literal["connecting", "connected"]
    remote: str
    since_unix: float
    packets: int
    bytes: int
    lost: int


class SessionList(msgspec.Struct, frozen=True):
    """A page of sessions, by id. `next` is the `after` of the next page, or null."""

    sessions: list[Session]
    next: str | None = None


_NOT_FOUND: Final = Answer("There is no such thing.")
_PAGE: Final = {
    "after": "The last name or id of the page before.",
    "limit": "Most entries in the page, 1 to 100.",
}
_API: Final = "/api/v1"


class Control:
    """The routes of the control API."""

    routes: Final = (
        Route(
            "GET",
            f"{_API}/streams",
            "list_streams",
            "List streams",
            {200: Answer("A page of streams.", StreamList)},
            action="read",
            query=_PAGE,
        ),
        Route(
            "GET",
            f"{_API}/streams/{{stream}}",
            "get_stream",
            "One stream",
            {200: Answer("The stream.", Stream), 404: _NOT_FOUND},
            action="read",
        ),
        Route(
            "DELETE",
            f"{_API}/streams/{{stream}}",
            "kick_publisher",
            "End the publisher's session",
            {204: Answer("It has ended."), 404: _NOT_FOUND},
            action="control",
        ),
        Route(
            "POST",
            f"{_API}/streams/{{stream}}/keyframe",
            "ask_key_frame",
            "Ask the publisher for a key frame",
            {202: Answer("It is asked, at most once a second."), 404: _NOT_FOUND},
            action="control",
        ),
        Route(
            "GET",
            f"{_API}/sessions",
            "list_sessions",
            "List sessions",
            {200: Answer("A page of sessions.", SessionList)},
            action="control",
            query={
                **_PAGE,
                "stream": "Only sessions of this stream.",
                "kind": "Only publisher or only viewer.",
            },
        ),
        Route(
            "GET",
            f"{_API}/sessions/{{session}}",
            "get_session",
            "One session",
            {200: Answer("The session.", Session), 404: _NOT_FOUND},
            action="control",
        ),
        Route(
            "DELETE",
            f"{_API}/sessions/{{session}}",
            "kick_session",
            "End a session",
            {204: Answer("It has ended."), 404: _NOT_FOUND},
            action="control",
        ),
    )

    def __init__(self, *, link: MediaLink, gate: Gate) -> None:
        self._link = link
        self._gate = gate

    async def list_streams(self, request: web.Request) -> web.Response:
        passed = await self._gate.admit(request, "read", stream="")
        after, limit = page_of(request)
        names = sorted(name for name in self._link.streams if name > after and passed.covers(name))
        page = [shown(self._link.streams[name]) for name in names[:limit]]
        return _json(StreamList(page, names[limit - 1] if len(names) > limit else None))

    async def get_stream(self, request: web.Request) -> web.Response:
        stream = stream_of(request)
        await self._gate.admit(request, "read", stream=stream)
        return _json(shown(self._known(stream)))

    async def kick_publisher(self, request: web.Request) -> web.Response:
        stream = stream_of(request)
        await self._gate.admit(request, "control", stream=stream)
        publisher = self._known(stream).publisher
        if not publisher:
            raise Refusal(404, "nobody publishes this stream", code="stream.not_live")
        await self._link.close(publisher, stream=stream, reason="kicked")
        return web.Response(status=204)

    async def ask_key_frame(self, request: web.Request) -> web.Response:
        stream = stream_of(request)
        await self._gate.admit(request, "control", stream=stream)
        self._known(stream)
        await self._link.ask_key_frame(stream)
        return web.Response(status=202)

    async def list_sessions(self, request: web.Request) -> web.Response:
        """A page of sessions. Cost: reads media's pages until it is full, at most fifty."""
        stream = request.query.get("stream", "")
        passed = await self._gate.admit(request, "control", stream=stream)
        after, limit = page_of(request)
        kind = request.query.get("kind", "")
        if kind and kind not in _KINDS:
            raise Refusal(400, f"kind: {' or '.join(_KINDS)}", code="http.query")
        found: list[Session] = []
        for _ in range(_SCAN_PAGES_MAX):
            page = await self._link.sessions(stream=stream, after=after)
            for info in page.sessions:
                after = info.session
                if (not kind or info.kind == kind) and passed.covers(info.stream):
                    found.append(_session(info))
                    if len(found) == limit:
                        return _json(SessionList(found, after))
            if not page.more or not page.sessions:
                return _json(SessionList(found))
        return _json(SessionList(found, after))

    async def get_session(self, request: web.Request) -> web.Response:
        _, info = await self._session(request)
        return _json(_session(info))

    async def kick_session(self, request: web.Request) -> web.Response:
        _, info = await self._session(request)
        await self._link.close(info.session, stream=info.stream, reason="kicked")
        return web.Response(status=204)

    async def _session(self, request: web.Request) -> tuple[Pass, SessionInfo]:
        passed = await self._gate.admit(request, "control", stream="")
        info = await self._link.session(request.match_info["session"])
        if not passed.covers(info.stream):
            raise Rejected("there is no such session", code="session.unknown")
        return passed, info

    def _known(self, stream: str) -> StreamChanged:
        """Raises: Rejected (`stream.unknown`)."""
        found = self._link.streams.get(stream)
        if found is None:
            raise Rejected("there is no such stream", code="stream.unknown")
        return found


class _Listener:
    """A client of /api/events: which streams have changed since it was last told."""

    __slots__ = ("changed", "passed", "woken")

    def __init__(self, passed: Pass) -> None:
        self.passed = passed
        self.changed: dict[str, StreamChanged] = {}
        self.woken = asyncio.Event()


class Events:
    """Server-sent events of the list of streams, for the pages.

    First `event: streams` with the whole list (as /api/v1/streams), then `event: stream` with one
    stream whenever it changes (state "gone": take it off the list). A slow client is told the
    newest state only: what waits for it is one entry a stream.
    """

    routes: Final = (
        Route(
            "GET",
            "/api/events",
            "listen",
            "The list of streams as server-sent events",
            {
                200: Answer("Events `streams` and `stream`.", media_type="text/event-stream"),
                503: Answer("Too many listen already.", headers=("Retry-After",)),
            },
            action="read",
        ),
    )

    def __init__(self, *, link: MediaLink, gate: Gate, settings: HttpSettings) -> None:
        self._link = link
        self._gate = gate
        self._settings = settings
        self._listeners: set[_Listener] = set()
        self._stopped = False

    def __len__(self) -> int:
        return len(self._listeners)

    def changed(self, stream: StreamChanged) -> None:
        """A stream's state is another now."""
        for listener in self._listeners:
            if listener.passed.covers(stream.stream):
                listener.changed[stream.stream] = stream
                listener.woken.set()

    def stop(self) -> None:
        """Ends every client's response."""
        self._stopped = True
        for listener in self._listeners:
            listener.woken.set()

    async def listen(self, request: web.Request) -> web.StreamResponse:
        """Runs as long as the client stays."""
        passed = await self._gate.admit(request, "read", stream="")
        if len(self._listeners) >= self._settings.events_max or self._stopped:
            raise Refusal(
                503, "too many listen already", code="edge.full", headers={"Retry-After": "5"}
            )
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        response.force_close()
        listener = _Listener(passed)
        self._listeners.add(listener)
        try:
            await response.prepare(request)
            streams = [shown(item) for item in self._link.streams.values()]
            covered = [item for item in streams if passed.covers(item.stream)]
            await _write(response, _event("streams", StreamList(covered)))
            while not self._stopped:
                await _write(response, await self._next(listener))
        except (ConnectionError, TimeoutError):
            return response
        finally:
            self._listeners.discard(listener)
        return response

    async def _next(self, listener: _Listener) -> bytes:
        try:
            async with asyncio.timeout(self._settings.events_heartbeat_seconds):
                await listener.woken.wait()
        except TimeoutError:
            return b": still here\n\n"
        listener.woken.clear()
        changed, listener.changed = listener.changed, {}
        return b"".join(_event("stream", shown(item)) for item in changed.values())


async def _write(response: web.StreamResponse, data: bytes) -> None:
    if data:
        async with asyncio.timeout(_WRITE_SECONDS):
            await response.write(data)


def shown(stream: StreamChanged) -> Stream:
    """What everybody who may see a stream is told of it."""
    return msgspec.convert(stream, Stream, from_attributes=True)


def _session(info: SessionInfo) -> Session:
    return msgspec.convert(info, Session, from_attributes=True)


def _event(name: str, data: msgspec.Struct) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def _json(data: msgspec.Struct) -> web.Response:
    return web.Response(
        body=msgspec.json.encode(data),
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def described(types: Iterable[type[msgspec.Struct]]) -> dict[str, object]:
    """JSON schemas of the API's types, by name."""
    _, components = msgspec.json.schema_components(
        tuple(types), ref_template="#/components/schemas/{name}"
    )
    return dict(components)

"""All streams of this media process: who may come on, what changes, what everybody is told.

It joins the native plane (`media/plane.py`), the sessions and the streams' lives
(`media/live_stream.py`). Changes go to an `Audience`: edge workers' links in the media process, a
list in tests. It opens no socket, and starts no task: `media/server.py` calls `tick` and `renew`.
"""

import re
import shutil
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol

import msgspec

from media import errors, gauges
from media._native import Answer, Event, Unit
from media.gauges import StreamReport
from media.guard import guarded
from media.live_stream import LiveStream, State, Tracks, Writer
from media.messages import Answered, Grant, SessionInfo, StreamChanged
from media.plane import Plane
from media.sessions import Session, Sessions
from media.webrtc_settings import WebrtcSettings
from ops.clock import SYSTEM, Clock
from ops.ids import secret_id
from ops.log import get_logger

EARLY_EVENTS_MAX: Final = 256
"""Events kept of sessions whose `publish` or `play` has not returned yet."""
VIEWERS_SECONDS: Final = 10.0
"""How long a link's count of HLS viewers holds without being renewed."""
SESSIONS_PAGE_MAX: Final = 100
STREAM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
KICKED: Final = "closed by request"
EXPIRED: Final = "grant expired"

_log = get_logger("media.streams")


class Audience(Protocol):
    """Whoever is told of streams."""

    def stream_changed(self, changed: StreamChanged) -> None: ...
    def hls_changed(self, stream: str) -> None: ...


@dataclass(frozen=True, slots=True)
class _Counts:
    """One link's HLS viewers, and when it told."""

    counts: Mapping[str, float]
    told_at: float


class Streams:
    """The registry. Also the plane's listener."""

    def __init__(
        self,
        plane: Plane,
        audience: Audience,
        *,
        root: Path,
        make_writer: Callable[[str], Writer],
        webrtc: WebrtcSettings,
        linger_seconds: float,
        clock: Clock = SYSTEM,
    ) -> None:
        """root: the directory of all streams' HLS files, one a stream, which writers made by
        `make_writer` fill; they outlive their publisher by `linger_seconds`, and are removed as
        long after that again."""
        self._plane = plane
        self._audience = audience
        self._root = root
        self._webrtc = webrtc
        self._make_writer = make_writer
        self._linger_seconds = linger_seconds
        self._clock = clock
        self._streams: dict[str, LiveStream] = {}
        self._sessions = Sessions()
        self._early: OrderedDict[int, Event] = OrderedDict()
        self._hls_viewers: dict[Hashable, _Counts] = {}
        self._leftovers: dict[str, float] = {}
        self._told: dict[str, StreamChanged] = {}
        self._renewed_at = clock.monotonic()

    def __len__(self) -> int:
        return len(self._streams)

    @property
    def sessions(self) -> Sessions:
        """Who is connected."""
        return self._sessions

    def find_leftovers(self) -> None:
        """Takes over the streams that a former process left on disk. Cost: reads their
        journals."""
        now, unix = self._clock.monotonic(), self._clock.unix()
        for directory in sorted(self._root.iterdir() if self._root.is_dir() else ()):
            name_fits = STREAM_NAME.fullmatch(directory.name)
            if len(self._streams) >= self._webrtc.streams_max or not name_fits:
                continue
            stream = self._make(directory.name)
            try:
                goes_on = stream.find(now=now, unix=unix)
            except (OSError, ValueError, msgspec.MsgspecError) as error:
                _log.error("leftover cannot be read", stream=directory.name, reason=str(error))
                goes_on = False
            if not goes_on:
                del self._streams[directory.name]
                self._leftovers[directory.name] = now + self._linger_seconds

    async def publish(
        self, name: str, *, offer: str, grant: Grant, asked_at: float = 0.0
    ) -> tuple[Session, Answer]:
        """A new publisher; asked_at: when the POST came, by the steady clock, 0: unknown.

        Raises Rejected or Unavailable of `media.errors`.
        """
        if not STREAM_NAME.fullmatch(name):
            raise errors.BadName(f"a stream cannot have this name: {name[:80]!r}")
        self._sessions.hold(grant)
        try:
            answer = await self._publish(name, offer=offer)
        except BaseException:
            self._sessions.let_go(grant)
            raise
        return self._register(name, answer, grant, publishes=True, asked_at=asked_at), answer

    async def _publish(self, name: str, *, offer: str) -> Answer:
        stream = self._streams.get(name)
        if stream is None:
            if len(self._streams) >= self._webrtc.streams_max:
                detail = f"there are {len(self._streams)} streams already"
                raise errors.Overloaded(detail, limit="streams")
            stream = self._make(name)
        elif self._webrtc.takeover == "refuse" and (stream.publisher or stream.joining):
            raise errors.AlreadyPublished(f"somebody publishes {name} already")
        stream.joining += 1
        self._plane.tap(name, on=True)
        try:
            return await self._plane.publish(name, offer=offer)
        except BaseException:
            stream.joining -= 1
            self._abandon(stream)
            raise

    async def play(
        self, name: str, *, offer: str, grant: Grant, asked_at: float = 0.0
    ) -> tuple[Session, Answer]:
        """A new viewer, as `publish`. Raises Rejected or Unavailable of `media.errors`."""
        stream = self._streams.get(name)
        if stream is None or stream.state is not State.LIVE:
            raise errors.NotLive(f"nobody publishes {name} now")
        self._sessions.hold(grant)
        try:
            answer = await self._plane.play(name, offer=offer)
        except BaseException:
            self._sessions.let_go(grant)
            raise
        return self._register(name, answer, grant, publishes=False, asked_at=asked_at), answer

    def close(self, id: str, *, stream: str = "", reason: str = KICKED) -> None:
        """Ends a session. Raises UnknownSession, also when it belongs to another stream."""
        session = self._sessions.find(id)
        if session is None or (stream and session.stream != stream):
            raise errors.UnknownSession("there is no such session")
        self._close(session, reason)

    def ask_keyframe(self, name: str) -> None:
        """Passes a request on to the publisher. Raises UnknownStream."""
        if not self._plane.keyframe(name):
            raise errors.UnknownStream(f"nobody publishes {name} now")

    async def page(
        self, *, stream: str, after: str, limit: int
    ) -> tuple[tuple[SessionInfo, ...], bool]:
        """Sessions in id order after `after`, and whether more follow."""
        figures = await self._plane.session_figures()
        limit = min(max(limit, 1), SESSIONS_PAGE_MAX)
        found, more = self._sessions.page(stream=stream, after=after, limit=limit)
        return tuple(session.info(figures.get(session.native, {})) for session in found), more

    def demand_aac(self, name: str) -> None:
        """Somebody plays the AAC rendition; of a stream that is not there: nothing."""
        stream = self._streams.get(name)
        if stream is not None:
            stream.demand_aac(self._clock.unix())

    def count_hls_viewers(self, link: Hashable, counts: Mapping[str, float]) -> None:
        """What one edge worker sees; replaces what it said before."""
        self._hls_viewers[link] = _Counts(counts, self._clock.monotonic())

    def public(self) -> list[StreamChanged]:
        """Every stream that anybody may know of."""
        return [s.public() for s in self._streams.values() if s.state is not State.NEW]

    def reports(self) -> list[StreamReport]:
        """The same streams, for metrics."""
        unix = self._clock.unix()
        return [s.report(unix) for s in self._streams.values() if s.state is not State.NEW]

    # -- the plane's listener -------------------------------------------------------------

    def handle_event(self, event: Event) -> None:
        """A session connects, shows its media, ends."""
        session = self._sessions.find_native(event.session)
        if session is None:
            self._early[event.session] = event
            while len(self._early) > EARLY_EVENTS_MAX:
                self._early.popitem(last=False)
            return
        if event.kind == "closed":
            gauges.ended(event.detail)
        stream = self._streams.get(session.stream)
        if stream is None:
            # Its stream is gone, and it was told to go.
            if event.kind == "closed":
                self._sessions.remove(session)
        elif event.kind == "connected":
            session.connected = True
            self._joined(session, "connected", self._clock.monotonic())
        elif event.kind == "playing":
            self._joined(session, "media", int(event.detail) / 1e9)
        elif event.kind == "tracks":
            self._media_came(stream, session, event.detail)
        elif event.kind == "closed":
            self._closed(stream, session, event.detail)
        else:
            _log.warning("unknown event", event_kind=event.kind)

    def handle_units(self, stream: str, units: Sequence[Unit]) -> None:
        found = self._streams.get(stream)
        if found is None:
            return
        unix = self._clock.unix()
        before = found.shape
        if found.push(units, unix=unix):
            self._audience.hls_changed(stream)
        if found.shape != before:
            self._tell(found)
        if found.wants_keyframe(unix):
            self._plane.keyframe(stream)

    def handle_fault(self, stream: str) -> None:
        found = self._streams.get(stream)
        if found is not None and found.packaged:
            found.fail("Packaging for HLS failed here.")
            self._tell(found)

    # -- time -----------------------------------------------------------------------------

    def tick(self) -> None:
        """What is due; about ten times a second."""
        now, unix = self._clock.monotonic(), self._clock.unix()
        for stream in tuple(self._streams.values()):
            guarded(stream.name, self.handle_fault, self._tick_one, stream, now, unix)
        for session in self._sessions.expired(unix):
            self._close(session, EXPIRED)
        for name in [name for name, due in self._leftovers.items() if due <= now]:
            del self._leftovers[name]
            shutil.rmtree(self._root / name, ignore_errors=True)

    async def renew(self) -> None:
        """Renews the figures and tells those that have changed; once a second."""
        rows = await self._plane.stream_figures()
        now = self._clock.monotonic()
        seconds = max(now - self._renewed_at, 0.001)
        self._renewed_at = now
        viewers = self._sum_hls_viewers(now)
        watching = Counter(s.stream for s in self._sessions if s.connected and not s.publishes)
        for stream in self._streams.values():
            stream.renew_figures(rows.get(stream.name, {}), seconds=seconds)
            stream.figures.viewers_webrtc = watching[stream.name]
            stream.figures.viewers_hls = viewers.get(stream.name, 0)
            if stream.state is not State.NEW:
                self._tell(stream)

    def stop(self) -> None:
        """Ends the writers' threads; what is on disk stays as it is."""
        for stream in self._streams.values():
            stream.close()

    # -- details --------------------------------------------------------------------------

    def _tick_one(self, stream: LiveStream, now: float, unix: float) -> None:
        state = stream.state
        if stream.tick(now=now, unix=unix):
            self._audience.hls_changed(stream.name)
        if stream.wants_keyframe(unix):
            self._plane.keyframe(stream.name)
        if stream.state is not state:
            self._tell(stream)
        if stream.state is State.GONE:
            self._forget(stream, now=now)

    def _make(self, name: str) -> LiveStream:
        self._leftovers.pop(name, None)
        stream = LiveStream(
            name,
            make_writer=self._make_writer,
            linger_seconds=self._linger_seconds,
            unix=self._clock.unix(),
        )
        self._streams[name] = stream
        return stream

    def _register(
        self, name: str, answer: Answer, grant: Grant, *, publishes: bool, asked_at: float
    ) -> Session:
        session = self._sessions.add(
            lambda new_id: Session(
                id=new_id,
                native=answer.session,
                stream=name,
                publishes=publishes,
                grant=grant,
                since_unix=self._clock.unix(),
                etag=secret_id(),
                remote_ufrag=answer.remote_ufrag,
                asked_at=asked_at,
            )
        )
        early = self._early.pop(answer.session, None)
        if early is not None:
            self.handle_event(early)
        return session

    def _media_came(self, stream: LiveStream, session: Session, detail: str) -> None:
        if not session.publishes:
            return
        tracks = msgspec.json.decode(detail, type=Tracks)
        if not session.was_on_air:
            session.was_on_air = True
            stream.joining -= 1
            self._joined(session, "media", self._clock.monotonic())
        stream.media_came(session, tracks, unix=self._clock.unix())
        self._plane.tap(stream.name, on=stream.packaged)
        _log.info("on air", stream=stream.name, video=tracks.video, audio=tracks.audio)
        self._tell(stream)

    def _joined(self, session: Session, until: str, at: float) -> None:
        if session.asked_at:
            protocol: Literal["whip", "whep"] = "whip" if session.publishes else "whep"
            gauges.joined(protocol, until, at - session.asked_at)

    def _closed(self, stream: LiveStream, session: Session, reason: str) -> None:
        self._sessions.remove(session)
        if session.publishes:
            on_air = session is stream.publisher
            if not session.was_on_air:
                stream.joining -= 1
            stream.publisher_went(
                session, reason, now=self._clock.monotonic(), unix=self._clock.unix()
            )
            if on_air:
                _log.info("publisher went", stream=stream.name, reason=reason)
                self._audience.hls_changed(stream.name)
                self._tell(stream)
            elif not stream.joining and stream.publisher is not None:
                self._plane.tap(stream.name, on=stream.packaged)
        self._abandon(stream)

    def _close(self, session: Session, reason: str) -> None:
        session.closing = True
        if not self._plane.close(session.native, reason):
            self.handle_event(Event(session.native, session.stream, "closed", reason))

    def _abandon(self, stream: LiveStream) -> None:
        if stream.abandon(self._clock.unix()):
            self._forget(stream, now=self._clock.monotonic())

    def _forget(self, stream: LiveStream, *, now: float) -> None:
        """A stream is gone; its files stay for players that still read their end."""
        del self._streams[stream.name]
        self._told.pop(stream.name, None)
        for session in [s for s in self._sessions if s.stream == stream.name]:
            self._close(session, "stream is gone")
        self._plane.tap(stream.name, on=False)
        if (self._root / stream.name).is_dir():
            self._leftovers[stream.name] = now + self._linger_seconds

    def _tell(self, stream: LiveStream) -> None:
        changed = stream.public()
        if self._told.get(stream.name) != changed:
            self._told[stream.name] = changed
            self._audience.stream_changed(changed)

    def _sum_hls_viewers(self, now: float) -> dict[str, int]:
        total: dict[str, float] = {}
        for link, told in tuple(self._hls_viewers.items()):
            if now - told.told_at > VIEWERS_SECONDS:
                del self._hls_viewers[link]
                continue
            for name, count in told.counts.items():
                total[name] = total.get(name, 0) + count
        return {name: max(1, round(count)) for name, count in total.items()}


def answered(id: int, session: Session, answer: Answer) -> Answered:
    """The reply to `Publish` or `Play`."""
    return Answered(
        id=id,
        session=session.id,
        sdp=answer.sdp,
        etag=session.etag,
        remote_ufrag=answer.remote_ufrag,
    )

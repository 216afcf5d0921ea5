"""One stream's life: who publishes it, what is in it, its HLS writer.

    new ──media──▶ live ──lost──▶ waiting ──lingered──▶ gone
     │              ▲ ╰─media       │
     ╰──lost──▶ gone ╰────media─────╯          (found on disk: new ──found──▶ waiting)

New: somebody connects, nothing was seen yet; nobody is told. Live: a publisher's media has come.
Waiting: the publisher went; viewers and playlists are kept. Gone: forget it. A publisher that takes
over keeps the stream live. It knows neither the native plane nor who asks.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

import msgspec

from media.gauges import StreamReport
from media.hls.units import UnitLike
from media.messages import StreamChanged
from media.sessions import Session
from ops.log import get_logger

REPLACED_SECONDS: Final = 1.0
"""After a publisher was replaced its successor must be seen within so many seconds."""
HLS_VIDEO: Final = "H264"
_NAMES: Final = {"H264": "H.264"}

_log = get_logger("media.stream")


class WriterInfo(Protocol):
    """What a writer knows of the picture; zeros before it has seen one."""

    @property
    def width(self) -> int: ...
    @property
    def height(self) -> int: ...


class Writer(Protocol):
    """What is used of `media.hls.writer.StreamWriter`. Any call but `info` may raise OSError."""

    @property
    def over(self) -> bool:
        """Its playlists have ended, or have not begun."""
        ...

    def push(self, units: Sequence[UnitLike], now_unix: float) -> bool: ...
    def wants_keyframe(self, now_unix: float) -> bool: ...
    def publisher_lost(self, now_unix: float) -> object: ...
    def demand_aac(self, now_unix: float) -> None: ...
    def tick(self, now_unix: float) -> bool: ...
    def end(self) -> object: ...
    def close(self) -> None: ...
    def info(self) -> WriterInfo: ...


class State(enum.Enum):
    """Where a stream is in its life."""

    NEW = "new"
    LIVE = "live"
    WAITING = "waiting"
    GONE = "gone"


class Turn(enum.Enum):
    """What moves it on."""

    MEDIA = "media"
    LOST = "lost"
    LINGERED = "lingered"
    FOUND = "found"


TURNS: Final[Mapping[State, Mapping[Turn, State]]] = {
    State.NEW: {Turn.MEDIA: State.LIVE, Turn.LOST: State.GONE, Turn.FOUND: State.WAITING},
    State.LIVE: {Turn.MEDIA: State.LIVE, Turn.LOST: State.WAITING},
    State.WAITING: {Turn.MEDIA: State.LIVE, Turn.LINGERED: State.GONE},
    State.GONE: {},
}


class Tracks(msgspec.Struct, frozen=True):
    """What a publisher sends, as the native side tells."""

    video: str | None = None
    audio: str | None = None


@dataclass(slots=True)
class Figures:
    """Counts for people, renewed once a second."""

    viewers_webrtc: int = 0
    viewers_hls: int = 0
    bits_per_second: int = 0
    keyframe_age_ms: int = -1
    lost: int = 0
    bytes_in: int = -1


class LiveStream:
    """One stream. Times `now` are seconds of a steady clock, `unix` of the wall clock."""

    def __init__(
        self,
        name: str,
        *,
        make_writer: Callable[[str], Writer],
        linger_seconds: float,
        unix: float,
    ) -> None:
        self.name = name
        self.state = State.NEW
        self.since_unix = unix
        self.publisher: Session | None = None
        self.joining = 0
        """Publishers whose answer is being made or who are connecting."""
        self.figures = Figures()
        self._make_writer = make_writer
        self._linger_seconds = linger_seconds
        self._tracks = Tracks()
        self._writer: Writer | None = None
        self._packaged = False
        self._fault = ""
        self._lost_at = 0.0
        self._replaced_at = 0.0
        self._native: Mapping[str, Any] = {}
        self._restarts = 0
        self._published_unix = 0.0

    @property
    def packaged(self) -> bool:
        """Whether the publisher's units go into HLS."""
        return self._packaged

    @property
    def shape(self) -> tuple[object, ...]:
        """What is told at once when it changes, unlike counts."""
        return self.state, self._packaged, self._fault, *self._size()

    def find(self, *, now: float, unix: float) -> bool:
        """A former media process left its playlists: they go on, and wait for the publisher.

        False when they had ended already. Raises what the writer raises.
        """
        writer = self._make_writer(self.name)
        if writer.over:
            writer.close()
            return False
        self._turn(Turn.FOUND, unix)
        writer.publisher_lost(unix)
        self._writer = writer
        self._lost_at = now
        return True

    def media_came(self, session: Session, tracks: Tracks, *, unix: float) -> None:
        """The first media of a publisher; or it turned out to send something else as well."""
        if session is not self.publisher:
            self._restarts += self.state is not State.NEW
            self._turn(Turn.MEDIA, unix)
            self.publisher = session
            self._replaced_at = 0.0
            self._fault = ""
        self._tracks = tracks
        self._packaged = tracks.video in {None, "", HLS_VIDEO} and bool(
            tracks.video or tracks.audio
        )
        if self._packaged and self._writer is None:
            try:
                self._writer = self._make_writer(self.name)
            except OSError as error:
                self.fail(_unwritable(error))

    def publisher_went(self, session: Session, reason: str, *, now: float, unix: float) -> None:
        """A publisher's session ended; nothing happens unless it was the one on air."""
        if session is not self.publisher:
            return
        self.publisher = None
        if reason == "replaced":
            self._replaced_at = now
        else:
            self._lose(now=now, unix=unix)

    def push(self, units: Sequence[UnitLike], *, unix: float) -> bool:
        """Packages units; those of a publisher that is not on air any more are left out.

        Returns whether anything was published.
        """
        publisher = self.publisher
        if self._writer is None or not self._packaged or publisher is None:
            return False
        current = [unit for unit in units if unit.session == publisher.native]
        if not current:
            return False
        try:
            return self._noted(self._writer.push(current, unix), unix)
        except OSError as error:
            self.fail(_unwritable(error))
            return True

    def tick(self, *, now: float, unix: float) -> bool:
        """What is due, about ten times a second. Returns whether anything was published."""
        if self._replaced_at and now - self._replaced_at > REPLACED_SECONDS:
            self._lose(now=now, unix=unix)
        lingered = now - self._lost_at >= self._linger_seconds
        if self.state is State.WAITING and lingered and not self.joining:
            self.end(unix)
            return True
        if self._writer is None:
            return False
        try:
            return self._noted(self._writer.tick(unix), unix)
        except OSError as error:
            self.fail(_unwritable(error))
            return True

    def wants_keyframe(self, unix: float) -> bool:
        """Whether HLS is due a new segment and needs a key frame for it."""
        writer = self._writer
        return self._packaged and writer is not None and writer.wants_keyframe(unix)

    def demand_aac(self, unix: float) -> None:
        """Somebody plays the AAC rendition: it is made for another while."""
        if self._writer is not None:
            self._writer.demand_aac(unix)

    def abandon(self, unix: float) -> bool:
        """Nobody connects any more. Returns whether the stream is gone, never having been live."""
        if self.state is State.NEW and not self.joining:
            self._turn(Turn.LOST, unix)
        return self.state is State.GONE

    def end(self, unix: float) -> None:
        """The wait is over: the playlists get their end."""
        self._turn(Turn.LINGERED, unix)
        writer, self._writer = self._writer, None
        self._packaged = False
        if writer is not None:
            try:
                writer.end()
                writer.close()
            except OSError as error:
                _log.error("playlists without an end", stream=self.name, reason=error.strerror)

    def close(self) -> None:
        """The process stops: what is on disk stays as it is, threads end."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def fail(self, reason: str) -> None:
        """Packaging broke: HLS stops until the next publisher, WebRTC goes on."""
        _log.error("HLS stopped", stream=self.name, reason=reason)
        self._fault = reason
        self._packaged = False
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def renew_figures(self, row: Mapping[str, Any], *, seconds: float) -> None:
        """Takes over what the native side has counted, `seconds` after the last time."""
        figures = self.figures
        self._native = row
        bytes_in = int(row.get("bytes_in", 0))
        grown = bytes_in - figures.bytes_in if figures.bytes_in >= 0 else 0
        figures.bits_per_second = int(max(grown, 0) * 8 / seconds) if self.publisher else 0
        figures.bytes_in = bytes_in
        figures.keyframe_age_ms = int(row.get("keyframe_age_ms", -1))
        figures.lost = int(row.get("lost_in", 0))

    def report(self, unix: float) -> StreamReport:
        """For metrics."""
        listed = self.state is State.LIVE and self._packaged and self._published_unix
        return StreamReport(
            public=self.public(),
            native=self._native,
            restarts=self._restarts,
            hls_age_seconds=max(0.0, unix - self._published_unix) if listed else None,
        )

    def public(self) -> StreamChanged:
        """What everybody may know."""
        width, height = self._size()
        figures = self.figures
        return StreamChanged(
            stream=self.name,
            state=self._public_state(),
            since_unix=self.since_unix,
            publisher=self.publisher.id if self.publisher else "",
            video=self._tracks.video or "",
            audio=self._tracks.audio or "",
            width=width,
            height=height,
            hls=self._packaged or (self.state is State.WAITING and self._writer is not None),
            hls_reason=self._no_hls(),
            viewers_webrtc=figures.viewers_webrtc,
            viewers_hls=figures.viewers_hls,
            bits_per_second=figures.bits_per_second,
            keyframe_age_ms=figures.keyframe_age_ms,
            lost=figures.lost,
        )

    def _noted(self, published: bool, unix: float) -> bool:
        if published:
            self._published_unix = unix
        return published

    def _public_state(self) -> Literal["live", "waiting", "gone"]:
        if self.state is State.LIVE:
            return "live"
        return "waiting" if self.state is State.WAITING else "gone"

    def _size(self) -> tuple[int, int]:
        if self._writer is None or not self._tracks.video:
            return 0, 0
        info = self._writer.info()
        return info.width, info.height

    def _no_hls(self) -> str:
        if self._fault:
            return self._fault
        if self.state is not State.LIVE or self._packaged:
            return ""
        if self._tracks.video:
            codec = _NAMES.get(self._tracks.video, self._tracks.video)
            return f"HLS needs H.264 video, and this publisher sends {codec}."
        return "The publisher sends neither H.264 video nor Opus sound."

    def _lose(self, *, now: float, unix: float) -> None:
        self._replaced_at = 0.0
        if self.state is not State.LIVE:
            return
        self._turn(Turn.LOST, unix)
        self._lost_at = now
        if self._writer is not None:
            try:
                self._writer.publisher_lost(unix)
            except OSError as error:
                self.fail(_unwritable(error))

    def _turn(self, turn: Turn, unix: float) -> None:
        """The one place where the state changes."""
        after = TURNS[self.state].get(turn)
        if after is None:
            raise AssertionError(f"stream {self.name}: {turn.value} while {self.state.value}")
        if after is not self.state:
            self.state = after
            self.since_unix = unix


def _unwritable(error: OSError) -> str:
    return f"The run directory cannot be written: {error.strerror}."

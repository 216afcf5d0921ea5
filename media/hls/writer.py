"""The media process's side of HLS: one stream's units in, files and journal lines in the run
directory out.

Theory of operation. `media/hls/timeline.py` says what is finished; here it is written: a part's
bytes to the end of its segment's file, then one line to the stream's journal. Nobody sees bytes
that no line tells of, so the process may die at any byte: the next one reads the journal, cuts off
an unfinished line, ends the open segments and goes on with the next media sequence number after a
discontinuity. Bytes for which there is no room become gap parts. What a new process finds
continues the stream, unless it has ended.

    <root>/<stream>/journal                              (media/hls/records.py)
    <root>/<stream>/{v,a,c}/s<msn>.m4s, init.<n>.mp4

All calls come from one thread; only AAC is made in another (`media/hls/aac.py`).
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from media.cmaf.audio import OPUS_CLOCK_HZ, aac_track
from media.cmaf.h264 import CLOCK_HZ
from media.gauges import part_published
from media.hls import records
from media.hls.store import Store, read_journal
from media.hls.timeline import NewInit, Output, Plan, Resumed, Sound, Started, Timeline
from media.hls.track import MadeEnd, MadePart
from media.hls.units import UnitLike
from ops.settings import setting

_HEAD_START_NS = 10_000_000_000
"""Media time of a stream's first unit: room for what comes a little before it."""
_ASK_SECONDS = 1.0
"""A key frame that did not come is asked for again after this, and at least a target duration."""


@dataclass(frozen=True, slots=True)
class HlsSettings:
    """LL-HLS of every stream."""

    part_ms: int = setting(200, "Length of a part in milliseconds.", min=100, max=1000)
    segment_ms: int = setting(
        2000,
        "Length of a segment in milliseconds; publishers are asked for a key frame as often.",
        min=1000,
        max=10_000,
    )
    window_seconds: int = setting(60, "Length of the playlists in seconds.", min=20, max=86_400)
    linger_seconds: int = setting(
        60, "Seconds a playlist stays open for its publisher to return.", min=0, max=86_400
    )
    aac_bit_rate: int = setting(
        128_000, "Bits a second of the AAC rendition.", min=32_000, max=320_000
    )
    aac_idle_seconds: int = setting(
        60, "Seconds AAC is made on after somebody last asked for it.", min=5, max=3600
    )
    stream_bytes_max: int = setting(
        256 << 20,
        "Bytes of media one stream may keep; beyond them its window gets shorter.",
        min=8 << 20,
    )


@dataclass(frozen=True, slots=True)
class Info:
    """What is known of the stream's media. Codecs as RFC 6381 writes them, or empty."""

    width: int
    height: int
    video_codec: str
    audio_codec: str
    live: bool
    """A publisher's media is being written."""
    over: bool
    aac: bool
    stored_bytes: int
    dropped_units: int
    unreadable_units: int
    lost_writes: int
    """Parts and lines for which there was no room."""


class StreamWriter:
    """One stream's HLS. Owns its folder and, while open, descriptors in it; `close` gives them
    back.

    ready: called from another thread when AAC waits for `tick`; not needed for correctness.
    """

    def __init__(
        self,
        root: Path,
        stream: str,
        settings: HlsSettings,
        *,
        ready: Callable[[], None] | None = None,
    ) -> None:
        self.stream = stream
        self._settings = settings
        self._folder = root / stream
        self._ready = ready
        self._encoder: Encoder | None = None
        self._demanded: float | None = None
        self._lost_since: float | None = None
        self._asked = 0.0
        self._lost_writes = 0
        self._store: Store | None = None
        self._timeline: Timeline | None = None
        self._now_unix = 0.0
        self._idle = True
        self._msn_min = 0
        self._resume()

    # -- what happens ---------------------------------------------------------------------

    def push(self, units: Sequence[UnitLike], now_unix: float) -> bool:
        """Takes H.264 and Opus units in the order they came; True when anything was published."""
        self._now_unix = now_unix
        if not units:
            return self.tick(now_unix)
        if self._timeline is None:
            self._begin(units[0], now_unix)
        assert self._timeline is not None, "a stream has begun"
        self._idle, self._lost_since = False, None
        made = self._aac(now_unix)
        made += self._timeline.push(units, now_unix)
        if self._encoder is not None and self._timeline.sounds:
            self._encoder.put(self._timeline.sounds)
            self._timeline.sounds.clear()
        return self._publish(made)

    def tick(self, now_unix: float) -> bool:
        """To be called about once a second: AAC that nobody asks for stops, a stream whose
        publisher stayed away ends. True when anything was published."""
        self._now_unix = now_unix
        if self._timeline is None:
            return False
        made = self._aac(now_unix)
        published = self._publish(made) if made else False
        if self._idle:
            if self._lost_since is None:
                self._lost_since = now_unix
            if now_unix - self._lost_since >= self._settings.linger_seconds:
                self.end()
                return True
        return published

    def publisher_lost(self, now_unix: float) -> bool:
        """Publishes what is pending and ends the segment; the playlist stays open."""
        if self._timeline is None or self._idle:
            return False
        self._idle, self._lost_since = True, now_unix
        made = self._aac(now_unix)
        return self._publish(made + self._timeline.lost())

    def wants_keyframe(self, now_unix: float) -> bool:
        """Whether to ask the publisher for a key frame now; True at most once a target duration."""
        if self._timeline is None or not self._timeline.wants_keyframe():
            return False
        target = self._settings.segment_ms / 1000 if self._timeline.running else _ASK_SECONDS
        if now_unix - self._asked < target:
            return False
        self._asked = now_unix
        return True

    def demand_aac(self, now_unix: float) -> None:
        """Somebody asks for AAC: it is made for `aac_idle_seconds` from now."""
        self._demanded = now_unix

    def aac_idle(self) -> bool:
        """Whether the encoder has nothing to do."""
        return self._encoder is None or self._encoder.idle()

    def end(self) -> bool:
        """Ends the stream for good: EXT-X-ENDLIST. The next unit begins a new one."""
        if self._timeline is None or self._store is None:
            return False
        published = self._publish(self._timeline.lost())
        self._store.write([records.Over()])
        self._msn_min = self._timeline.msn + 1
        self.close()
        return published or True

    def close(self) -> None:
        """Gives descriptors and threads back; what is written stays, and can be continued."""
        if self._encoder is not None:
            self._encoder.stop()
            self._encoder = None
        if self._store is not None:
            self._lost_writes += self._store.lost_writes
            self._store.close()
        self._store = self._timeline = self._lost_since = self._demanded = None
        self._idle = True

    def remove(self) -> None:
        """Closes, and takes the stream's folder away. Players get 404 from now on."""
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def over(self) -> bool:
        """Whether the stream has ended, or has not begun."""
        return self._timeline is None

    def info(self) -> Info:
        """What is known of the stream's media now."""
        timeline, store = self._timeline, self._store
        picture = timeline.formats.get("v") if timeline else None
        return Info(
            width=picture.width if picture else 0,
            height=picture.height if picture else 0,
            video_codec=picture.codec if picture else "",
            audio_codec="opus" if timeline and "a" in timeline.tracks else "",
            live=timeline is not None and timeline.running,
            over=timeline is None,
            aac=self._encoder is not None,
            stored_bytes=store.ledger.size if store else 0,
            dropped_units=timeline.counts.dropped if timeline else 0,
            unreadable_units=timeline.counts.unreadable if timeline else 0,
            lost_writes=self._lost_writes + (store.lost_writes if store else 0),
        )

    # -- beginning ------------------------------------------------------------------------

    def _resume(self) -> None:
        """Goes on with what a former process left, if the stream had not ended."""
        try:
            book, found = read_journal(self._folder / "journal")
        except (OSError, ValueError):
            return
        head = book.head
        if head is None:
            return
        self._msn_min = 1 + max(
            (shelved.playlist.msn for shelved in book.renditions.values()), default=head.msn
        )
        if book.over:
            return
        kept = [
            shelved
            for shelved in book.renditions.values()
            if shelved.name != "c" and not shelved.playlist.empty
        ]
        plan = Plan(head.target_seconds, head.part_target_ms, head.segment_ms)
        self._timeline = Timeline(
            plan,
            origin_ns=max((shelved.origin_ns for shelved in kept), default=head.origin_ns),
            msn=max((shelved.playlist.msn for shelved in kept), default=head.msn),
            discontinuities=max((shelved.discontinuities for shelved in kept), default=0),
            resumed=[
                Resumed(shelved.name, shelved.playlist.msn, shelved.playlist.part + 1, shelved.end)
                for shelved in kept
            ],
        )
        self._store = Store(self._folder, head, bytes_max=self._settings.stream_bytes_max)
        self._store.adopt(found)
        if "c" in book.renditions:
            self._store.write([records.Stop("c")])
            self._store.forget("c")
            self._timeline.aac_used(book.renditions["c"].playlist.msn)
        self._publish(self._timeline.take())

    def _begin(self, first: UnitLike, now_unix: float) -> None:
        """A new stream: whatever lies in the folder is of a former one."""
        settings = self._settings
        # Numbers begin at so many four-thirds of a segment since 1970: names that browsers keep
        # for an hour come never again, though the run directory knows nothing of former lives.
        msn = max(self._msn_min, int(now_unix * 1000) * 4 // (3 * settings.segment_ms))
        head = records.Head(
            records.FORMAT,
            self.stream,
            -(-settings.segment_ms // 1000),
            part_target_ms=settings.part_ms * 21 // 20,
            segment_ms=settings.segment_ms,
            window_seconds=settings.window_seconds,
            origin_ns=first.at_ns - _HEAD_START_NS,
            msn=msn,
        )
        store = Store(self._folder, head, bytes_max=settings.stream_bytes_max)
        store.begin()
        self._store = store
        plan = Plan(head.target_seconds, head.part_target_ms, head.segment_ms)
        self._timeline = Timeline(plan, origin_ns=head.origin_ns, msn=msn)

    # -- AAC ------------------------------------------------------------------------------

    def _aac(self, now_unix: float) -> list[Output]:
        """Starts and stops the encoder, and takes what it has made."""
        timeline = self._timeline
        assert timeline is not None, "a stream has begun"
        wanted = (
            self._demanded is not None
            and now_unix - self._demanded < self._settings.aac_idle_seconds
        )
        if not wanted:
            if self._encoder is not None:
                self._encoder.stop()
                self._encoder = None
                if "c" in timeline.tracks:
                    timeline.stop_aac()
                    self._write([records.Stop("c")])
                    assert self._store is not None, "a stream has begun"
                    self._store.forget("c")
            return []
        if self._encoder is None:
            if timeline.start_aac():
                self._encoder = start_encoder(self._settings.aac_bit_rate, self._ready)
            return []
        encoder = self._encoder
        for run, frames in encoder.take():
            if "c" not in timeline.formats:
                form = aac_track(encoder.config, bit_rate=self._settings.aac_bit_rate)
                timeline.aac_format(form)
            timeline.push_aac(run, frames)
        return timeline.take()

    # -- output ---------------------------------------------------------------------------

    def _publish(self, made: Sequence[Output]) -> bool:
        if not made:
            return False
        store = self._store
        assert store is not None, "a stream has begun"
        lines: list[records.Record] = []
        for each in made:
            match each:
                case MadePart():
                    lines.append(store.part(each))
                    self._measure(each)
                case MadeEnd():
                    lines.append(records.End(each.rendition, each.msn))
                case Started():
                    lines.append(records.Rendition(*each))
                case NewInit():
                    lines.append(store.init(each))
        self._write(lines)
        return True

    def _measure(self, part: MadePart) -> None:
        """Parts cut because the publisher went, or made of nothing, tell nothing of lateness."""
        if self._now_unix and not self._idle and not part.gap:
            hz = CLOCK_HZ if part.rendition == "v" else OPUS_CLOCK_HZ
            end_unix = part.at_ms / 1_000 + part.duration / hz
            part_published(part.rendition, self._now_unix - end_unix)

    def _write(self, lines: Sequence[records.Record]) -> None:
        assert self._store is not None, "a stream has begun"
        self._store.write(lines)
        self._store.trim()


class Encoder(Protocol):
    """What is needed of `media.hls.aac.AacEncoder`."""

    @property
    def config(self) -> bytes: ...
    def put(self, sounds: Sequence[Sound]) -> None: ...
    def take(self) -> list[tuple[int, list[tuple[bytes, int]]]]: ...
    def idle(self) -> bool: ...
    def stop(self) -> None: ...


def start_encoder(bit_rate: int, ready: Callable[[], None] | None) -> Encoder:
    """An AAC encoder with its thread. Cost: the first one loads FFmpeg's libraries."""
    from media.hls.aac import AacEncoder  # noqa: PLC0415 - 60 MB that most nodes never need

    return AacEncoder(bit_rate=bit_rate, ready=ready)

"""What an edge worker serves HLS from: the journals in the run directory, and a cache of bytes.

`Shelf.answer` says at once what to send, or what to wait for; it neither sleeps nor speaks HTTP.
Two workers that have read equally far answer with the same bytes. Only the media process writes
there.
"""

import os
import re
from collections import OrderedDict
from dataclasses import dataclass, field
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from media.hls import multivariant, records
from media.hls.book import Book, Shelved
from media.hls.playlist import Playlist

STREAM_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
PLAYLIST_TYPE: Final = b"application/vnd.apple.mpegurl"
WAIT_TARGETS: Final = 3
"""A blocked request is given up after so many target durations (RFC 8216bis, 6.2.5.2)."""

_STREAMS_MAX: Final = 10_000
"""Streams remembered at once; the one asked for least recently is forgotten and read anew."""
_HOT_MAX: Final = 64
"""Ready answers kept for one state of a stream."""
_READ_BYTES: Final = 1 << 20
_AROUND_BYTES: Final = 1_024
"""About what an answer takes beside its body: its head, its key, its objects."""
_QUERIES_REMEMBERED: Final = 1_024
_MEDIA: Final = re.compile(
    r"([vac])/(?:s(0|[1-9]\d{0,15})(?:\.(0|[1-9]\d{0,5}))?\.m4s|init\.(0|[1-9]\d{0,15})\.mp4)",
    re.ASCII,
)
_NUMBER: Final = re.compile(r"0|[1-9]\d{0,15}", re.ASCII)
_FOREVER: Final = b"public, max-age=3600, immutable"
_SHORT: Final = b"public, max-age=1"
_NOT: Final = b"no-store"
_PLAYLISTS: Final = ("v/live.m3u8", "a/live.m3u8", "c/live.m3u8")
_TYPES: Final = {"v": b"video/mp4", "a": b"audio/mp4", "c": b"audio/mp4"}


Wire = tuple[bytes, bytes, bytes]
"""A reply ready to be sent: what it was made for, its first bytes, the rest of it."""


@dataclass(slots=True)
class Reply:
    """An answer, the same for everybody who asks the same; never changed but for its wires."""

    status: int
    content_type: bytes
    cache_control: bytes
    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    wire_shared: Wire | None = field(default=None, compare=False, repr=False)
    """Kept here for whoever sends it: ready for a client whose answers a cache may keep."""
    wire_own: Wire | None = field(default=None, compare=False, repr=False)
    """The same for a client whose answers are its own."""


class Wait(NamedTuple):
    """There is nothing to send yet: ask again when `stream` changes; at `until` send `late`."""

    stream: str
    until: float
    late: Reply


class _Query(NamedTuple):
    msn: int = -1
    part: int | None = None
    skip: bool = False
    audio: multivariant.Audio = ""


class _BadRequestError(ValueError):
    """A request that cannot be answered: HTTP 400 with the reason."""


class Shelf:
    """All streams under `root`. Owns one descriptor a stream known; `close` gives them back."""

    def __init__(self, root: Path, *, cache_bytes_max: int = 256 << 20) -> None:
        self._root = root
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._cache = _Cache(cache_bytes_max)
        self._demanded: set[str] = set()

    def streams(self) -> list[str]:
        """The streams that lie in the run directory. Cost: reads the directory."""
        try:
            names = [path.name for path in self._root.iterdir()]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if STREAM_NAME.fullmatch(name))

    def refresh(self, stream: str) -> bool:
        """Reads what the stream's journal gained; True when there was something.

        Cost: one fstat when there was nothing.
        """
        known = self._streams.get(stream)
        if known is None:
            return self._open(stream) is not None
        if known.replaced():
            self._forget(stream)
            self._open(stream)
            return True
        try:
            return known.read()
        except ValueError:
            self._forget(stream)
            return True

    def sweep(self) -> None:
        """Forgets streams that have been removed from the run directory, with their descriptors.

        Cost: one fstat a stream known.
        """
        for stream in [name for name, known in self._streams.items() if known.replaced()]:
            self._forget(stream)

    @property
    def cached_bytes(self) -> int:
        """Bytes that kept media take in memory."""
        return self._cache.bytes

    def demanded(self) -> set[str]:
        """The streams whose AAC rendition was asked for since the last call."""
        asked, self._demanded = self._demanded, set()
        return asked

    def answer(self, stream: str, *, path: str, query: str, now: float) -> Reply | Wait:
        """What `GET …/{stream}/{path}?{query}` gets. `now` in seconds, of any steady clock."""
        known = self._streams.get(stream) or self._open(stream)
        if known is None:
            return problem(404, f"no such stream: {stream[:64]}")
        if path == "c/live.m3u8" and not known.book.over:
            self._demanded.add(stream)
        hot = known.hot.get((path, query))
        if hot is not None:
            return hot
        try:
            if path.endswith(".m3u8"):
                return self._playlist(known, path, query, now)
            return self._media(known, path, now)
        except _BadRequestError as error:
            return problem(400, str(error))

    def close(self) -> None:
        """Gives the descriptors back and forgets everything."""
        for stream in list(self._streams):
            self._forget(stream)

    # -- streams --------------------------------------------------------------------------

    def _open(self, stream: str) -> "_Stream | None":
        if not STREAM_NAME.fullmatch(stream):
            return None
        try:
            fresh = _Stream(stream, self._root / stream)
        except FileNotFoundError:
            return None
        try:
            fresh.read()
        except ValueError:
            fresh.close()
            return None
        if fresh.book.head is None:
            fresh.close()
            return None
        self._streams[stream] = fresh
        while len(self._streams) > _STREAMS_MAX:
            self._forget(next(iter(self._streams)))
        return fresh

    def _forget(self, stream: str) -> None:
        known = self._streams.pop(stream, None)
        if known is not None:
            known.close()

    # -- playlists ------------------------------------------------------------------------

    def _playlist(self, known: "_Stream", path: str, query: str, now: float) -> Reply | Wait:
        book = known.book
        asked = _parse(query)
        if path == "index.m3u8":
            return self._multivariant(known, query, asked.audio, now)
        if path not in _PLAYLISTS:
            return problem(404, "no such playlist")
        shelved = book.renditions.get(path[0])
        if shelved is None or shelved.playlist.empty:
            return self._absent(known, path[0], now)
        if not _listed(shelved.playlist, asked):
            return known.wait(now, _NOTHING_CAME)
        if asked.msn < 0 and not (shelved.playlist.begun or book.over):
            # FFmpeg's reader (9.0) crashes on a rendition that lists no whole segment yet
            return known.wait(now, _NO_SEGMENT)
        body = shelved.playlist.render(book.reports(path[0]), skip=asked.skip)
        fresh = _SHORT
        newest = asked.msn >= 0 and shelved.playlist.newest(asked.msn, asked.part)
        if newest and not book.over:
            # What blocked requests are answered: it holds what was asked for, and will do so
            fresh = b"public, max-age=%d" % (WAIT_TARGETS * shelved.playlist.target_seconds)
        return known.keep(path, query, Reply(200, PLAYLIST_TYPE, fresh, body))

    def _multivariant(
        self, known: "_Stream", query: str, audio: multivariant.Audio, now: float
    ) -> Reply | Wait:
        if not multivariant.ready(known.book):
            return known.wait(now, _JUST_BEGUN)
        body = multivariant.render(known.book, audio)
        return known.keep("index.m3u8", query, Reply(200, PLAYLIST_TYPE, _SHORT, body))

    def _absent(self, known: "_Stream", name: str, now: float) -> Reply | Wait:
        """The answer for a rendition of which nothing is listed: it may be about to come."""
        book = known.book
        comes = name in book.renditions or not book.renditions
        if name == "c" and "a" in book.renditions:
            comes = True
        if comes and not book.over:
            return known.wait(now, _NOT_BEGUN)
        return problem(404, "the stream has no such rendition")

    # -- media ----------------------------------------------------------------------------

    def _media(self, known: "_Stream", path: str, now: float) -> Reply | Wait:
        key = (known.stream, known.life, path)
        reply = self._cache.get(key)
        if reply is not None:
            return reply
        match = _MEDIA.fullmatch(path)
        shelved = known.book.renditions.get(match[1]) if match else None
        if match is None or shelved is None:
            return problem(404, "no such file")
        name, msn, part, init = match.groups()
        if init is not None:
            place = known.init(shelved, int(init))
        elif part is None:
            place = known.segment(shelved, int(msn))
        else:
            hinted = (shelved.playlist.msn, shelved.playlist.part + 1)
            if (int(msn), int(part)) == hinted and not known.book.over:
                return known.wait(now, _NO_PART)
            place = known.part(shelved, int(msn), int(part))
        body = known.load(name, place)
        if body is None:
            return problem(404, "no such file")
        reply = Reply(200, _TYPES[name], _FOREVER, body)
        self._cache.put(key, reply)
        return reply


def problem(status: int, detail: str) -> Reply:
    """An error as problem+json (RFC 9457)."""
    title = HTTPStatus(status).phrase
    body = msgspec.json.encode(
        {"type": "about:blank", "title": title, "status": status, "detail": detail}
    )
    fresh = _SHORT if status == 404 else _NOT
    extra = ((b"Retry-After", b"1"),) if status == 503 else ()
    return Reply(status, b"application/problem+json", fresh, body, extra)


_NO_PART: Final = problem(404, "the part did not come")
_NOTHING_CAME: Final = problem(503, "nothing came in three target durations")
_NO_SEGMENT: Final = problem(503, "the rendition has no whole segment yet")
_JUST_BEGUN: Final = problem(503, "the stream has just begun")
_NOT_BEGUN: Final = problem(503, "the rendition has not begun yet")


def _listed(playlist: Playlist, asked: _Query) -> bool:
    """Whether what the request waits for is there. Raises: _BadRequestError: too far ahead."""
    if asked.msn < 0:
        return True
    listed = playlist.has(asked.msn, asked.part)
    if listed is None:
        msn, part = playlist.last
        raise _BadRequestError(f"_HLS_msn={asked.msn} is too far ahead of {msn}, part {part}")
    return listed


@lru_cache(maxsize=_QUERIES_REMEMBERED)
def _parse(query: str) -> _Query:
    """The delivery directives in a query; what is not ours is ignored.

    Raises: _BadRequestError when one of ours is malformed, doubled, or makes no sense.
    """
    if not query:
        return _Query()
    found: dict[str, str] = {}
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        if name in ("_HLS_msn", "_HLS_part", "_HLS_skip", "audio"):
            if name in found:
                raise _BadRequestError(f"{name} is given twice")
            found[name] = value
    for name in ("_HLS_msn", "_HLS_part"):
        if name in found and not _NUMBER.fullmatch(found[name]):
            raise _BadRequestError(f"{name} is not a number without sign and leading zeros")
    if "_HLS_part" in found and "_HLS_msn" not in found:
        raise _BadRequestError("_HLS_part without _HLS_msn")
    skip = found.get("_HLS_skip", "")
    if skip not in ("", "YES", "v2"):
        raise _BadRequestError("_HLS_skip is neither YES nor v2")
    audio: multivariant.Audio = ""
    match found.get("audio", ""):
        case "opus":
            audio = "opus"
        case "aac":
            audio = "aac"
        case "":
            pass
        case _:
            raise _BadRequestError("audio is neither opus nor aac")
    part = found.get("_HLS_part")
    msn = int(found.get("_HLS_msn", -1))
    return _Query(msn, None if part is None else int(part), bool(skip), audio)


class _Place(NamedTuple):
    """Bytes of a file."""

    file: str
    spans: tuple[tuple[int, int], ...]
    """Offset and size of each piece, in order."""


class _Stream:
    """One stream's journal as far as it was read. Owns the descriptor of the journal."""

    def __init__(self, stream: str, folder: Path) -> None:
        self.stream = stream
        self.book = Book()
        self.hot: dict[tuple[str, str], Reply] = {}
        self.life = 0
        """Tells this stream from a former one of the same name."""
        self._folder = folder
        self._journal = os.open(folder / "journal", os.O_RDONLY | os.O_CLOEXEC)
        self._at = 0

    def close(self) -> None:
        os.close(self._journal)

    def replaced(self) -> bool:
        return os.fstat(self._journal).st_nlink == 0

    def read(self) -> bool:
        """Applies what the journal gained. Raises: ValueError when it is damaged."""
        grown = False
        while os.fstat(self._journal).st_size > self._at:
            data = os.pread(self._journal, _READ_BYTES, self._at)
            found, used = records.parse(data)
            if not used:
                break
            for record in found:
                self.book.apply(record)
            self.life = self.book.head.origin_ns if self.book.head else 0
            self._at += used
            grown = True
        if grown:
            self.hot.clear()
        return grown

    def wait(self, now: float, late: Reply) -> Wait:
        head = self.book.head
        assert head is not None, "a stream without a head is not kept"
        return Wait(self.stream, now + WAIT_TARGETS * head.target_seconds, late)

    def keep(self, path: str, query: str, reply: Reply) -> Reply:
        if len(self.hot) < _HOT_MAX and len(query) < 128:
            self.hot[path, query] = reply
        return reply

    def init(self, shelved: Shelved, number: int) -> _Place | None:
        init = shelved.inits.get(number)
        return None if init is None else _Place(f"init.{number}.mp4", ((0, init.size),))

    def segment(self, shelved: Shelved, msn: int) -> _Place | None:
        segment = shelved.segments.get(msn)
        if segment is None or not segment.complete or not segment.size:
            return None
        spans = tuple((part.offset, part.size) for part in segment.parts if not part.gap)
        return _Place(f"s{msn}.m4s", spans)

    def part(self, shelved: Shelved, msn: int, index: int) -> _Place | None:
        segment = shelved.segments.get(msn)
        if segment is None or index >= len(segment.parts) or segment.parts[index].gap:
            return None
        part = segment.parts[index]
        return _Place(f"s{msn}.m4s", ((part.offset, part.size),))

    def load(self, rendition: str, place: _Place | None) -> bytes | None:
        """The bytes, or None when they are not there (any more)."""
        if place is None:
            return None
        try:
            file = os.open(self._folder / rendition / place.file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            pieces = [os.pread(file, size, offset) for offset, size in place.spans]
        finally:
            os.close(file)
        if any(len(piece) != size for piece, (_, size) in zip(pieces, place.spans, strict=True)):
            return None
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class _Cache:
    """The most recently used answers, bounded by what they may hold (`_cost`)."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self.bytes = 0
        self._replies: OrderedDict[tuple[str, int, str], Reply] = OrderedDict()

    def get(self, key: tuple[str, int, str]) -> Reply | None:
        reply = self._replies.get(key)
        if reply is not None:
            self._replies.move_to_end(key)
        return reply

    def put(self, key: tuple[str, int, str], reply: Reply) -> None:
        if _cost(reply) > self._bytes_max:
            return
        self._replies[key] = reply
        self.bytes += _cost(reply)
        while self.bytes > self._bytes_max:
            _, old = self._replies.popitem(last=False)
            self.bytes -= _cost(old)


def _cost(reply: Reply) -> int:
    """Bytes: the body, the copy of it that a small one's wire holds, and what is around them."""
    return 2 * len(reply.body) + _AROUND_BYTES

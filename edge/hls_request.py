"""An HLS request as it was sent, read once and remembered: whose place, what is wanted there.

Players repeat themselves. Without a key in the path all that play alike send the same bytes, so a
whole head is remembered. With one (`~key`, or `_link`) every player's heads differ, but a head is
then made of three pieces that return: the player's place, what all players want at that moment, and
the player's header fields. Each piece is read as strictly as `edge/http_head.py` reads the whole;
whatever looks unusual is left to it.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple
from urllib.parse import unquote

from edge.hls_audience import RENDITIONS
from edge.http_head import Fields, Head, parse, read_block, refuse_ambiguous
from edge.play_links import LINK
from edge.problems import Refusal

METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
PREFIX: Final = "/hls/"

_REMEMBERED: Final = 4_096
_REMEMBERED_PLACES: Final = 16_384
"""As many as a worker has players with keys or links of their own."""
_REMEMBERED_BYTES_MAX: Final = 2_048
_GET: Final = b"GET /hls/"
_OWN_PLACE: Final = (b"GET /hls/~", b"GET /hls/_")
_STREAM: Final = "[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
_PATH: Final = "[A-Za-z0-9._/-]{1,128}"
_TARGET: Final = re.compile(
    rf"/hls/(?:(?:~|%7[Ee])([A-Za-z0-9._~+=%-]{{1,1024}})/|_({LINK})/)?({_STREAM})/({_PATH})"
)
_PLACE: Final = re.compile(rf"GET /hls/(?:~([A-Za-z0-9._~+=-]{{1,1024}})|_({LINK}))/({_STREAM})")
_WANTED: Final = re.compile(rf'/({_PATH})(?:\?([!"$-~]*))? HTTP/1\.1')


class Place(NamedTuple):
    """A stream, and the key or link in the path that opens it, or empty."""

    stream: str
    key: str
    link: str


class Wanted(NamedTuple):
    """What is asked for in a stream."""

    path: str
    query: str
    rendition: str
    """Whose playlist it is, or empty."""
    blocking: bool
    """Whether it is asked for by who asks for every part."""


class Request(NamedTuple):
    """One HLS request, read."""

    method: str
    place: Place
    wanted: Wanted
    keep_alive: bool
    fields: Fields
    plain: bool
    """GET of the whole, on a connection that stays: answered with bytes that are ready."""

    @property
    def range(self) -> str:
        """The Range field where it counts, else empty."""
        return self.fields.range if self.method == "GET" and not self.fields.if_range else ""


def is_hls(head: Head) -> bool:
    """Whether a request is answered here; by its target's own bytes, nothing decoded."""
    return head.target.startswith(PREFIX) and head.method in METHODS


def read_target(target: str, *, method: str, keep_alive: bool, fields: Fields) -> Request:
    """The HLS request in a request target. Raises: Refusal (404)."""
    place, wanted = _read(target)
    return _request(method, place, wanted, fields, keep_alive=keep_alive)


def read_whole(data: bytes) -> Request | None:
    """The request that these bytes are; None when they are anything but one well-formed GET, or
    when they are unusual: they must then be read by `edge/http_head.py`, which says what is wrong.
    """
    if len(data) > _REMEMBERED_BYTES_MAX or not data.startswith(_GET):
        return None
    if data.startswith(_OWN_PLACE):
        return _read_pieces(data)
    return _remembered_whole(data)


def unreadable(head: Head) -> Request:
    """A request whose target says nothing, to refuse it in the way it was sent."""
    nothing = Wanted("", "", "", blocking=False)
    return Request(
        head.method, Place("", "", ""), nothing, head.keep_alive, head.fields, plain=False
    )


def _request(
    method: str, place: Place, wanted: Wanted, fields: Fields, *, keep_alive: bool
) -> Request:
    ranged = bool(fields.range) and not fields.if_range
    plain = method == "GET" and keep_alive and not ranged
    return Request(method, place, wanted, keep_alive, fields, plain)


def _read_whole(data: bytes) -> Request | None:
    if data.find(b"\r\n\r\n") != len(data) - 4:
        return None
    try:
        head = parse(data)
        if not is_hls(head) or head.fields.body:
            return None
        return read_target(
            head.target, method=head.method, keep_alive=head.keep_alive, fields=head.fields
        )
    except Refusal:
        return None


def _read_pieces(data: bytes) -> Request | None:
    """A GET with a key or a link in the path, over HTTP/1.1."""
    end = data.find(b"\r\n")
    at = data.find(b"/", data.find(b"/", 10) + 1, end)
    if at < 0 or not data.endswith(b"\r\n\r\n"):
        return None
    place, wanted = _remembered_place(data[:at]), _remembered_wanted(data[at:end])
    if place is None or wanted is None:
        return None
    try:
        fields = read_block(data[end + 2 : -2])  # an empty line within is refused: it is not one
    except Refusal:
        return None
    if fields.body:
        return None
    keep_alive = "close" not in fields.connection
    plain = keep_alive and (not fields.range or fields.if_range)
    return Request("GET", place, wanted, keep_alive, fields, plain)


def _read_place(piece: bytes) -> Place | None:
    match = _PLACE.fullmatch(piece.decode("latin-1"))
    return None if match is None else Place(match[3], match[1] or "", match[2] or "")


def _read_wanted(piece: bytes) -> Wanted | None:
    match = _WANTED.fullmatch(piece.decode("latin-1"))
    if match is None:
        return None
    try:
        refuse_ambiguous("/" + match[1])
    except Refusal:
        return None
    return _wanted(match[1], match[2] or "")


@lru_cache(maxsize=_REMEMBERED)
def _read(target: str) -> tuple[Place, Wanted]:
    path, _, query = target.partition("?")
    match = _TARGET.fullmatch(path)
    if match is None:
        raise Refusal(404, "there is no such HLS resource", code="hls.unknown")
    key, link, stream, rest = match.groups()
    if key and "%" in key:
        key = unquote(key)
    return Place(stream, key or "", link or ""), _wanted(rest, query)


def _wanted(path: str, query: str) -> Wanted:
    return Wanted(path, query, RENDITIONS.get(path, ""), "_HLS_part=" in query)


_remembered_whole = lru_cache(maxsize=_REMEMBERED)(_read_whole)
_remembered_place = lru_cache(maxsize=_REMEMBERED_PLACES)(_read_place)
_remembered_wanted = lru_cache(maxsize=_REMEMBERED)(_read_wanted)

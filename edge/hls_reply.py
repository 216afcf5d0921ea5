"""An HLS answer as HTTP/1.1 bytes: the head around what the shelf gave, ranges, HEAD, CORS.

What the shelf says may be kept is kept by all (`public`) only when whoever asks a cache may have it
(`edge/access.py`, `Pass.shared`); else by the one who asked alone (`private`). docs/cdn.md has the
table. Heads of equal shape are made once and remembered; only the date and the body are put to
them; a whole answer is kept ready for as long as its date holds. What is written is the same on
every way a request can come in (`edge/hls_server.py`).
"""

import re
from functools import lru_cache
from http import HTTPStatus
from typing import Final

from edge.problems import Refusal
from media.hls.shelf import Reply, Wire

Bytes = bytes | memoryview

JOINED_BYTES_MAX: Final = 16_384
"""Longest body that is kept a second time, behind its head."""

_RANGE: Final = re.compile(r"bytes=(?:(\d{1,18})-(\d{0,18})|-(\d{1,18}))", re.ASCII)
_MEDIA: Final = (b"video/", b"audio/")
_EVERY_ANSWER: Final = (
    (b"Access-Control-Allow-Origin", b"*"),
    (b"Access-Control-Expose-Headers", b"Age, Content-Length, Content-Range, Date, Retry-After"),
    (b"Timing-Allow-Origin", b"*"),
    (b"Cross-Origin-Resource-Policy", b"cross-origin"),
    (b"X-Content-Type-Options", b"nosniff"),
)
PREFLIGHT: Final = (
    (b"Access-Control-Allow-Methods", b"GET, HEAD, OPTIONS"),
    (b"Access-Control-Allow-Headers", b"Authorization, Range"),
    (b"Access-Control-Max-Age", b"86400"),
    (b"Allow", b"GET, HEAD, OPTIONS"),
)

Headers = tuple[tuple[bytes, bytes], ...]


class Slice:
    """Part of a reply's body, as a Range asked for."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, body: Bytes, headers: Headers) -> None:
        self.status = status
        self.body = body
        self.headers = headers


@lru_cache(maxsize=1_024)
def _head(
    status: int, content_type: bytes, cache_control: bytes, headers: Headers, length: int
) -> bytes:
    lines = [
        b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode()),
        *((b"Content-Type: " + content_type,) if content_type else ()),
        *((b"Content-Length: %d" % length,) if status != 204 else ()),
        b"Cache-Control: " + cache_control,
        *(name + b": " + value for name, value in (*headers, *_EVERY_ANSWER)),
        b"Date: ",
    ]
    return b"\r\n".join(lines)


def head(
    reply: Reply, *, range: str, keep_alive: bool, date: bytes, shared: bool
) -> tuple[bytes, Bytes]:
    """Head and body of the response. Raises: Refusal (416) when the range lies outside.

    shared: whether a cache may keep it for others.
    """
    status, body, headers = chosen(reply, range)
    kept = reply.cache_control if shared else _for_one(reply.cache_control)
    start = _head(status, reply.content_type, kept, headers, len(body))
    end = b"\r\n\r\n" if keep_alive else b"\r\nConnection: close\r\n\r\n"
    return start + date + end, body


def ready(reply: Reply, date: bytes, *, shared: bool) -> Wire:
    """The whole reply for a connection that stays: first bytes, and the rest that would cost too
    much to join to them. It is kept with the reply, to be sent for as long as this date is it."""
    start, body = head(reply, range="", keep_alive=True, date=date, shared=shared)
    joined = len(body) <= JOINED_BYTES_MAX
    made = (date, start + body, b"") if joined else (date, start, reply.body)
    if shared:
        reply.wire_shared = made
    else:
        reply.wire_own = made
    return made


def fields(reply: Reply, headers: Headers, *, shared: bool) -> Headers:
    """All header fields but the length and the date, for who writes heads in another way."""
    typed = ((b"Content-Type", reply.content_type),) if reply.content_type else ()
    kept = reply.cache_control if shared else _for_one(reply.cache_control)
    return (*typed, (b"Cache-Control", kept), *headers, *_EVERY_ANSWER)


@lru_cache(maxsize=64)
def _for_one(cache_control: bytes) -> bytes:
    return cache_control.replace(b"public", b"private")


def chosen(reply: Reply, range: str) -> tuple[int, Bytes, Headers]:
    """Status, body and further header fields: the whole reply, or the part that a range names.

    Raises: Refusal (416) when the range lies outside.
    """
    part = _sliced(reply, range) if range else None
    if part is not None:
        return part.status, part.body, part.headers
    headers = reply.headers
    if reply.status == 200 and reply.content_type.startswith(_MEDIA):
        headers = (*headers, (b"Accept-Ranges", b"bytes"))
    return reply.status, reply.body, headers


def _sliced(reply: Reply, range: str) -> Slice | None:
    """The part that a single byte range names; None: the whole (other units, several ranges)."""
    if reply.status != 200 or not reply.content_type.startswith(_MEDIA):
        return None
    match = _RANGE.fullmatch(range)
    if match is None:
        return None
    size = len(reply.body)
    if match[3] is not None:
        first, last = max(0, size - int(match[3])), size - 1
    else:
        first = int(match[1])
        last = min(int(match[2]), size - 1) if match[2] else size - 1
        if match[2] and int(match[2]) < first:
            return None
    if first >= size or match[3] == "0" or last < first:
        raise Refusal(
            416,
            "the range lies outside the file",
            code="http.range",
            headers={"Content-Range": f"bytes */{size}"},
        )
    described = b"bytes %d-%d/%d" % (first, last, size)
    body = memoryview(reply.body)[first : last + 1]
    headers = (*reply.headers, (b"Accept-Ranges", b"bytes"), (b"Content-Range", described))
    return Slice(206, body, headers)

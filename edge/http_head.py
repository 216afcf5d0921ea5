"""The head of an HTTP/1 request, read strictly (RFC 9112), for the front and the HLS protocol.

What two parsers could read differently is refused, not repaired: bare CR or LF, folded lines, space
before a colon, two lengths, a length beside chunks, dot segments, encoded slashes. So whoever is
asked first (the front, aiohttp, a proxy before us) sees the same request as who answers. No body is
read here.

The fields of a connection's requests rarely change: the block after the request line is parsed once
and remembered by its bytes (bounded), and so is the request line, which many players share.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

from edge.problems import Refusal

HEAD_BYTES_MAX: Final = 16_384
"""Longest head in bytes, request line and all fields."""
TARGET_BYTES_MAX: Final = 8_000
"""Longest request target in bytes (RFC 9112 asks for at least 8,000)."""
FIELDS_MAX: Final = 100
"""Most header fields in a request."""
_REMEMBERED_BLOCKS: Final = 4_096
_REMEMBERED_BYTES_MAX: Final = 2_048

_TOKEN: Final = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]"
_LINE: Final = re.compile(
    rb"(" + _TOKEN + rb"{1,32}) (/[!$&-;=@-Z_a-z~]*(?:%[0-9A-Fa-f]{2}[!$&-;=@-Z_a-z~]*)*"
    rb"(?:\?[!\"$-~]*)?)"
    rb" HTTP/1\.([01])"
)
_TARGET: Final = re.compile(
    r"/[!$&-;=@-Z_a-z~]*(?:%[0-9A-Fa-f]{2}[!$&-;=@-Z_a-z~]*)*(?:\?[!\"$-~]*)?"
)
_BLOCK: Final = re.compile(rb"(?:" + _TOKEN + rb"+:[\t -~\x80-\xff]*\r\n)*")
_FIELD: Final = re.compile(rb"([^:\r\n]+):[\t ]*([^\r\n]*?)[\t ]*\r\n")
_HOST: Final = re.compile(r"(?:[A-Za-z0-9._~%!$&'()*+,;=-]*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_AMBIGUOUS: Final = re.compile(r"(?:^|/)(?:\.|%2e){1,2}(?:/|$)|^//|%2f|%5c|%00", re.IGNORECASE)
FORWARDING: Final = frozenset(
    {"forwarded", "x-real-ip", "via", "true-client-ip", "cf-connecting-ip", "x-client-ip"}
)
"""Fields in which whoever forwards says for whom, beside `x-forwarded-*`; in lower case."""
_ONCE: Final = frozenset(
    {
        "host",
        "content-length",
        "transfer-encoding",
        "content-type",
        "authorization",
        "origin",
        "range",
        "if-match",
    }
)


@dataclass(frozen=True, slots=True)
class Fields:
    """What our own protocols need of the header fields; one object for all equal ones."""

    host: str
    authorization: str = field(default="", repr=False)
    cookie: str = field(default="", repr=False)
    origin: str = ""
    range: str = ""
    if_range: bool = False
    user_agent: str = ""
    connection: frozenset[str] = frozenset()
    forwarded: bool = False
    forwarded_for: str = ""
    """X-Forwarded-For as it came: believed from trusted proxies alone (`edge/admission.py`)."""
    body: bool = False
    """Whether a body follows the head."""


class Head(NamedTuple):
    """A request's head. `target` is in origin form, exactly as it was sent."""

    method: str
    target: str
    keep_alive: bool
    fields: Fields

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


def parse(head: bytes) -> Head:
    """Reads a whole head, up to and with its empty line.

    Raises: Refusal (400, 414, 431 or 505) when anything in it is not as RFC 9112 has it.
    """
    end = head.find(b"\r\n")
    line = head[:end]
    # What is asked of anything but HLS is asked by one client once.
    again = line.startswith(b"GET /hls/") and len(line) <= _REMEMBERED_BYTES_MAX
    method, path, http_1_1 = _remembered_line(line) if again else _read_line(line)
    block = head[end + 2 : -2]
    fields = read_block(block)
    if http_1_1:
        keep_alive = "close" not in fields.connection
    else:
        keep_alive = "keep-alive" in fields.connection
        if fields.body and b"transfer-encoding" in block.lower():
            raise _bad("Transfer-Encoding in an HTTP/1.0 request")
    return Head(method, path, keep_alive, fields)


def read_block(block: bytes) -> Fields:
    """The header fields, each line with its end. Equal blocks give one object. Raises: Refusal."""
    return _remembered(block) if len(block) <= _REMEMBERED_BYTES_MAX else _read_fields(block)


def pairs_of(block: bytes) -> list[tuple[bytes, bytes]]:
    """Names and values of header fields, each line with its end, known to be well-formed."""
    return _FIELD.findall(block)


def refuse_ambiguous(target: str) -> None:
    """Raises Refusal (400) when the path of a target may be read in two ways."""
    if _AMBIGUOUS.search(target.partition("?")[0]):
        raise _bad("the path has dot segments, empty first segments or encoded slashes")


def check_target(target: str) -> None:
    """Raises Refusal (400, 414) when a request line of ours could not have this target."""
    if len(target) > TARGET_BYTES_MAX:
        raise Refusal(414, "the request target is too long", code="http.target_too_long")
    if not _TARGET.fullmatch(target):
        raise _bad("the target is not a path and a query, percent-encoded")
    refuse_ambiguous(target)


def fields_of(pairs: Iterable[tuple[str, str]]) -> Fields:
    """The fields of a request that another parser has read. Raises: Refusal (400, 431)."""
    found: dict[str, str] = {}
    forwarded = False
    count = 0
    for spelled, value in pairs:
        name = spelled.lower()
        count += 1
        if name in found:
            if name in _ONCE:
                raise _bad(f"{spelled} is given twice")
            found[name] = (
                f"{found[name]}, {value}" if name != "cookie" else f"{found[name]}; {value}"
            )
            continue
        found[name] = value
        forwarded = forwarded or name in FORWARDING or name.startswith("x-forwarded")
    if count > FIELDS_MAX:
        raise Refusal(431, f"more than {FIELDS_MAX} header fields", code="http.too_many_fields")
    return Fields(
        host=_host(found),
        authorization=found.get("authorization", ""),
        cookie=found.get("cookie", ""),
        origin=found.get("origin", ""),
        range=found.get("range", ""),
        if_range="if-range" in found,
        user_agent=found.get("user-agent", ""),
        connection=frozenset(
            option.strip().lower() for option in found.get("connection", "").split(",")
        ),
        forwarded=forwarded,
        forwarded_for=found.get("x-forwarded-for", ""),
        body=_has_body(found),
    )


def _host(found: dict[str, str]) -> str:
    host = found.get("host")
    if host is None:
        raise _bad("Host is missing")
    if not _HOST.fullmatch(host):
        raise _bad("Host is not a host and port")
    return host


def _has_body(found: dict[str, str]) -> bool:
    length = found.get("content-length")
    coding = found.get("transfer-encoding")
    if length is not None and coding is not None:
        raise _bad("Content-Length beside Transfer-Encoding")
    if coding is not None:
        if coding.lower() != "chunked":
            raise _bad("Transfer-Encoding is not chunked")
        return True
    if length is None:
        return False
    if not (length.isascii() and length.isdigit() and len(length) <= 18):
        raise _bad("Content-Length is not a number")
    return int(length) > 0


def _read_fields(block: bytes) -> Fields:
    if not _BLOCK.fullmatch(block):
        raise _bad("a header line is not 'name: value' ended by CR LF")
    return fields_of(
        (name.decode("ascii"), value.decode("latin-1")) for name, value in pairs_of(block)
    )


def _read_line(line: bytes) -> tuple[str, str, bool]:
    """Method, target, and whether the version is 1.1."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise _bad_request_line(line)
    method, target, minor = match.groups()
    if len(target) > TARGET_BYTES_MAX:
        raise Refusal(414, "the request target is too long", code="http.target_too_long")
    path = target.decode("ascii")
    refuse_ambiguous(path)
    return method.decode("ascii"), path, minor == b"1"


_remembered = lru_cache(maxsize=_REMEMBERED_BLOCKS)(_read_fields)
_remembered_line = lru_cache(maxsize=_REMEMBERED_BLOCKS)(_read_line)


def _bad_request_line(line: bytes) -> Refusal:
    if re.search(rb" HTTP/[0-9]\.[0-9]$", line) and not re.search(rb" HTTP/1\.[01]$", line):
        return Refusal(505, "HTTP/1.1 and HTTP/1.0 are spoken here", code="http.version")
    return _bad("the request line is not 'METHOD /target HTTP/1.1'")


def _bad(message: str) -> Refusal:
    return Refusal(400, message, code="http.malformed")

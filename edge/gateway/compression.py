"""Compresses answers: br, zstd or gzip, whichever the client likes best (RFC 9110, section 12.5.3).

Left as they are: short ones, media types that are compressed already, what has an encoding, says
`no-transform`, is a part (206), or is a stream of events, whose pieces must not wait for others.
"""

import zlib
from functools import lru_cache
from typing import Final, Literal, Protocol

import brotli
import zstandard

from edge.gateway.fields import Pairs, first, joined, without

Coding = Literal["br", "zstd", "gzip", "identity"]

BYTES_MIN: Final = 1_024
"""Shorter answers are sent as they are."""
INLINE_BYTES_MAX: Final = 65_536
"""Longer ones are compressed in a thread."""
_PREFERENCE: Final[tuple[Coding, ...]] = ("br", "zstd", "gzip")
_BROTLI_QUALITY: Final = 4
_ZSTD_LEVEL: Final = 3
_GZIP_LEVEL: Final = 5
_TYPES: Final = frozenset(
    {
        "application/javascript",
        "application/json",
        "application/xml",
        "application/wasm",
        "application/x-ndjson",
        "application/yaml",
        "image/svg+xml",
    }
)


class Encoder(Protocol):
    """Compresses a stream piece by piece."""

    def piece(self, data: bytes) -> bytes: ...

    def end(self) -> bytes: ...


@lru_cache(maxsize=1_024)
def choose(accept_encoding: str) -> Coding:
    """The coding for a request's Accept-Encoding."""
    weights = _weights(accept_encoding)
    anything = weights.get("*", 0.0)
    best: Coding = "identity"
    best_weight = 0.0
    for coding in _PREFERENCE:
        weight = weights.get(coding, anything)
        if weight > best_weight:
            best, best_weight = coding, weight
    if weights.get("identity", 0.0) > best_weight:
        return "identity"
    return best


def _weights(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for item in text.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    weight = float(value)
                except ValueError:
                    weight = 0.0
        if name:
            found[{"x-gzip": "gzip"}.get(name, name)] = weight if 0 <= weight <= 1 else 0.0
    return found


def may_compress(status: int, headers: Pairs) -> bool:
    """Whether an answer with these fields gains by it; its length is not looked at."""
    if status < 200 or status in {204, 206, 304} or first(headers, "content-encoding"):
        return False
    if "no-transform" in joined(headers, "cache-control").lower():
        return False
    kind = first(headers, "content-type").partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        return False
    return kind.startswith("text/") or kind in _TYPES or kind.endswith(("+json", "+xml"))


def described(headers: Pairs, coding: Coding) -> Pairs:
    """The fields of the compressed answer: its ETag is weak, since the bytes differ."""
    kept = without(headers, "content-length", "accept-ranges", "etag", "content-encoding", "vary")
    tag = first(headers, "etag")
    if tag:
        weak = tag if tag.startswith("W/") or coding == "identity" else f"W/{tag}"
        kept.append(("etag", weak))
    kept.append(("vary", varied(headers)))
    if coding != "identity":
        kept.append(("content-encoding", coding))
    return kept


def varied(headers: Pairs) -> str:
    """Vary with Accept-Encoding in it."""
    vary = joined(headers, "vary")
    names = {name.strip().lower() for name in vary.split(",")}
    if names & {"*", "accept-encoding"}:
        return vary
    return f"{vary}, Accept-Encoding" if vary else "Accept-Encoding"


def compress(body: bytes, coding: Coding) -> bytes:
    """The whole body. Cost: 10 to 30 µs a kilobyte."""
    encoder = encoder_of(coding)
    return encoder.piece(body) + encoder.end()


def encoder_of(coding: Coding) -> Encoder:
    """A new encoder; `coding` is not identity."""
    if coding == "br":
        return _Brotli()
    if coding == "zstd":
        return _Zstandard()
    assert coding == "gzip", coding
    return _Gzip()


class _Brotli:
    def __init__(self) -> None:
        self._real = brotli.Compressor(quality=_BROTLI_QUALITY)

    def piece(self, data: bytes) -> bytes:
        made: bytes = self._real.process(data)
        return made

    def end(self) -> bytes:
        made: bytes = self._real.finish()
        return made


class _Zstandard:
    def __init__(self) -> None:
        self._real = zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compressobj()

    def piece(self, data: bytes) -> bytes:
        return self._real.compress(data)

    def end(self) -> bytes:
        return self._real.flush()


class _Gzip:
    def __init__(self) -> None:
        self._real = zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)

    def piece(self, data: bytes) -> bytes:
        return self._real.compress(data)

    def end(self) -> bytes:
        return self._real.flush()

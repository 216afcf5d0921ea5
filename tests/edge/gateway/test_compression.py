"""Which coding a client gets, what is left alone, and that every coding is what it says."""

import gzip
import io

import brotli
import pytest
import zstandard

from edge.gateway.compression import choose, compress, described, encoder_of, may_compress

BODY = b'{"name": "a guest", "seats": 2}' * 500


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [
        ("", "identity"),
        ("gzip", "gzip"),
        ("GZIP", "gzip"),
        ("x-gzip", "gzip"),
        ("gzip, deflate, br, zstd", "br"),
        ("gzip, zstd", "zstd"),
        ("gzip;q=1.0, br;q=0.5", "gzip"),
        ("br;q=0, zstd;q=0, *", "gzip"),
        ("*", "br"),
        ("*;q=0", "identity"),
        ("identity", "identity"),
        ("identity;q=1, gzip;q=0.5", "identity"),
        ("gzip;q=0", "identity"),
        ("gzip;q=x", "identity"),
        ("gzip;q=7", "identity"),
        ("deflate", "identity"),
        (", ,gzip ; q=0.8 ,", "gzip"),
    ],
)
def test_the_coding_a_client_likes_best(accepted: str, coding: str) -> None:
    assert choose(accepted) == coding


def _opened(coding: str, data: bytes) -> bytes:
    if coding == "br":
        opened: bytes = brotli.decompress(data)
        return opened
    if coding == "zstd":
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
    return gzip.decompress(data)


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip"])
def test_what_is_compressed_can_be_opened_whole_and_in_pieces(coding: str) -> None:
    whole = compress(BODY, coding)  # type: ignore[arg-type]
    assert len(whole) < len(BODY) / 5
    assert _opened(coding, whole) == BODY
    encoder = encoder_of(coding)  # type: ignore[arg-type]
    pieces = [encoder.piece(BODY[at : at + 999]) for at in range(0, len(BODY), 999)]
    assert _opened(coding, b"".join(pieces) + encoder.end()) == BODY


JSON = ("content-type", "application/json; charset=utf-8")


@pytest.mark.parametrize(
    ("status", "headers", "may"),
    [
        (200, [JSON], True),
        (404, [("content-type", "application/problem+json")], True),
        (200, [("content-type", "text/html")], True),
        (200, [("content-type", "image/svg+xml")], True),
        (200, [("content-type", "image/png")], False),
        (200, [("content-type", "video/mp4")], False),
        (200, [("content-type", "text/event-stream")], False),
        (200, [], False),
        (206, [JSON], False),
        (304, [JSON], False),
        (200, [JSON, ("content-encoding", "gzip")], False),
        (200, [JSON, ("cache-control", "public, no-transform")], False),
    ],
)
def test_what_gains_by_it(status: int, headers: list[tuple[str, str]], may: bool) -> None:
    assert may_compress(status, headers) is may


def test_the_fields_tell_of_it() -> None:
    before = [JSON, ("etag", '"7"'), ("vary", "Origin"), ("content-length", "9")]
    assert described(before, "br") == [
        JSON,
        ("etag", 'W/"7"'),
        ("vary", "Origin, Accept-Encoding"),
        ("content-encoding", "br"),
    ]
    assert described(before, "identity") == [
        JSON,
        ("etag", '"7"'),
        ("vary", "Origin, Accept-Encoding"),
    ]
    assert ("vary", "*") in described([("vary", "*")], "br")

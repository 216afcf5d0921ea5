"""Heads are read strictly: what two parsers could read differently is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.http_head import fields_of, parse, refuse_ambiguous
from edge.problems import Refusal


def head(*lines: str, target: str = "/hls/demo/index.m3u8") -> bytes:
    return "\r\n".join([f"GET {target} HTTP/1.1", *lines, "", ""]).encode("latin-1")


def test_a_plain_request_is_read() -> None:
    read = parse(head("Host: localhost:8080", "User-Agent: x", "Range: bytes=0-1"))
    assert (read.method, read.path, read.query) == ("GET", "/hls/demo/index.m3u8", "")
    assert read.fields.host == "localhost:8080"
    assert read.fields.range == "bytes=0-1"
    assert read.keep_alive
    assert not read.fields.body


@pytest.mark.parametrize(
    ("lines", "keep_alive"),
    [
        (["Host: a", "Connection: close"], False),
        (["Host: a", "Connection: Keep-Alive, Close"], False),
        (["Host: a", "Connection: keep-alive"], True),
    ],
)
def test_connection_options(lines: list[str], keep_alive: bool) -> None:
    assert parse(head(*lines)).keep_alive is keep_alive


def test_http_1_0_closes_unless_asked_otherwise() -> None:
    assert not parse(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n").keep_alive
    assert parse(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").keep_alive


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\nY: 2\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\rX: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX\x80: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: \xb2\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
            b"Transfer-Encoding: identity\r\n\r\n"
        ),
        b"GET / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nauthorization: Bearer b\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
        b" GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / http/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.10\r\nHost: a\r\n\r\n",
        b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xc3\xa4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%4 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a/. HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a/%2e%2E/b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a/.%2e/b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET //a/b HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /hls%2fdemo HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /hls%5cdemo HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /hls/%00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
def test_what_is_ambiguous_is_refused(data: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        parse(data)
    assert refused.value.status == 400


def test_other_versions_are_refused() -> None:
    with pytest.raises(Refusal) as refused:
        parse(b"GET / HTTP/2.0\r\nHost: a\r\n\r\n")
    assert refused.value.status == 505


def test_limits() -> None:
    with pytest.raises(Refusal) as refused:
        parse(head("Host: a", target="/" + "x" * 8_000))
    assert refused.value.status == 414
    with pytest.raises(Refusal) as refused:
        parse(head("Host: a", *(f"X-{number}: 1" for number in range(100))))
    assert refused.value.status == 431


@pytest.mark.parametrize(
    "name",
    [
        "Forwarded",
        "X-Forwarded-For",
        "x-forwarded-proto",
        "X-Real-IP",
        "Via",
        "True-Client-IP",
        "CF-Connecting-IP",
    ],
)
def test_forwarding_is_noticed(name: str) -> None:
    assert parse(head("Host: a", f"{name}: 1.2.3.4")).fields.forwarded
    assert fields_of([("Host", "a"), (name, "x")]).forwarded


def test_equal_fields_are_one_object() -> None:
    lines = ("Host: a", "User-Agent: x")
    first = parse(head(*lines, target="/hls/a/index.m3u8"))
    second = parse(head(*lines, target="/hls/b/index.m3u8"))
    assert first.fields is second.fields
    assert parse(head(*lines, "Authorization: Bearer x")).fields is not first.fields


def test_dots_that_are_no_segments_stay() -> None:
    refuse_ambiguous("/assets/a..b/..c/d...js?x=/../")


@given(st.binary(max_size=200))
def test_garbage_is_read_or_refused(data: bytes) -> None:
    status = 200
    try:
        parse(data + b"\r\n\r\n")
    except Refusal as refused:
        status = refused.status
    assert status in (200, 400, 414, 431, 505)

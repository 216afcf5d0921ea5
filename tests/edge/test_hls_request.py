"""Requests that are read in remembered pieces are read as the strict parser reads the whole."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.hls_request import Request, is_hls, read_target, read_whole
from edge.http_head import parse
from edge.problems import Refusal

FIELDS = b"Host: localhost\r\nUser-Agent: x\r\n"
LINK = b"_a-1900000000-AAAAAAAAAAAAAAAAAAAAAA"


def get(target: bytes, fields: bytes = FIELDS, method: bytes = b"GET") -> bytes:
    return method + b" " + target + b" HTTP/1.1\r\n" + fields + b"\r\n"


def slowly(data: bytes) -> Request | None:
    """What the strict parser says; None when it is no request for HLS, or refused."""
    try:
        head = parse(data)
        if not is_hls(head) or head.fields.body:
            return None
        return read_target(
            head.target, method=head.method, keep_alive=head.keep_alive, fields=head.fields
        )
    except Refusal:
        return None


@pytest.mark.parametrize("place", [b"", b"~key-1/", b"~k=/", LINK + b"/"])
@pytest.mark.parametrize(
    "rest",
    [b"v/live.m3u8?_HLS_msn=3&_HLS_part=1&_HLS_skip=YES", b"v/s3.1.m4s", b"index.m3u8?", b"x"],
)
@pytest.mark.parametrize(
    "fields", [FIELDS, FIELDS + b"Range: bytes=0-1\r\n", FIELDS + b"Connection: close\r\n"]
)
def test_what_players_send_is_read_at_once(place: bytes, rest: bytes, fields: bytes) -> None:
    data = get(b"/hls/" + place + b"demo/" + rest, fields)
    read = read_whole(data)
    assert read is not None
    assert read == slowly(data)
    again = read_whole(bytes(bytearray(data)))
    assert again is not None
    assert again.place is read.place
    assert again.fields is read.fields


@pytest.mark.parametrize(
    "data",
    [
        get(b"/hls/demo/x") + get(b"/hls/demo/x"),
        get(b"/hls/~key/demo/x") + get(b"/hls/~key/demo/x"),
        get(b"/hls/~key/demo/x") + b"\r\n",
        get(b"/hls/demo/x")[:-1],
        get(b"/hls/~key/demo/x")[:-1],
        get(b"/hls/~key/demo/x")[:-2],
        get(b"/hls/~key/demo/../x"),
        get(b"/hls/~key/demo/./x"),
        get(b"/hls/~key/demo//../x"),
        get(b"/hls/~k%65y/demo/x"),
        get(b"/hls/~key/demo?/x"),
        get(b"/hls/~key/demo/x#y"),
        get(b"/hls/~key/demo/x y"),
        get(b"/hls/~key/demo/x?\x80"),
        get(b"/hls/~key/demo/x", b""),
        get(b"/hls/~key/demo/x", FIELDS + FIELDS),
        get(b"/hls/~key/demo/x", FIELDS + b"Content-Length: 3\r\n"),
        get(b"/hls/~key/demo/x", FIELDS + b"X : y\r\n"),
        get(b"/hls/~key/demo/x", FIELDS + b"X: y\nZ: z\r\n"),
        get(b"/hls/~key/demo/x").replace(b"HTTP/1.1", b"HTTP/1.0"),
        get(b"/hls/~key/demo/x").replace(b"\r\nHost", b"\nHost"),
        get(b"/hls/~key/demo/x", method=b"POST"),
        get(b"/hls/~key/demo/" + b"x" * 129),
        get(b"/hls/~key/demo/x", FIELDS + b"X: " + b"y" * 3_000 + b"\r\n"),
        get(b"/livez"),
    ],
)
def test_what_is_unusual_is_left_to_the_strict_parser(data: bytes) -> None:
    assert read_whole(data) is None


PIECES = [
    *(b"GET ", b"HEAD ", b"/hls/", b"~", b"_", b"key", LINK, b"/", b"demo", b"..", b".", b"%2e"),
    *(b"%2F", b"v/live.m3u8", b"s1.m4s", b"?", b"_HLS_msn=1", b"&", b" ", b" HTTP/1.1\r\n"),
    *(b" HTTP/1.0\r\n", b"Host: a\r\n", b"Range: bytes=0-1\r\n", b"If-Range: x\r\n"),
    *(b"Connection: close\r\n", b"Content-Length: 1\r\n", b"\r\n", b"\n", b"\r", b"\x00", b":"),
]


@given(st.lists(st.sampled_from(PIECES), max_size=16))
def test_no_reading_differs_from_the_strict_one(pieces: list[bytes]) -> None:
    check(b"".join(pieces))


@given(st.lists(st.sampled_from(PIECES), max_size=6), st.lists(st.sampled_from(PIECES), max_size=3))
def test_nor_does_that_of_nearly_right_ones(inside: list[bytes], after: list[bytes]) -> None:
    target = b"/hls/~key/demo/" + b"".join(inside)
    check(get(target, b"Host: a\r\n" + b"".join(after)))
    check(get(b"/hls/" + b"".join(inside) + b"/demo/x", b"Host: a\r\n" + b"".join(after)))


def check(data: bytes) -> None:
    read = read_whole(data)
    if read is not None:
        assert data.find(b"\r\n\r\n") == len(data) - 4
        assert read == slowly(data)

"""Trickle fragments: what is read, and that garbage is refused with its line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.problems import Refusal
from edge.trickle import parse

SOUND = (
    b"a=group:BUNDLE 0 1\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n"
    b"m=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\n"
    b"a=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\r\n"
    b"a=candidate:2 1 udp 1 3b1f.local 9 typ host\r\na=end-of-candidates\r\n"
)


def test_a_fragment_is_read() -> None:
    fragment = parse(SOUND)
    assert (fragment.ufrag, fragment.mids, fragment.candidates) == ("EsAw", ("0",), 2)
    assert parse(SOUND.replace(b"\r\n", b"\n")) == fragment
    repeated = SOUND + b"m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:1\r\na=ice-ufrag:EsAw\r\n"
    assert parse(repeated).mids == ("0", "1")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        (b"EsAw", b"E", 2),
        (b"EsAw", b"Es Aw", 2),
        (b"P2uYro0UCOQ4zxjKXaWCBui1", b"short", 3),
        (b"m=audio 9", b"m=audio x", 4),
        (b"a=mid:0", b"a=mid:", 5),
        (b"typ host generation 0", b"", 6),
        (b"a=end-of", b"end-of", 8),
        (b"a=mid:0", b"a=mid:\x00", 5),
    ],
)
def test_faults_name_their_line(old: bytes, new: bytes, line: int) -> None:
    with pytest.raises(Refusal) as refused:
        parse(SOUND.replace(old, new))
    assert refused.value.status == 400
    assert refused.value.fields["line"] == line


def test_two_credentials_and_too_many_lines_are_refused() -> None:
    for body in (SOUND + b"a=ice-ufrag:other\r\n", b"a=mid:0\r\n", SOUND + b"a=x\r\n" * 600):
        with pytest.raises(Refusal):
            parse(body)


@given(st.lists(st.sampled_from([*SOUND.split(b"\r\n"), b"a=", b"\xff", b"m=", b"a=ice-pwd:"])))
def test_mixtures_are_read_or_refused(lines: list[bytes]) -> None:
    try:
        fragment = parse(b"\r\n".join(lines))
    except Refusal as refused:
        status = refused.status
    else:
        status = 200 if fragment.ufrag == "EsAw" else 0
    assert status in (200, 400)

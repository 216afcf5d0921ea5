"""Every parser of the Python side under mutated input: it answers, or refuses as it says it does,
and what it lets through is what it promises. At least 85 % of its lines are reached."""

import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import msgspec
import pytest

from edge import hls_request, http_head, trickle
from edge.http_head import FIELDS_MAX, TARGET_BYTES_MAX
from edge.problems import Refusal
from media import messages
from media.hls import book, records, shelf
from media.hls.book import Book
from media.messages import Grant, Publish, Viewers, encode
from ops.errors import Rejected
from tests.end_to_end.figures import say
from tests.hostile.lines import traced
from tests.hostile.mutations import mutate, mutate_text

INPUTS_SHORT, INPUTS_LONG = 1_500, 100_000
TRACED_MAX = 3_000
"""Inputs that run with their lines counted; the rest runs at full speed."""
SHARE_MIN = 0.85

HEADS = (
    (
        "GET /hls/demo/v/live.m3u8?_HLS_msn=7&_HLS_part=2 HTTP/1.1\nHost: localhost:8080\n"
        "User-Agent: a browser\nAccept: */*\nRange: bytes=0-99\nConnection: keep-alive\n"
        "Cookie: a=b\nOrigin: https://example.org\nX-Forwarded-For: 192.0.2.1"
    ),
    (
        "POST /whip/show HTTP/1.1\nHost: [2001:db8::1]:8080\nContent-Type: application/sdp\n"
        "Content-Length: 1203\nAuthorization: Bearer abcdefgh\nAccept: a, b\nAccept: c"
    ),
    "PATCH /whip/show/x HTTP/1.0\nHost: a.example\nTransfer-Encoding: chunked\nIf-Match: *",
    (
        "DELETE /whep/%7E/../x HTTP/1.0\nHost: a\nConnection: keep-alive\nContent-Length: 0\n"
        "Cookie: 1\nCookie: 2\nContent-Length: 0"
    ),
)
FRAGMENTS = (
    (
        "a=ice-ufrag:EsAw\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\nm=audio 9 UDP/TLS/RTP/SAVPF 0\n"
        "a=mid:0\na=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0\n"
        "a=end-of-candidates"
    ),
    (
        "a=ice-options:trickle\na=group:BUNDLE 0 1\nm=video 9 RTP/AVP 96\na=mid:v\n"
        "a=ice-ufrag:abcd\na=ice-pwd:aaaaaaaaaaaaaaaaaaaaaa\nc=IN IP4 0.0.0.0"
    ),
)
TARGETS = (
    "/hls/demo/v/live.m3u8?_HLS_msn=7&_HLS_part=2&_HLS_skip=YES",
    "/hls/~a-key%20here/demo/index.m3u8?audio=opus",
    "/hls/demo/v/s17.3.m4s",
    "/hls/demo/a/live.m3u8?_HLS_msn=0&_HLS_msn=1&audio=aac",
    "/hls/%7Ekey/demo/index.m3u8?_HLS_part=1&_HLS_skip=v2&audio=mp3",
)


def _journal() -> bytes:
    head = records.Head(records.FORMAT, "s", 2, 210, 2_000, 60, 1_700_000_000_000_000_000, 5)
    lines: list[records.Record] = [head]
    for name, timescale in (("v", 90_000), ("a", 48_000), ("c", 48_000)):
        lines.append(records.Rendition(name, timescale, 5, 0))
        lines.append(records.Init(name, 1, 700, "avc1.42c01f", 640, 360))
        for msn in (5, 6):
            for index in range(3):
                start = ((msn - 5) * 3 + index) * timescale // 5
                at_ms = 1_700_000_000_000 + start * 1_000 // timescale
                lines.append(
                    records.Part(
                        name, msn, index, start, timescale // 5, at_ms, index * 900, 900, 6,
                        independent=index == 0, last=index == 2 and msn == 5,
                        discontinuity=index == 0 and msn == 6, gap=index == 1,
                    )
                )  # fmt: skip
        lines.append(records.End(name, 6))
        lines.append(records.Trim(name, 6))
    return records.text([*lines, records.Stop("c"), records.Over()])


def _head(data: bytes) -> None:
    head = http_head.parse(data)
    assert len(head.target) <= TARGET_BYTES_MAX
    assert head.target.startswith("/")
    assert not re.search(r"[\x00-\x20\x7f]", head.target)
    assert not re.search(r"(^|/)\.\.?(/|$)", head.path)
    assert data.count(b"\n") == data.count(b"\r\n") <= FIELDS_MAX + 2
    assert (head.path, head.query) == (head.target.partition("?")[::2])


def _fragment(data: bytes) -> None:
    fragment = trickle.parse(data)
    assert 4 <= len(fragment.ufrag) <= 256
    assert 22 <= len(fragment.pwd) <= 256
    assert fragment.candidates <= trickle.LINES_MAX


def _target(data: bytes) -> None:
    target = data.rstrip(b"\r\n").decode("latin-1")
    place, wanted = hls_request._read(target)
    assert shelf.STREAM_NAME.fullmatch(place.stream)
    assert wanted.query in target
    assert not wanted.path.startswith("..")
    asked = shelf._parse(wanted.query)
    assert asked.msn >= -1
    assert asked.part is None or (asked.part >= 0 and asked.msn >= 0)


def _line(data: bytes) -> None:
    found, used = records.parse(data)
    assert used <= len(data)
    read = Book()
    for record in found:
        read.apply(record)
    for name in read.renditions:
        read.reports(name)


def _message(data: bytes) -> None:
    for decode in (messages.decode_from_edge, messages.decode_from_media):
        try:
            decode(data)
        except (msgspec.ValidationError, msgspec.DecodeError):
            continue


def _of_head(chance: random.Random) -> bytes:
    text = mutate_text(chance, chance.choice(HEADS), HEADS)
    whole = text if chance.random() < 0.2 else text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    if chance.random() < 0.02:
        whole = b"GET /" + b"a" * (TARGET_BYTES_MAX + 9) + b" HTTP/1.1\r\nHost: a\r\n"
    return whole + b"\r\n"


def _of_line(chance: random.Random) -> bytes:
    journal = _JOURNAL
    if chance.random() < 0.5:
        return mutate(chance, journal, (journal,))
    return mutate_text(chance, journal.decode(), (journal.decode(),)).replace(b"\r\n", b"\n")


_JOURNAL = _journal()
_MESSAGES = [
    encode(Publish(7, "show", "v=0\r\n", Grant("studio", ("publish",)))),
    encode(Viewers({"show": 3.5, "other": 1.0})),
]


@dataclass(frozen=True)
class Campaign:
    """One parser: where its lines are, what it is fed, and how it may refuse."""

    module: ModuleType
    functions: frozenset[str]
    make: Callable[[random.Random], bytes]
    run: Callable[[bytes], None]
    refuses: tuple[type[Exception], ...]


def _texts(texts: tuple[str, ...]) -> Callable[[random.Random], bytes]:
    return lambda chance: mutate_text(chance, chance.choice(texts), texts)


CAMPAIGNS = {
    "http heads": Campaign(http_head, frozenset(), _of_head, _head, (Refusal,)),
    "trickle fragments": Campaign(trickle, frozenset(), _texts(FRAGMENTS), _fragment, (Refusal,)),
    "hls targets": Campaign(
        shelf,
        frozenset({"_parse"}),
        lambda chance: mutate(
            chance, chance.choice(TARGETS).encode(), [t.encode() for t in TARGETS]
        ),
        _target,
        (Refusal, Rejected, shelf._BadRequestError),
    ),
    "journals": Campaign(book, frozenset(), _of_line, _line, (ValueError,)),
    "journal lines": Campaign(records, frozenset({"parse"}), _of_line, _line, (ValueError,)),
    "messages": Campaign(
        messages,
        frozenset({"decode_from_edge", "decode_from_media"}),
        lambda chance: mutate(chance, chance.choice(_MESSAGES), _MESSAGES),
        _message,
        (),
    ),
}


def _feed(campaign: Campaign, rounds: range, seed: int) -> int:
    """Runs inputs; how many were let through. A failing one is named by its seed and in hex."""
    sound = 0
    for number in rounds:
        data = campaign.make(random.Random(seed + number))
        try:
            campaign.run(data)
        except campaign.refuses:
            continue
        except BaseException:
            say("failing input", seed=seed + number, hex=data.hex())
            raise
        sound += 1
    return sound


@pytest.mark.parametrize("name", CAMPAIGNS)
def test_a_parser_under_mutated_input(name: str, prove: bool, seed: int) -> None:
    campaign: Any = CAMPAIGNS[name]
    inputs = INPUTS_LONG if prove else INPUTS_SHORT
    measured = min(inputs, TRACED_MAX)
    with traced(campaign.module, campaign.functions) as lines:
        sound = _feed(campaign, range(measured), seed)
    sound += _feed(campaign, range(measured, inputs), seed)
    say(
        f"fuzz {name}",
        inputs=inputs,
        let_through=sound,
        lines=len(lines.all),
        reached_percent=100 * lines.share,
    )
    assert sound > inputs // 200, "hardly anything is let through: the mutations are too harsh"
    assert lines.share >= SHARE_MIN, lines.missed

"""The table of docs/cdn.md is what is answered: each row, to a cache and to one viewer."""

import re
from pathlib import Path

import pytest

from edge.access import Access, AuthSettings, Caller, KeySettings
from edge.hls_reply import head
from edge.http_head import fields_of
from edge.play_links import LinkSecret, PlayLinks
from edge.problems import refusal, wire
from media.hls.shelf import Reply, Wait
from media.hls.writer import HlsSettings
from ops.errors import Rejected
from tests.cdn.asking import INIT
from tests.media.hls.material import pictures, show, sound
from tests.media.hls.stage import Stage

PAGE = Path(__file__).parents[2] / "docs" / "cdn.md"
NOW = 1_800_000_000
SECRETS = (LinkSecret("k1", "s" * 32),)


def table() -> dict[str, tuple[int, str]]:
    """Status and Cache-Control by what is answered, as the document says."""
    rows = re.findall(r"^\| ([^|]+) \| (\d{3}) \| `([^`]+)` \|", PAGE.read_text(), re.MULTILINE)
    return {name: (int(status), kept) for name, status, kept in rows}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    """A stream with an open segment of some parts."""
    stage = Stage(tmp_path_factory.mktemp("stage"), HlsSettings())
    stage.play(show(pictures(), sound(), seconds=25.3))
    assert stage.faults == []
    return stage


def said(stage: Stage, path: str, query: str = "", *, shared: bool, stream: str = "s") -> bytes:
    """The head of an answer; of what waits, the one when nothing came."""
    answer = stage.shelf.answer(stream, path=path, query=query, now=0.0)
    reply: Reply = answer.late if isinstance(answer, Wait) else answer
    return head(reply, range="", keep_alive=True, date=b"", shared=shared)[0]


def refused(*, link: str = "") -> bytes:
    """The answer to who shows nothing, or a link."""
    settings = AuthSettings(
        keys=(KeySettings("viewers", secret="viewers-secret"),), link_secrets=SECRETS
    )
    access = Access(settings, listens=("0.0.0.0:80",), clock=lambda: NOW)
    with pytest.raises(Rejected) as error:
        access.decide(Caller(fields_of([("host", "a")]), "hls", link=link), "read", "s")
    return wire(refusal(error.value), close=False)


def answers(stage: Stage, *, shared: bool) -> dict[str, bytes]:
    """What is answered, by the names of the table."""
    video = stage.there("v")
    msn, part = video.last
    segment = video.segments[-2]
    old = PlayLinks(SECRETS, clock=lambda: NOW).make("s", until_unix=NOW - 1).split("/")[2][1:]
    live = "v/live.m3u8"
    init = INIT.search(stage.fetch(live))
    assert init is not None
    asked = {
        "multivariant playlist": ("index.m3u8", ""),
        "media playlist, plain": (live, ""),
        "media playlist, the newest part or segment asked for": (
            live,
            f"_HLS_msn={msn}&_HLS_part={part}",
        ),
        "media playlist, an older part asked for": (live, f"_HLS_msn={msn}&_HLS_part={part - 1}"),
        "part": (f"v/{segment.parts[0].uri}", ""),
        "segment": (f"v/{segment.uri}", ""),
        "init section": (f"v/{init[1].decode()}", ""),
        "no such stream or file": ("v/s1.m4s", ""),
        "a hinted part that did not come": (f"v/s{msn}.{part + 1}.m4s", ""),
        "asked too far ahead, or wrongly": (live, f"_HLS_msn={msn + 2}"),
        "nothing came in three target durations": (live, f"_HLS_msn={msn}&_HLS_part={part + 1}"),
    }
    return {
        **{name: said(stage, *wanted, shared=shared) for name, wanted in asked.items()},
        "no key": refused(),
        "a link that is not good": refused(link=f"{old}x"),
        "a link that has expired": refused(link=old),
    }


@pytest.mark.parametrize("shared", [True, False], ids=["a cache", "one viewer"])
def test_the_table_is_what_is_answered(stage: Stage, *, shared: bool) -> None:
    told = {}
    for name, answer in answers(stage, shared=shared).items():
        kept = re.search(rb"\r\nCache-Control: ([^\r]+)", answer)
        assert kept is not None, name
        assert answer.count(b"\r\nCache-Control: ") == 1, name
        assert b"\r\nVary:" not in answer, name
        told[name] = (int(answer[9:12]), kept[1].decode())
    expected = table()
    if not shared:
        expected = {
            name: (status, kept.replace("public", "private"))
            for name, (status, kept) in expected.items()
        }
    assert told == expected


def test_the_target_duration_that_the_table_speaks_of(stage: Stage) -> None:
    assert HlsSettings().segment_ms == 2_000
    assert "#EXT-X-TARGETDURATION:2\n" in stage.text("v/live.m3u8")

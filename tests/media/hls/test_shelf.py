"""What the shelf answers: waiting, refusing, caching, for every shape of request."""

import json
from pathlib import Path

import m3u8
import psutil
import pytest

from edge.hls_reply import ready
from media.hls.shelf import Reply, Shelf, Wait
from media.hls.writer import HlsSettings
from tests.media.hls.material import pictures, show, sound
from tests.media.hls.stage import Stage


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """25.2 s of a stream: twelve segments and six parts, the last ones pending."""
    stage = Stage(tmp_path, HlsSettings())
    stage.play(show(pictures(), sound(), seconds=25.3))
    assert stage.faults == []
    return stage


def get(stage: Stage, path: str, query: str = "") -> Reply:
    answer = stage.shelf.answer("s", path=path, query=query, now=100.0)
    assert isinstance(answer, Reply), answer
    return answer


def waits(stage: Stage, path: str, query: str = "") -> Wait:
    answer = stage.shelf.answer("s", path=path, query=query, now=100.0)
    assert isinstance(answer, Wait), answer
    return answer


def test_plain_playlist(stage: Stage) -> None:
    reply = get(stage, "v/live.m3u8")
    assert (reply.status, reply.content_type) == (200, b"application/vnd.apple.mpegurl")
    assert reply.cache_control == b"public, max-age=1"
    assert get(stage, "v/live.m3u8") is reply


def test_blocking(stage: Stage) -> None:
    msn, part = stage.there("v").last
    here = get(stage, "v/live.m3u8", f"_HLS_msn={msn}&_HLS_part={part}")
    assert here.cache_control == b"public, max-age=6"
    for query in (
        f"_HLS_msn={msn}&_HLS_part={part + 1}",
        f"_HLS_msn={msn}",
        f"_HLS_msn={msn + 1}&_HLS_part=0",
        f"_HLS_msn={msn + 1}",
    ):
        wait = waits(stage, "v/live.m3u8", query)
        assert wait.until == 106.0
        assert wait.late.status == 503
        assert wait.late.cache_control == b"no-store"
    assert get(stage, "v/live.m3u8", f"_HLS_msn={msn - 1}").status == 200


def test_only_the_newest_state_is_kept_for_long(stage: Stage) -> None:
    msn, part = stage.there("v").last
    assert part > 0
    for query in (
        f"_HLS_msn={msn}&_HLS_part={part - 1}",
        f"_HLS_msn={msn - 1}",
        f"_HLS_msn={msn - 1}&_HLS_part=0",
        f"_HLS_msn={msn - 3}&_HLS_part=999",
        "_HLS_skip=YES",
    ):
        assert get(stage, "v/live.m3u8", query).cache_control == b"public, max-age=1", query
    newest = f"_HLS_msn={msn}&_HLS_part={part}"
    for query in (newest, f"{newest}&_HLS_skip=YES"):
        assert get(stage, "v/live.m3u8", query).cache_control == b"public, max-age=6", query


def test_part_beyond_the_end_of_a_segment_is_the_next_ones_first(stage: Stage) -> None:
    msn, _ = stage.there("v").last
    assert get(stage, "v/live.m3u8", f"_HLS_msn={msn - 1}&_HLS_part=10").status == 200
    assert get(stage, "v/live.m3u8", f"_HLS_msn={msn - 2}&_HLS_part=999").status == 200


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("_HLS_msn={three}", "too far ahead"),
        ("_HLS_msn={open}&_HLS_part=400", "too far ahead"),
        ("_HLS_part=1", "without _HLS_msn"),
        ("_HLS_msn=01", "_HLS_msn"),
        ("_HLS_msn=+1", "_HLS_msn"),
        ("_HLS_msn=-1", "_HLS_msn"),
        ("_HLS_msn=", "_HLS_msn"),
        ("_HLS_msn=1&_HLS_msn=1", "twice"),
        ("_HLS_msn=1&_HLS_part=1.0", "_HLS_part"),
        ("_HLS_msn=1&_HLS_part=٣", "_HLS_part"),
        ("_HLS_skip=no", "_HLS_skip"),
        ("audio=mp3", "audio"),
    ],
)
def test_bad_requests(stage: Stage, query: str, reason: str) -> None:
    msn, _ = stage.there("v").last
    reply = get(stage, "v/live.m3u8", query.format(open=msn, three=msn + 2))
    assert (reply.status, reply.cache_control) == (400, b"no-store")
    problem = json.loads(reply.body)
    assert problem["status"] == 400
    assert reason in problem["detail"]


@pytest.mark.parametrize("query", ["token=x", "_HLS_push=1", "a&b=c&=", "_HLS_MSN=4"])
def test_unknown_parameters_are_ignored(stage: Stage, query: str) -> None:
    assert get(stage, "v/live.m3u8", query).body == get(stage, "v/live.m3u8").body


@pytest.mark.parametrize(
    "path",
    [
        "", "v", "v/", "x/live.m3u8", "live.m3u8", "v/live.m3u8/", "v/../a/live.m3u8",
        "v//live.m3u8", "v/s1.m4s", "v/s01.m4s", "v/s1.1.1.m4s", "v/init.0.mp4", "v/journal",
        "journal", "v/s-1.m4s", "v/s99999999999999999999.m4s", "c/init.1.mp4", "index.m3u8.bak",
    ],
)  # fmt: skip
def test_what_is_not_there(stage: Stage, path: str) -> None:
    reply = get(stage, path)
    assert (reply.status, reply.cache_control) == (404, b"public, max-age=1")


@pytest.mark.parametrize("stream", ["t", "..", "", "s/..", "." * 3, "s\0", "a" * 65])
def test_streams_that_are_not_there(stage: Stage, stream: str) -> None:
    answer = stage.shelf.answer(stream, path="index.m3u8", query="", now=0.0)
    assert isinstance(answer, Reply)
    assert answer.status == 404
    assert not stage.shelf.refresh(stream)


def test_media(stage: Stage) -> None:
    video = stage.there("v")
    whole = get(stage, f"v/{video.segments[-2].uri}")
    assert (whole.content_type, whole.cache_control) == (
        b"video/mp4",
        b"public, max-age=3600, immutable",
    )
    parts = [get(stage, f"v/{part.uri}").body for part in video.segments[-2].parts]
    assert b"".join(map(bytes, parts)) == whole.body
    assert get(stage, f"a/{stage.there('a').segments[0].uri}").content_type == b"audio/mp4"


def test_hinted_part_is_waited_for(stage: Stage) -> None:
    video = stage.there("v")
    (hint,) = video.hints
    wait = waits(stage, f"v/{hint['URI']}")
    assert wait.late.status == 404
    msn, part = video.next
    assert get(stage, f"v/s{msn}.{part + 1}.m4s").status == 404
    stage.play(
        [unit for unit in show(pictures(), sound(), seconds=26) if unit.at_ns > stage.now * 1e9]
    )
    assert get(stage, f"v/{hint['URI']}").status == 200


def test_end_answers_everybody(stage: Stage) -> None:
    msn, part = stage.there("v").last
    waits(stage, "v/live.m3u8", f"_HLS_msn={msn}&_HLS_part={part + 3}")
    stage.writer.end()
    stage.look()
    reply = get(stage, "v/live.m3u8", f"_HLS_msn={msn}&_HLS_part={part + 3}")
    assert bytes(reply.body).endswith(
        b'#EXT-X-ENDLIST\n#EXT-X-RENDITION-REPORT:URI="../a/live.m3u8",LAST-MSN=%d,LAST-PART=%d\n'
        % stage.there("a").last
    )


def test_two_shelves_say_the_same(stage: Stage, tmp_path: Path) -> None:
    fresh = Shelf(tmp_path)
    for path in ("index.m3u8", "v/live.m3u8", "a/live.m3u8"):
        for query in ("", "_HLS_skip=YES"):
            answer = fresh.answer("s", path=path, query=query, now=0.0)
            assert isinstance(answer, Reply)
            assert bytes(answer.body).decode() == stage.text(path, query)
    assert fresh.streams() == ["s"]
    fresh.close()


def test_another_parser_reads_it(stage: Stage) -> None:
    index = m3u8.loads(stage.text("index.m3u8"))
    codecs = [variant.stream_info.codecs for variant in index.playlists]
    assert [codec.split(",")[1] for codec in codecs] == ["opus", "mp4a.40.2"]
    assert {media.group_id for media in index.media} == {"opus", "aac"}
    for playlist in index.playlists:
        assert playlist.stream_info.resolution == (320, 180)
        assert playlist.stream_info.bandwidth >= playlist.stream_info.average_bandwidth > 1000
    media = m3u8.loads(stage.text("v/live.m3u8"))
    assert len(media.segments) == 13
    assert media.preload_hint.uri == stage.there("v").hints[0]["URI"]
    assert media.rendition_reports[0].last_msn == stage.there("a").last[0]
    delta = m3u8.loads(stage.text("v/live.m3u8", "_HLS_skip=v2"))
    assert delta.skip.skipped_segments == 6


def test_choice_of_audio(stage: Stage) -> None:
    assert "mp4a" not in stage.text("index.m3u8", "audio=opus")
    assert "opus" not in stage.text("index.m3u8", "audio=aac")


def test_aac_is_demanded(stage: Stage) -> None:
    stage.shelf.demanded()
    wait = waits(stage, "c/live.m3u8")
    assert wait.late.status == 503
    assert stage.shelf.demanded() == {"s"}
    assert stage.shelf.demanded() == set()


def test_cache_is_bounded(stage: Stage, tmp_path: Path) -> None:
    small = Shelf(tmp_path, cache_bytes_max=40_000)
    for segment in stage.there("v").segments[:-1]:
        answer = small.answer("s", path=f"v/{segment.uri}", query="", now=0.0)
        assert isinstance(answer, Reply)
        assert answer.status == 200
    assert 0 < small.cached_bytes <= 40_000
    small.close()


def test_what_the_cache_counts_covers_the_wires_it_keeps(stage: Stage) -> None:
    """A small answer's wire is another copy of its body."""
    held = 0
    for segment in stage.there("a").segments[:-1]:
        answer = get(stage, f"a/{segment.uri}")
        _, start, rest = ready(answer, b"now", shared=False)
        assert get(stage, f"a/{segment.uri}") is answer
        held += len(answer.body) + len(start) + (0 if rest is answer.body else len(rest))
    assert 0 < held <= stage.shelf.cached_bytes


def test_removed_stream_is_gone(stage: Stage) -> None:
    stage.writer.remove()
    assert stage.shelf.refresh("s")
    assert get(stage, "v/live.m3u8").status == 404


def test_nothing_new_is_nothing(stage: Stage) -> None:
    assert not stage.shelf.refresh("s")
    before = get(stage, "v/live.m3u8")
    assert not stage.shelf.refresh("s")
    assert get(stage, "v/live.m3u8") is before


def test_a_stream_that_has_just_begun(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert get(stage, "index.m3u8").status == 404
    stage.play(show(pictures(), seconds=0.5))
    for path in ("index.m3u8", "v/live.m3u8", "a/live.m3u8"):
        waits(stage, path)
    stage.play([unit for unit in show(pictures(), seconds=3) if unit.at_ns > stage.now * 1e9])
    assert get(stage, "index.m3u8").status == 200
    assert get(stage, "v/live.m3u8").status == 200
    assert get(stage, "a/live.m3u8").status == 404


@pytest.mark.parametrize(
    "damaged",
    [
        '["p","v",7,0,0,18000,17000000000000000400,0,900,6]',
        '["p","v",7,0,0,-1,1700000000000,0,900,6]',
        '["r","v",0,7,0]',
        '["r","v",-9000,7,0]',
    ],
)
def test_a_journal_with_impossible_numbers_is_a_damaged_one(tmp_path: Path, damaged: str) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    head = '["h",1,"s",2,210,2000,60,1700000000000000000,7]'
    begun = '["r","v",90000,7,0]'
    (folder / "journal").write_text(f"{head}\n{begun}\n{damaged}\n")
    shelf = Shelf(tmp_path)
    reply = shelf.answer("s", path="v/live.m3u8", query="", now=0.0)
    assert isinstance(reply, Reply)
    assert reply.status == 404
    shelf.close()


def test_a_stream_that_was_removed_is_forgotten_with_its_descriptor(stage: Stage) -> None:
    assert get(stage, "v/live.m3u8").status == 200
    held = psutil.Process().num_fds()
    stage.shelf.sweep()
    assert psutil.Process().num_fds() == held, "it is still there"
    stage.writer.close()
    written = psutil.Process().num_fds()
    stage.writer.remove()
    stage.shelf.sweep()
    assert psutil.Process().num_fds() == written - 1
    assert get(stage, "v/live.m3u8").status == 404

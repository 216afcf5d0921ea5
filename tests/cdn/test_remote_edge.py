"""The remote edge as documented: links checked there, one name an answer, one fetch for all."""

import concurrent.futures
import gzip
import json

from tests.cdn.asking import INIT, SEGMENT, Answer, ask, hinted
from tests.cdn.conftest import CHIEF, SECRETS_CONF, Origin, link
from tests.cdn.servers import RemoteEdge
from tests.end_to_end.family import wait_until


def together(remote: RemoteEdge, paths: list[str]) -> list[Answer]:
    """All asked at the same time."""
    with concurrent.futures.ThreadPoolExecutor(len(paths)) as pool:
        return list(pool.map(lambda path: ask(remote.url, path), paths))


def newest(remote: RemoteEdge, folder: str) -> tuple[int, int]:
    """A part that is about to come: what is asked by it stays the same for some seconds."""
    msn, _ = hinted(ask(remote.url, f"{folder}/v/live.m3u8").body)
    # One that came with its segment's end would be old at once.
    blocked = ask(remote.url, f"{folder}/v/live.m3u8?_HLS_msn={msn + 1}&_HLS_part=1")
    return hinted(blocked.body)


def test_a_link_plays(remote: RemoteEdge) -> None:
    folder = link()
    index = ask(remote.url, f"{folder}/index.m3u8")
    assert (index.status, index.fields["cache-control"]) == (200, "private, max-age=1")
    assert index.fields["access-control-allow-origin"] == "*"
    assert b"v/live.m3u8" in index.body
    live = ask(remote.url, f"{folder}/v/live.m3u8")
    assert live.fields["content-type"] == "application/vnd.apple.mpegurl"
    init = INIT.search(live.body)
    segment = SEGMENT.findall(live.body)[-1].decode()
    assert init is not None
    for name in (init[1].decode(), f"s{segment}.m4s", f"s{segment}.0.m4s"):
        first, again = (ask(remote.url, f"{folder}/v/{name}") for _ in range(2))
        assert (first.status, again.status) == (200, 200), name
        assert first.fields["cache-control"] == "private, max-age=3600, immutable"
        assert again.fields["x-cache"] == "hit"
        assert "age" in again.fields
        part = ask(remote.url, f"{folder}/v/{name}", Range="bytes=0-9")
        assert (part.status, part.body) == (206, first.body[:10])
    head = ask(remote.url, f"{folder}/v/{init[1].decode()}", method="HEAD")
    assert (head.status, head.body) == (200, b"")


def test_links_are_checked_without_the_origin(origin: Origin, remote: RemoteEdge) -> None:
    good = f"{link()}/v/live.m3u8"
    assert ask(remote.url, good).status == 200
    head, signature = good.split("/")[2].rsplit("-", 1)
    for path, status, code in (
        (good.replace("/demo/", "/other/"), 403, "link.invalid"),
        (good.replace(signature, signature[::-1]), 403, "link.invalid"),
        (good.replace(head, head.replace("_k1-", "_k1-1")), 403, "link.invalid"),
        (good.replace("_k1-", "_k9-"), 403, "link.invalid"),
        (good.replace("_k1-", "_-"), 403, "link.invalid"),
        (f"{link(seconds=-10)}/v/live.m3u8", 410, "link.expired"),
        ("/hls/demo/v/live.m3u8", 404, "hls.unknown"),
        (f"/hls/~{CHIEF}/demo/v/live.m3u8", 404, "hls.unknown"),
        ("/api/v1/streams", 404, "hls.unknown"),
        (good.replace("/v/", "/%2e%2e/"), 403, "link.invalid"),
        (good.replace("/v/live.m3u8", "/../../../livez"), 404, "hls.unknown"),
    ):
        refused = ask(remote.url, path)
        assert refused.status == status, path
        assert "x-cache" not in refused.fields, "Varnish was not asked"
        said = json.loads(refused.body)
        assert (said["status"], said["code"]) == (status, code), path
        assert refused.fields["content-type"] == "application/problem+json"
        assert refused.fields["cache-control"] == "no-store"
        assert refused.fields["access-control-allow-origin"] == "*"
    # What the origin says of the same links is the same.
    assert ask(origin.url, good).status == 200
    assert ask(origin.url, good.replace("/demo/", "/other/")).status == 403
    assert ask(origin.url, f"{link(seconds=-10)}/v/live.m3u8").status == 410


def test_the_last_character_has_one_spelling(origin: Origin, remote: RemoteEdge) -> None:
    """Base64 has idle bits there; a link that was changed is refused at both ends all the same."""
    folder = link()
    last = folder.split("/")[2][-1]
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = letters[letters.index(last) + 1]
    changed = folder.replace(f"{last}/demo", f"{other}/demo")
    assert ask(remote.url, f"{folder}/index.m3u8").status == 200
    assert ask(remote.url, f"{changed}/index.m3u8").status == 403
    assert ask(origin.url, f"{changed}/index.m3u8").status == 403


def test_a_blocked_request_is_fetched_once_and_wakes_all(remote: RemoteEdge) -> None:
    viewers = 20
    folders = [link(seconds=600 + viewer) for viewer in range(viewers)]
    msn, part = hinted(ask(remote.url, f"{folders[0]}/v/live.m3u8").body)
    before = remote.varnish.counter("MAIN.backend_req")
    # Two segments ahead: certainly not there yet.
    live = [f"{folder}/v/live.m3u8?_HLS_msn={msn + 1}&_HLS_part=0" for folder in folders]
    answers = together(remote, live)
    assert {answer.status for answer in answers} == {200}
    assert len({answer.body for answer in answers}) == 1
    assert hinted(answers[0].body) >= (msn + 1, 1)
    assert sum(answer.fields["x-cache"] == "miss" for answer in answers) == 1
    assert remote.varnish.counter("MAIN.backend_req") == before + 1
    msn, part = hinted(answers[0].body)
    parts = together(remote, [f"{folder}/v/s{msn}.{part}.m4s" for folder in folders])
    assert {answer.status for answer in parts} == {200}
    assert len({answer.body for answer in parts}) == 1
    assert remote.varnish.counter("MAIN.backend_req") == before + 2


def test_unknown_queries_do_not_get_past_the_cache(remote: RemoteEdge) -> None:
    folder = link()
    msn, part = newest(remote, folder)
    first = ask(remote.url, f"{folder}/v/live.m3u8?_HLS_msn={msn}&_HLS_part={part}")
    before = remote.varnish.counter("MAIN.backend_req")
    for query in (
        f"_HLS_part={part}&_HLS_msn={msn}",
        f"_HLS_msn={msn}&_HLS_part={part}&token=x",
        f"x=1&_HLS_part={part}&&y&_HLS_msn={msn}&",
        f"_HLS_msn={msn}&_HLS_MSN=4&_HLS_part={part}",
        f"_HLS_part={part}&_hls_skip=YES&_HLS_msn={msn}&_HLS_push=1",
    ):
        again = ask(remote.url, f"{folder}/v/live.m3u8?{query}")
        assert (again.status, again.fields["x-cache"]) == (200, "hit"), query
        assert again.body == first.body
    assert remote.varnish.counter("MAIN.backend_req") == before
    for query in (
        f"_HLS_msn=0{msn}&_HLS_part=0",
        f"_HLS_msn={msn}&_HLS_msn={msn}",
        f"_HLS_msn={msn}&_HLS_part=-1",
        "_HLS_part=1",
        "_HLS_skip=no",
        f"_HLS_msn={'9' * 40}",
    ):
        refused = ask(remote.url, f"{folder}/v/live.m3u8?{query}")
        assert (refused.status, json.loads(refused.body)["code"]) == (400, "hls.query"), query
    assert ask(remote.url, f"{folder}/index.m3u8?audio=flac").status == 400
    aac = ask(remote.url, f"{folder}/index.m3u8?audio=aac&x=1")
    assert b"c/live.m3u8" in aac.body
    assert remote.varnish.counter("MAIN.backend_req") == before + 1
    segment = f"{folder}/v/s{SEGMENT.findall(first.body)[-1].decode()}.m4s"
    assert ask(remote.url, segment).status == 200
    before = remote.varnish.counter("MAIN.backend_req")
    for query in ("?x=1", "?x=2&_HLS_msn=3"):
        assert ask(remote.url, segment + query).status == 200
    assert remote.varnish.counter("MAIN.backend_req") == before


def test_playlists_are_compressed_once(remote: RemoteEdge) -> None:
    folder = link()
    msn, part = newest(remote, folder)
    path = f"{folder}/v/live.m3u8?_HLS_msn={msn}&_HLS_part={part}"
    plain = ask(remote.url, path)
    before = remote.varnish.counter("MAIN.n_gzip")
    packed = [ask(remote.url, path, Accept_Encoding="gzip, br") for _ in range(5)]
    assert remote.varnish.counter("MAIN.n_gzip") == before
    for answer in packed:
        assert answer.fields["content-encoding"] == "gzip"
        assert answer.fields["vary"] == "Accept-Encoding"
        assert int(answer.fields["content-length"]) == len(answer.body) < len(plain.body)
        assert gzip.decompress(answer.body) == plain.body
    assert "content-encoding" not in plain.fields


def test_what_is_refused_for_now_is_not_kept(remote: RemoteEdge) -> None:
    """Too far ahead is 400 now and plays soon after."""
    folder = link()
    msn, _ = hinted(ask(remote.url, f"{folder}/v/live.m3u8").body)
    ahead = f"{folder}/v/live.m3u8?_HLS_msn={msn + 3}&_HLS_part=0"
    refused = ask(remote.url, ahead)
    assert (refused.status, refused.fields["cache-control"]) == (400, "no-store")
    wait_until("it is not too far any more", lambda: ask(remote.url, ahead).status == 200, 15.0)


def test_methods_and_preflight(remote: RemoteEdge) -> None:
    path = f"{link()}/v/live.m3u8"
    asked = ask(remote.url, path, method="OPTIONS", Origin="https://site.example.org")
    assert asked.status == 204
    assert asked.fields["access-control-allow-origin"] == "*"
    assert "Range" in asked.fields["access-control-allow-headers"]
    assert ask(remote.url, path, method="POST").status == 405
    assert ask(remote.url, path, method="DELETE").status == 405


def test_purging_a_stream(remote: RemoteEdge) -> None:
    """`varnishadm ban`, as documented."""
    folder = link()
    path = f"{folder}/v/live.m3u8"
    segment = f"{folder}/v/s{SEGMENT.findall(ask(remote.url, path).body)[-1].decode()}.m4s"
    ask(remote.url, segment)
    assert ask(remote.url, segment).fields["x-cache"] == "hit"
    remote.varnish.admin("ban", "req.url ~ ^/hls/demo/")
    assert ask(remote.url, segment).fields["x-cache"] == "miss"


def test_secrets_can_be_changed(remote: RemoteEdge) -> None:
    """Two secrets hold at once; a link whose secret is gone is refused. Nobody is cut meanwhile."""
    path = f"{link()}/index.m3u8"
    try:
        remote.nginx.write_secrets(f'k2 "{"n" * 40}";\n{SECRETS_CONF}')
        assert ask(remote.url, path).status == 200
        remote.nginx.write_secrets(f'k2 "{"n" * 40}";\n')
        wait_until("the old secret is gone", lambda: ask(remote.url, path).status == 403)
    finally:
        remote.nginx.write_secrets(SECRETS_CONF)
        wait_until("it is back", lambda: ask(remote.url, path).status == 200)

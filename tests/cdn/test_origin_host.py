"""nginx on the origin's host as documented: everything passed on, finished media from its cache."""

import http.client
import json

from tests.cdn.asking import INIT, SEGMENT, ask, hinted
from tests.cdn.conftest import VIEWER, Origin, link
from tests.cdn.servers import Nginx


def test_everything_is_passed_on(in_front: Nginx) -> None:
    assert ask(in_front.url, "/livez").status == 200
    assert b"<title>" in ask(in_front.url, "/").body
    assert ask(in_front.url, "/api/v1/streams").status == 401
    streams = ask(in_front.url, "/api/v1/streams", Authorization=f"Bearer {VIEWER}")
    assert json.loads(streams.body)["streams"][0]["stream"] == "demo"
    keyed = ask(in_front.url, f"/hls/~{VIEWER}/demo/v/live.m3u8")
    assert (keyed.status, keyed.fields["cache-control"]) == (200, "private, max-age=1")
    made = ask(
        in_front.url, "/api/v1/streams/demo/links", method="POST", Authorization=f"Bearer {VIEWER}"
    )
    assert ask(in_front.url, json.loads(made.body)["url"]).status == 200


def test_blocked_requests_and_parts_are_passed_on(in_front: Nginx) -> None:
    folder = link()
    msn, part = hinted(ask(in_front.url, f"{folder}/v/live.m3u8").body)
    query = f"_HLS_msn={msn}&_HLS_part={part}"
    blocked = ask(in_front.url, f"{folder}/v/live.m3u8?{query}")
    assert hinted(blocked.body) > (msn, part)
    part_there = ask(in_front.url, f"{folder}/v/s{msn}.{part}.m4s")
    assert part_there.status == 200
    assert "x-cache" not in part_there.fields


def test_finished_media_is_fetched_once(origin: Origin, in_front: Nginx) -> None:
    folders = [link(seconds=100), link(seconds=200)]
    live = ask(in_front.url, f"{folders[0]}/v/live.m3u8").body
    init = INIT.search(live)
    assert init is not None
    segment = f"s{SEGMENT.findall(live)[-1].decode()}.m4s"
    for name in (segment, init[1].decode()):
        first = ask(in_front.url, f"{folders[0]}/v/{name}")
        again = ask(in_front.url, f"{folders[1]}/v/{name}")
        assert (first.status, again.status) == (200, 200)
        assert first.fields["x-cache"] in ("MISS", "HIT")  # whichever test asked first
        assert again.fields["x-cache"] == "HIT"
        assert again.body == first.body == ask(origin.url, f"{folders[0]}/v/{name}").body
        assert again.fields["cache-control"] == "private, max-age=3600, immutable"


def test_what_is_cached_needs_a_link_all_the_same(in_front: Nginx) -> None:
    """Without a good one the origin is asked, and says why not."""
    folder = link()
    live = ask(in_front.url, f"{folder}/v/live.m3u8").body
    segment = f"v/s{SEGMENT.findall(live)[-1].decode()}.m4s"
    assert ask(in_front.url, f"{folder}/{segment}").status == 200
    for path, status, code in (
        (f"{folder.replace('_k1-', '_k9-')}/{segment}", 403, "link.invalid"),
        (f"{folder.replace('/demo', '/other')}/{segment}", 403, "link.invalid"),
        (f"{folder.replace('_k1-1', '_k1-2')}/{segment}", 403, "link.invalid"),
        (f"{link(seconds=-5)}/{segment}", 410, "link.expired"),
        (f"/hls/demo/{segment}", 401, "auth.missing"),
        (f"/hls/~not-a-key/demo/{segment}", 401, "auth.invalid"),
    ):
        refused = ask(in_front.url, path)
        assert (refused.status, json.loads(refused.body)["code"]) == (status, code), path


def test_events_are_not_held_back(in_front: Nginx) -> None:
    """Server-sent events come as they are sent, not when a buffer is full."""
    connection = http.client.HTTPConnection(in_front.url.removeprefix("http://"), timeout=5)
    connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {VIEWER}"})
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline() == b"event: streams\n"
    connection.close()

"""The remote edge when its origin is in trouble: late, refusing, gone, restarted."""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cdn.asking import ask, hinted
from tests.cdn.conftest import CACHE, SECRETS_CONF, Origin, link
from tests.cdn.fake_origin import FakeOrigin
from tests.cdn.servers import RemoteEdge
from tests.end_to_end.family import wait_until
from tests.end_to_end.figures import say

BACK_SECONDS = 20.0


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeOrigin, RemoteEdge]]:
    """A remote edge before an origin that does as told."""
    folder = tmp_path_factory.mktemp("fake")
    with (
        FakeOrigin() as origin,
        RemoteEdge(folder, origin_port=origin.port, key=CACHE, secrets=SECRETS_CONF) as edge,
    ):
        yield origin, edge


def test_a_503_reaches_all_who_waited_and_is_not_kept(
    fake: tuple[FakeOrigin, RemoteEdge],
) -> None:
    """One request goes to the origin, not one after the other; the next one goes there again."""
    origin, edge = fake
    origin.status, origin.cache_control = 503, "no-store"
    origin.released.clear()
    path = f"{link()}/v/live.m3u8?_HLS_msn=5&_HLS_part=1"
    viewers = 30
    with ThreadPoolExecutor(viewers) as pool:
        waiting = [pool.submit(ask, edge.url, path) for _ in range(viewers)]
        wait_until("the viewers wait", lambda: edge.varnish.counter("MAIN.busy_sleep") >= 29)
        origin.released.set()
        answers = [future.result(10) for future in waiting]
    assert {answer.status for answer in answers} == {503}
    assert {answer.fields["cache-control"] for answer in answers} == {"no-store"}
    assert len(origin.asked) == 1
    origin.status, origin.cache_control = 200, "public, max-age=6"

    took = wait_until("it is asked again", lambda: ask(edge.url, path).status == 200, 5.0)
    say("a 503 was kept", seconds=took)
    assert took < 1.0
    assert len(origin.asked) == 2
    assert origin.keys == {f"Bearer {CACHE}"}


def test_a_cache_without_its_key_shares_nothing(fake: tuple[FakeOrigin, RemoteEdge]) -> None:
    """An origin that calls its answers private is asked for each viewer."""
    origin, edge = fake
    origin.status, origin.cache_control = 200, "private, max-age=3600"
    path = f"{link()}/v/s77.m4s"
    before = len(origin.asked)
    answers = [ask(edge.url, path) for _ in range(3)]
    assert [answer.status for answer in answers] == [200] * 3
    assert {answer.fields["x-cache"] for answer in answers} <= {"miss", "pass"}
    assert len(origin.asked) == before + 3


def test_a_playlist_is_old_only_while_the_origin_is_ill(
    fake: tuple[FakeOrigin, RemoteEdge],
) -> None:
    origin, edge = fake
    origin.status, origin.cache_control = 200, "public, max-age=1"
    path = f"{link()}/a/live.m3u8"
    origin.body = b"#EXTM3U\n#1\n"
    assert ask(edge.url, path).body == b"#EXTM3U\n#1\n"
    origin.body = b"#EXTM3U\n#2\n"
    wait_until("it is out of date", lambda: ask(edge.url, path).body == origin.body, 3.0)
    origin.well = False
    origin.body = b"#EXTM3U\n#3\n"
    try:
        wait_until("it is known to be ill", lambda: "sick" in edge.varnish.admin("backend.list"))
        shown = ask(edge.url, path)
        assert (shown.status, shown.body) == (200, b"#EXTM3U\n#2\n")
        new = ask(edge.url, f"{link()}/a/s8.m4s")
        assert (new.status, json.loads(new.body)["code"]) == (503, "edge.no_origin")
        assert new.fields["retry-after"] == "1"
        assert new.fields["cache-control"] == "no-store"
        assert new.fields["access-control-allow-origin"] == "*"
    finally:
        origin.well = True
    wait_until("it is well", lambda: "sick" not in edge.varnish.admin("backend.list"))
    assert ask(edge.url, path).body == b"#EXTM3U\n#3\n"


def test_viewers_survive_a_restart_of_the_origin(tmp_path: Path, slack: float) -> None:
    """The whole origin is stopped and started: parts come again, and none by an old one's name."""
    path = link()
    with Origin(tmp_path) as origin:
        wait_until("the demo is live", lambda: origin.live("demo"), 30)
        with RemoteEdge(
            tmp_path / "edge", origin_port=origin.port, key=CACHE, secrets=SECRETS_CONF
        ) as edge:
            old = hinted(ask(edge.url, f"{path}/v/live.m3u8").body)
            origin.stop()
            gone = ask(edge.url, f"{path}/v/s{old[0] + 3}.0.m4s")
            assert (gone.status, gone.fields["retry-after"]) == (503, "1")
            origin.start()

            def plays() -> bool:
                live = ask(edge.url, f"{path}/v/live.m3u8")
                return live.status == 200 and hinted(live.body) > old

            took = wait_until("new parts are listed", plays, BACK_SECONDS * slack)
            say("origin restarted, new parts at the edge", seconds=took)
            msn, part = hinted(ask(edge.url, f"{path}/v/live.m3u8").body)
            query = f"_HLS_msn={msn}&_HLS_part={part}"
            assert ask(edge.url, f"{path}/v/live.m3u8?{query}").status == 200
            assert ask(edge.url, f"{path}/v/s{msn}.{part}.m4s").status == 200

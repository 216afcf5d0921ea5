"""Camera to screen by hls.js in Chromium: at the origin, through the remote edge, and through nginx
on the origin's host, at the same time in one page, so that what else the machine does is the same.
"""

import threading
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Page

from benchmarks import results
from benchmarks.results import Row
from tests.cdn.conftest import Origin, link
from tests.cdn.servers import Nginx, RemoteEdge
from tests.end_to_end.browser import BrowserContext, open_page
from tests.end_to_end.conftest import PROBE
from tests.end_to_end.figures import percentile, say

HERE = Path(__file__).parent
HLS_JS = Path(__file__).parents[2] / "web" / "node_modules" / "hls.js" / "dist" / "hls.min.js"
FILES = {
    "/player.html": ("text/html", HERE / "player.html"),
    "/hls.min.js": ("text/javascript", HLS_JS),
}
SETTLE_MS = 6_000
PROVE_SECONDS = 60


class _PlayerPage(BaseHTTPRequestHandler):
    """The page and hls.js, and nothing else. (A page that is not really served from loopback may
    not play from there.)"""

    def do_GET(self) -> None:
        found = FILES.get(self.path)
        if found is None:
            self.send_error(404)
            return
        kind, path = found
        body = path.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def player_url() -> Iterator[str]:
    """Where the players' page is."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _PlayerPage) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/player.html"
        server.shutdown()
        thread.join(10)


def _playing(browser: BrowserContext, address: str, players: dict[str, str]) -> Page:
    """A page on which all players have settled."""
    page = open_page(browser, address).page
    page.evaluate(PROBE)
    for name, url in players.items():
        page.evaluate("([name, url]) => play(name, url)", [name, url])
    for name in players:
        page.wait_for_function(
            "name => players[name].video.currentTime > 1", arg=name, timeout=20_000
        )
    page.wait_for_timeout(SETTLE_MS)
    return page


def _watched(page: Page, players: Iterable[str], seconds: int) -> dict[str, list[float]]:
    """Latencies in ms of the pictures that each player showed from now on."""
    page.evaluate(
        """() => {
          for (const player of Object.values(players)) {
            player.seen.playing = true;
            player.seen.stalls = player.seen.parts = player.seen.segments = 0;
            player.probe = probe.watch(player.video);
          }
        }"""
    )
    page.wait_for_timeout(seconds * 1_000)
    late: dict[str, list[float]] = {}
    for name in players:
        frames = page.evaluate("name => players[name].probe.frames", name)
        seen = page.evaluate("name => players[name].seen", name)
        late[name] = [f["shown"] - f["unixMs"] for f in frames if f["unixMs"]]
        assert len(late[name]) > seconds * 3, f"{name}: {len(late[name])} readable frames"
        say(
            f"camera to screen by hls.js, {name}, {seconds} s",
            frames=len(late[name]),
            p50_ms=percentile(late[name], 0.5),
            p95_ms=percentile(late[name], 0.95),
            stalls=seen["stalls"],
            parts=seen["parts"],
            segments=seen["segments"],
        )
    return late


def _took_parts(page: Page, players: Iterable[str]) -> None:
    """Each player lives on parts by now, and met no error that it could not mend."""
    for name in players:
        page.wait_for_function("name => players[name].seen.parts > 20", arg=name, timeout=20_000)
        seen = page.evaluate("name => players[name].seen", name)
        assert seen["fatal"] == [], (name, seen)


def _noted(late: dict[str, list[float]], seconds: int, head: dict[str, results.Figure]) -> None:
    """The figures among the results."""
    rows = [
        Row(
            bench="cdn.camera_to_screen",
            who=f"hls.js, {name}",
            clients=1,
            unit="picture",
            p50_ms=round(percentile(values, 0.5), 1),
            p95_ms=round(percentile(values, 0.95), 1),
            more={"seconds": seconds},
            note="three players side by side in one page",
        )
        for name, values in late.items()
    ]
    results.append(rows, results.default_path(), head)


def test_hls_js_is_as_near_behind_caches_as_at_the_origin(
    browser: BrowserContext,
    player_url: str,
    origin: Origin,
    remote: RemoteEdge,
    in_front: Nginx,
    *,
    prove: bool,
) -> None:
    """Every one plays by parts; `make prove` holds Varnish at a remote edge to within 10 % of
    direct and nginx on the origin's host to within 25 %. (Three pictures decoded without a GPU
    leave a machine that has other work none to measure with.)
    """
    head = results.origin()
    folder = link()
    players = {
        "direct": f"{origin.url}{folder}/index.m3u8",
        "remote edge": f"{remote.url}{folder}/index.m3u8",
        "nginx in front": f"{in_front.url}{folder}/index.m3u8",
    }
    page = _playing(browser, player_url, players)
    _took_parts(page, players)
    if prove:
        late = _watched(page, players, PROVE_SECONDS)
        _took_parts(page, players)
        _noted(late, PROVE_SECONDS, head)
        p50 = {name: percentile(values, 0.5) for name, values in late.items()}
        assert p50["remote edge"] <= p50["direct"] * 1.10, p50
        assert p50["nginx in front"] <= p50["direct"] * 1.25, p50
    page.close()

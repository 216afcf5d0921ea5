"""Camera to screen on loopback by the clock burnt into the picture, and lip-sync by flash and beep.

The short form plays for half a minute, the long one (`make prove`) for five.
"""

from itertools import pairwise
from typing import Any

from tests.end_to_end.av_offsets import beeps, flashes
from tests.end_to_end.browser import BrowserContext, open_page
from tests.end_to_end.conftest import PROBE
from tests.end_to_end.family import Family, wait_until
from tests.end_to_end.figures import percentile, say

WEBRTC = "video[data-player=webrtc]"
HLS = "video[data-player=hls]"


def _play(browser: BrowserContext, family: Family, mode: str = "both") -> Any:
    wait_until("the demo is live", lambda: family.live("demo"), 20)
    wait_until("HLS has begun", lambda: family.streams()["demo"]["hls"], 20)
    seen = open_page(browser, f"{family.url}/watch/demo?mode={mode}")
    seen.page.evaluate(PROBE)
    for player in (WEBRTC, HLS) if mode == "both" else (f"video[data-player={mode}]",):
        seen.page.wait_for_function(
            "s => document.querySelector(s)?.currentTime > 1",
            arg=player,
            timeout=20_000,
        )
    return seen


def _frames(page: Any, name: str) -> list[dict[str, float]]:
    return list(page.evaluate(f"window.{name}.frames.splice(0)"))


def _camera_to_screen(
    browser: BrowserContext, family: Family, mode: str, seconds: int, *, prove: bool
) -> tuple[list[float], int]:
    """Latency of each picture in ms on a page with one player, and how often that stalled. A
    machine with other work drops pictures, which the short form forgives."""
    seen = _play(browser, family, mode)
    page = seen.page
    page.wait_for_timeout(3_000)
    page.evaluate(
        """mode => {
          const video = document.querySelector(`video[data-player=${mode}]`);
          window.stalls = 0;
          video.addEventListener("waiting", () => window.stalls++);
          window.a = probe.watch(video);
        }""",
        mode,
    )
    page.wait_for_timeout(seconds * 1000)
    frames = [f for f in _frames(page, "a") if f["unixMs"]]
    stalls = int(page.evaluate("window.stalls"))
    wanted = seconds * (10 if prove else 3)
    assert len(frames) > wanted, f"{mode}: {len(frames)} readable frames in {seconds} s"
    late = [f["shown"] - f["unixMs"] for f in frames]
    say(
        f"camera to screen, {mode}, {seconds} s",
        frames=len(frames),
        p50_ms=percentile(late, 0.5),
        p95_ms=percentile(late, 0.95),
        p99_ms=percentile(late, 0.99),
        stalls=stalls,
    )
    assert not seen.errors
    page.close()
    return late, stalls


def test_from_camera_to_screen_by_webrtc(
    browser: BrowserContext, family: Family, *, prove: bool, slack: float
) -> None:
    """WHIP to WHEP p50 <= 120 ms."""
    late, _ = _camera_to_screen(browser, family, "webrtc", 60 if prove else 20, prove=prove)
    assert percentile(late, 0.5) <= 120 * slack


def test_from_camera_to_screen_by_hls(
    browser: BrowserContext, family: Family, *, prove: bool, slack: float
) -> None:
    """WHIP to LL-HLS in hls.js p50 <= 1.5 s, p95 <= 2 s, without a stall."""
    seconds = 300 if prove else 30
    late, stalls = _camera_to_screen(browser, family, "hls", seconds, prove=prove)
    assert percentile(late, 0.5) <= 1500 * slack
    assert percentile(late, 0.95) <= 2000 * slack
    assert stalls == 0 or not prove


def test_both_players_side_by_side(browser: BrowserContext, family: Family) -> None:
    """The front page shows the live stream by both, each playing and saying its latency."""
    wait_until("the demo is live", lambda: family.live("demo"), 20)
    seen = open_page(browser, f"{family.url}/")
    for player in (WEBRTC, HLS):
        seen.page.wait_for_function(
            "s => document.querySelector(s)?.currentTime > 2", arg=player, timeout=20_000
        )
    figures = seen.page.locator(".badge .figure").all_inner_texts()
    say("front page", figures=figures)
    assert len(figures) == 2
    assert all(any(c.isdigit() for c in figure) for figure in figures)
    assert not seen.errors


def test_the_latency_the_page_shows_is_true(
    browser: BrowserContext, family: Family, slack: float
) -> None:
    """What the page says of each player's latency agrees with the burnt-in clock."""
    seen = _play(browser, family)
    page = seen.page
    page.wait_for_timeout(4_000)
    for name, player, off in (("webrtc", WEBRTC, 60), ("hls", HLS, 150)):
        page.evaluate(f"window.p = probe.watch(document.querySelector('{player}'))")
        said: list[float | None] = []
        true: list[float] = []
        while (len(said) < 10 or len(true) < 5) and len(said) < 80:
            page.wait_for_timeout(300)
            said.append(page.evaluate(f"window.nexus.players.{name}.latencyMs"))
            true += [f["shown"] - f["unixMs"] for f in _frames(page, "p") if f["unixMs"]]
        page.evaluate("window.p.stop = true")
        told = percentile([s for s in said if s is not None], 0.5)
        say(f"latency shown, {name}", told_ms=told, true_ms=percentile(true, 0.5))
        assert abs(told - percentile(true, 0.5)) <= off * slack


def _offsets(page: Any, video: str, seconds: int) -> list[float]:
    """Beep after flash in ms, one a second, on the video of a selector."""
    page.evaluate(
        """video => {
          const v = document.querySelector(video);
          window.p = probe.watch(v, {x: 0.762, y: 0.444, w: 0.01, h: 0.017});
          probe.listen(v).then((heard) => { window.heard = heard });
        }""",
        video,
    )
    page.wait_for_timeout(4_000)  # players bring sound and picture together step by step
    page.wait_for_function("v => document.querySelector(v).playbackRate === 1", arg=video)
    page.evaluate("window.p.frames.length = 0")
    page.wait_for_timeout(1000 * seconds)
    beeps = [o["processed"] for o in page.evaluate("window.heard.onsets")]
    flashes = [
        late["shown"]
        for early, late in pairwise(_frames(page, "p"))
        if early["flash"] < 100 <= late["flash"]
    ]
    assert len(flashes) >= seconds // 2, f"{len(flashes)} flashes"
    assert len(beeps) >= seconds // 2, f"{len(beeps)} beeps"
    return [min((b - f for b in beeps), key=abs) for f in flashes]


def test_lips_and_voice_agree_by_webrtc(
    browser: BrowserContext, family: Family, slack: float
) -> None:
    """The flash and the beep that belong together are at most 40 ms apart, median, in Chromium."""
    page = _play(browser, family, "webrtc").page
    middle = percentile(_offsets(page, WEBRTC, 12), 0.5)
    say("lip-sync, webrtc: beep after flash", p50_ms=middle)
    assert abs(middle) <= 40 * slack


def test_lips_and_voice_agree_by_hls(browser: BrowserContext, family: Family) -> None:
    """Flash and beep are at most 40 ms apart on the timeline that is served, each time, and hls.js
    shifts both media by the same. (How late a media element's sound is tapped differs by tens of
    milliseconds from page to page, so it is no measure.)
    """
    browser.add_init_script(
        """
        window.buffers = [];
        const add = MediaSource.prototype.addSourceBuffer;
        MediaSource.prototype.addSourceBuffer = function (type) {
          const buffer = add.call(this, type);
          window.buffers.push(buffer);
          return buffer;
        };
        """
    )
    page = _play(browser, family, "hls").page
    page.wait_for_timeout(8_000)
    url = f"{family.url}/hls/demo"
    sounds = beeps(url)
    pairs = [1000 * (b - f) for f in flashes(url) for b in sounds if abs(b - f) < 0.5]
    say("lip-sync, hls: beep after flash", worst_ms=max(pairs, key=abs), count=len(pairs))
    assert len(pairs) >= 5
    assert max(map(abs, pairs)) <= 40
    shifts = page.evaluate("window.buffers.map((b) => b.timestampOffset)")
    assert len(shifts) == 2
    assert abs(shifts[0] - shifts[1]) < 0.001

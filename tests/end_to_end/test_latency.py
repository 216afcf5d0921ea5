"""Camera to screen on loopback, by the clock that is burnt into the picture; and lip-sync by flash and beep.

The short form plays for half a minute, the long one (`make prove`) for five.
"""

from itertools import pairwise
from typing import Any

from tests.end_to_end.browser import BrowserContext, open_page
from tests.end_to_end.conftest import PROBE
from tests.end_to_end.family import Family, wait_until
from tests.end_to_end.figures import percentile, say

WEBRTC = "video[data-player=webrtc]"
HLS = "video[data-player=hls]"


def _play_both(browser: BrowserContext, family: Family) -> Any:
    wait_until("the demo is live", lambda: family.live("demo"), 20)
    wait_until("HLS has begun", lambda: family.streams()["demo"]["hls"], 20)
    seen = open_page(browser, f"{family.url}/watch/demo?mode=both")
    seen.page.evaluate(PROBE)
    for player in (WEBRTC, HLS):
        seen.page.wait_for_function(
            "s => { const v = document.querySelector(s); return v && v.videoWidth > 0 && v.currentTime > 1 }",
            arg=player,
            timeout=20_000,
        )
    return seen


def _frames(page: Any, name: str) -> list[dict[str, float]]:
    return list(page.evaluate(f"window.{name}.frames.splice(0)"))


def test_from_camera_to_both_screens(browser: BrowserContext, family: Family, prove: bool) -> None:
    """WHIP to WHEP p50 <= 120 ms; WHIP to LL-HLS in hls.js p50 <= 1.5 s, p95 <= 2 s, without a stall."""
    seconds = 300 if prove else 25
    seen = _play_both(browser, family)
    page = seen.page
    page.wait_for_timeout(3_000)
    page.evaluate(f"window.a = probe.watch(document.querySelector('{WEBRTC}'))")
    page.evaluate(f"window.b = probe.watch(document.querySelector('{HLS}'))")
    page.evaluate(
        f"window.stalls = 0; document.querySelector('{HLS}').addEventListener('waiting', () => window.stalls++)"
    )
    page.wait_for_timeout(seconds * 1000)
    figures = {}
    for name, what in (("a", "webrtc"), ("b", "hls")):
        frames = [f for f in _frames(page, name) if f["unixMs"]]
        assert len(frames) > seconds * 15, f"{what}: {len(frames)} readable frames in {seconds} s"
        late = [f["shown"] - f["unixMs"] for f in frames]
        figures[what] = late
        say(
            f"camera to screen, {what}, {seconds} s",
            frames=len(frames),
            p50_ms=percentile(late, 0.5),
            p95_ms=percentile(late, 0.95),
            p99_ms=percentile(late, 0.99),
        )
    stalls = page.evaluate("window.stalls")
    say("stalls of hls.js", stalls=stalls)
    assert percentile(figures["webrtc"], 0.5) <= 120
    assert percentile(figures["hls"], 0.5) <= 1500
    assert percentile(figures["hls"], 0.95) <= 2000
    assert stalls == 0
    assert not seen.errors


def test_the_latency_the_page_shows_is_true(browser: BrowserContext, family: Family) -> None:
    """What the page says of each player's latency agrees with the burnt-in clock."""
    seen = _play_both(browser, family)
    page = seen.page
    page.wait_for_timeout(4_000)
    for name, player, off in (("webrtc", WEBRTC, 60), ("hls", HLS, 150)):
        page.evaluate(f"window.p = probe.watch(document.querySelector('{player}'))")
        said = []
        for _ in range(10):
            page.wait_for_timeout(300)
            said.append(page.evaluate(f"window.nexus.players.{name}.latencyMs"))
        true = [f["shown"] - f["unixMs"] for f in _frames(page, "p") if f["unixMs"]]
        page.evaluate("window.p.stop = true")
        told = percentile([s for s in said if s is not None], 0.5)
        say(f"latency shown, {name}", told_ms=told, true_ms=percentile(true, 0.5))
        assert abs(told - percentile(true, 0.5)) <= off


def _nearest(beeps: list[float], flash: float) -> float:
    return min((b - flash for b in beeps), key=abs)


def test_lips_and_voice_agree(browser: BrowserContext, family: Family) -> None:
    """The flash and the beep that belong together are at most 40 ms apart, median, on both players."""
    seen = _play_both(browser, family)
    page = seen.page
    for name, player in (("webrtc", WEBRTC), ("hls", HLS)):
        page.evaluate(
            f"window.p = probe.watch(document.querySelector('{player}'), {{x: 0.762, y: 0.444, w: 0.01, h: 0.017}})"
        )
        page.evaluate(
            f"(async () => {{ window.heard = await probe.listen(document.querySelector('{player}')) }})()"
        )
        page.wait_for_timeout(12_000)
        frames = _frames(page, "p")
        beeps = [o["processed"] for o in page.evaluate("window.heard.onsets")]
        flashes = [
            late["shown"]
            for early, late in pairwise(frames)
            if early["flash"] < 100 <= late["flash"]
        ]
        assert len(flashes) >= 6, f"{name}: {len(flashes)} flashes"
        assert len(beeps) >= 6, f"{name}: {len(beeps)} beeps"
        offsets = [_nearest(beeps, f) for f in flashes]
        middle = percentile(offsets, 0.5)
        say(f"lip-sync, {name}: beep after flash", p50_ms=middle, count=len(offsets))
        page.evaluate("window.p.stop = true; window.heard.context.close()")
        assert abs(middle) <= 40

"""What every page promises: it loads without a complaint, says what it is, and fits a phone."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.end_to_end.browser import Seen
from tests.web.pages_server import PagesServer, stream

Visit = Callable[[str], Seen]
ALL = ["/", "/live", "/watch/demo", "/watch/demo?mode=both", "/embed/demo"]
TOKENS = Path(__file__).parents[2] / "web" / "src" / "styles" / "tokens.css"

NAMELESS = """() => {
  const name = (e) => (e.getAttribute('aria-label') || e.textContent.trim()
    || [...(e.labels || [])].map((l) => l.textContent.trim()).join('')
    || document.getElementById(e.getAttribute('aria-labelledby') || '')?.textContent || '');
  return [...document.querySelectorAll('button, a[href], input, select, [role], dialog, video')]
    .filter((e) => !e.matches('[role=status], [role=alert]') && name(e) === '')
    .map((e) => e.outerHTML.slice(0, 120));
}"""


@pytest.mark.parametrize("path", ALL)
def test_a_page_loads_without_a_complaint(visit: Visit, server: PagesServer, path: str) -> None:
    server.set(stream("demo"))
    seen = visit(path)
    page = seen.page
    page.wait_for_timeout(700)
    assert [error for error in seen.errors if "404" not in error] == []
    assert "Nexus" in page.title()
    assert page.locator("html").get_attribute("lang") == "en"
    assert page.locator("main").count() == 1
    if not path.startswith("/embed"):
        assert page.locator("h1").count() == 1
        assert page.get_by_role("navigation").count() == 1
    assert page.evaluate(NAMELESS) == []
    assert all("//" not in url.replace(server.url, "") for url in page.evaluate(LOADED))


LOADED = "() => performance.getEntriesByType('resource').map((r) => r.name)"


@pytest.mark.parametrize("width", [320, 390, 768])
@pytest.mark.parametrize("path", ["/", "/live", "/watch/demo?mode=both"])
def test_nothing_is_wider_than_the_screen(
    visit: Visit, server: PagesServer, path: str, width: int
) -> None:
    long = "a-very-long-name-of-a-stream.that_goes_on-and-on-and-on-0123456"
    server.set(stream("demo"), stream(long, hls=False, hls_reason="It sends VP8."))
    page = visit(path).page
    page.set_viewport_size({"width": width, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= width


def test_the_list_follows_the_server(visit: Visit, server: PagesServer) -> None:
    page = visit("/").page
    page.get_by_role("heading", name="Nothing is on air").wait_for()
    assert page.get_by_role("link", name="Go live").count() == 2
    assert f"{server.url}/whip/studio" in page.locator("#guide").inner_text()
    server.set(stream("garden"), stream("attic", video="VP8", hls=False, hls_reason="It is VP8."))
    card = page.locator(".card", has_text="garden")
    card.wait_for(timeout=3000)
    assert "720 · H.264 + Opus" in card.inner_text()
    assert "44" in card.inner_text()
    assert "1.5 Mb/s" in card.inner_text()
    assert "No LL-HLS: It is VP8." in page.locator(".card", has_text="attic").inner_text()
    server.set(stream("garden", state="waiting"))
    page.locator(".card[data-state=waiting]", has_text="Away").wait_for(timeout=3000)
    assert page.locator(".card").count() == 1
    server.set()
    page.get_by_role("heading", name="Nothing is on air").wait_for(timeout=3000)


def test_the_front_page_plays_the_demo_two_ways(visit: Visit, server: PagesServer) -> None:
    server.set(stream("attic"), stream("demo"))
    page = visit("/").page
    page.locator("#feature video[data-player=webrtc]").wait_for(timeout=3000)
    assert page.locator("#feature video[data-player=hls]").count() == 1
    assert page.locator("#feature h2").inner_text() == "demo"
    figure = page.locator("#feature .caption", has_text="WebRTC").locator(".big-figure")
    page.locator("#feature .big-figure", has_text=re.compile(r"^\d+ ms$")).wait_for(timeout=8000)
    assert figure.inner_text().endswith("ms")


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    bright, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_words_stand_out_from_their_ground_in_both_schemes() -> None:
    dark, light = TOKENS.read_text().split("@media")
    for scheme in (dark, light):
        colour = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", scheme))
        for words in ("text", "quiet", "accent"):
            for ground in ("ground", "raised", "sunken"):
                assert _contrast(colour[words], colour[ground]) >= 4.5, (words, ground)
        assert _contrast(colour["on-accent"], colour["accent"]) >= 4.5
        assert _contrast(colour["bad"], colour["bad-ground"]) >= 4.5

"""The watch page and the embedded player: what a viewer sees, hears and may press."""

import re
import time
from collections.abc import Callable
from typing import Any

from tests.end_to_end.browser import Page, Seen
from tests.web.pages_server import PagesServer, stream

Visit = Callable[[str], Seen]
PLAYER = "window.nexus.players.webrtc"


def until(what: str, holds: Callable[[], Any], seconds: float = 8.0) -> None:
    """Polls with a deadline."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"


def ask(page: Page, expression: str) -> Any:
    page.wait_for_timeout(40)
    return page.evaluate(f"() => {expression}")


def playing(page: Page, seconds: float = 8.0) -> None:
    until("it plays", lambda: ask(page, f"{PLAYER}.state") == "playing", seconds)


def test_a_stream_plays_with_its_true_latency(visit: Visit, server: PagesServer) -> None:
    server.set(stream("demo"))
    page = visit("/watch/demo").page
    playing(page)
    assert 0 < ask(page, f"{PLAYER}.joinMs") < 3000
    until("a latency is shown", lambda: ask(page, f"{PLAYER}.latencyMs") is not None)
    assert ask(page, f"{PLAYER}.latencyMs") < 1500
    until("it is on the picture", lambda: "ms" in page.locator(".badge").inner_text())
    assert "44 viewers" in page.locator("#facts").inner_text()
    until("figures", lambda: ask(page, "window.nexus.stats().webrtc.width") == 640)


def test_everything_is_one_key_away(visit: Visit, server: PagesServer) -> None:
    server.set(stream("demo"))
    page = visit("/watch/demo").page
    playing(page)
    page.keyboard.press("s")
    page.get_by_role("region", name="Statistics").wait_for()
    assert "Request to first picture" in page.get_by_role("table").inner_text()
    page.keyboard.press("s")
    assert page.locator(".stats").is_hidden()
    assert ask(page, f"{PLAYER}.video.muted") is True
    page.keyboard.press("m")
    assert ask(page, f"{PLAYER}.video.muted") is False
    page.get_by_role("button", name="Mute (m)").wait_for(state="attached")
    page.keyboard.press("k")
    assert ask(page, f"{PLAYER}.video.paused") is True
    page.keyboard.press(" ")
    until("it goes on", lambda: ask(page, f"{PLAYER}.video.paused") is False)
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    assert page.url.endswith("?mode=both")
    assert page.locator("video").count() == 2
    assert ask(page, f"{PLAYER}.state") == "playing"
    page.keyboard.press("w")
    assert page.locator("video").count() == 1


def test_every_control_is_reached_by_tab(visit: Visit, server: PagesServer) -> None:
    server.set(stream("demo"))
    page = visit("/watch/demo").page
    playing(page)
    names = set()
    for _ in range(24):
        page.keyboard.press("Tab")
        names.add(
            page.evaluate(
                "() => { const e = document.activeElement;"
                " return e.getAttribute('aria-label') || e.value || e.textContent.trim() }"
            )
        )
    wanted = {"Pause (space)", "Unmute (m)", "Volume", "Statistics (s)", "Full screen (f)"}
    assert wanted | {"webrtc", "Copy link", "Embed", "Keys (?)"} <= names


def test_not_live_yet_and_then_live(visit: Visit, server: PagesServer) -> None:
    page = visit("/watch/demo").page
    page.get_by_text("Not live yet").wait_for()
    page.wait_for_timeout(1500)
    server.set(stream("demo"))
    playing(page, 3.0)
    assert page.get_by_text("Not live yet").count() == 0


def test_a_key_is_asked_for_and_kept_for_the_tab(visit: Visit, server: PagesServer) -> None:
    server.key = "correct-horse"
    server.set(stream("demo"))
    page = visit("/watch/demo").page
    page.get_by_text("A key is needed").wait_for()
    page.get_by_role("textbox", name="Key").fill("correct-horse")
    page.get_by_role("button", name="Watch").click()
    playing(page)
    assert page.evaluate("() => [document.cookie, localStorage.length, location.hash]") == [
        "",
        0,
        "",
    ]
    page.reload()
    playing(page)


def test_no_codec_in_common_is_said_with_its_reason(visit: Visit, server: PagesServer) -> None:
    server.accepts = False
    server.set(stream("demo"))
    page = visit("/watch/demo").page
    page.get_by_text("no codec in common: the stream is H264").wait_for()
    posts = [one for one in server.requests if one == ("POST", "/whep/demo")]
    assert len(posts) == 1


def test_the_picture_comes_back_after_the_server_forgot_us(
    visit: Visit, server: PagesServer
) -> None:
    server.set(stream("demo"))
    page = visit("/watch/demo").page
    playing(page)
    page.wait_for_timeout(500)
    server.drop_peers()
    until("it came back", lambda: ask(page, f"{PLAYER}.reconnects") == 1, 5.0)
    playing(page)


def test_the_session_ends_with_the_page(visit: Visit, server: PagesServer) -> None:
    server.set(stream("demo"))
    page = visit("/watch/demo").page
    playing(page)
    page.goto(server.url + "/live")
    until(
        "the session is deleted",
        lambda: any(re.match("DELETE /whep/demo/", " ".join(one)) for one in server.requests),
    )


def test_the_embedded_player_obeys_the_page_around_it(visit: Visit, server: PagesServer) -> None:
    server.set(stream("demo"))
    page = visit("/").page
    page.evaluate(
        """() => {
          window.news = [];
          window.addEventListener('message', (event) => window.news.push(event.data));
          const frame = document.createElement('iframe');
          frame.src = '/embed/demo?controls=0';
          frame.id = 'player';
          frame.allow = 'autoplay';
          document.body.append(frame);
        }"""
    )
    last = "window.news.at(-1)?.players?.webrtc?.state"
    until("it plays", lambda: ask(page, last) == "playing")
    frame = page.frames[1]
    assert frame.locator(".controls").count() == 0
    send = "(message) => document.getElementById('player').contentWindow.postMessage(message, '*')"
    page.evaluate(send, {"nexus": 1, "command": "pause"})
    until("it pauses", lambda: frame.evaluate(f"() => {PLAYER}.video.paused"))
    page.evaluate(send, {"nexus": 1, "command": "play"})
    until("it plays again", lambda: not frame.evaluate(f"() => {PLAYER}.video.paused"))
    page.evaluate(send, {"nexus": 1, "command": "mode", "mode": "both"})
    until("both are there", lambda: frame.locator("video").count() == 2)

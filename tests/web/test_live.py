"""The go-live page: from the camera to on air and off again."""

import re
from collections.abc import Callable

from tests.end_to_end.browser import Page, Seen
from tests.web.pages_server import PagesServer
from tests.web.test_watch import ask, until

Visit = Callable[[str], Seen]


def _ready(page: Page) -> None:
    until("the camera is there", lambda: page.get_by_role("button", name="Go live").is_enabled())
    until("the preview moves", lambda: ask(page, "document.querySelector('video').videoWidth") > 0)


def test_on_air_from_the_camera_and_off_again(visit: Visit, server: PagesServer) -> None:
    seen = visit("/live?stream=porch")
    page = seen.page
    _ready(page)
    assert page.get_by_label("Stream name").input_value() == "porch"
    assert page.locator("video.mirrored").count() == 1
    page.get_by_role("button", name="Go live").click()
    page.get_by_text("You are on air.").wait_for(timeout=8000)
    assert page.get_by_role("link", name="/watch/porch").count() == 1
    until("a codec is said", lambda: "H.264" in page.locator("#figures").inner_text())
    until("a bit rate is said", lambda: "b/s" in page.locator("#figures").inner_text())
    assert page.get_by_label("Stream name").is_disabled()
    page.get_by_role("button", name="Stop").click()
    until(
        "the session is deleted",
        lambda: any(re.match("DELETE /whip/porch/", " ".join(one)) for one in server.requests),
    )
    assert seen.errors == []


def test_h264_is_offered_first(visit: Visit, server: PagesServer) -> None:
    page = visit("/live").page
    _ready(page)
    page.get_by_role("button", name="Go live").click()
    until("an offer came", lambda: server.offers)
    video = server.offers[0].split("m=video", 1)[1]
    first = video.split("\r\n", 1)[0].split()[2]
    assert f"a=rtpmap:{first} H264/90000" in video
    assert "a=sendonly" in video


def test_a_lost_server_is_found_again(visit: Visit, server: PagesServer) -> None:
    page = visit("/live").page
    _ready(page)
    page.get_by_role("button", name="Go live").click()
    page.get_by_text("You are on air.").wait_for(timeout=8000)
    server.drop_peers()
    until("another session", lambda: len(server.offers) == 2, 5.0)
    until("on air again", lambda: ask(page, "window.nexus.publisher.state") == "live")


def test_the_sound_level_is_told(visit: Visit) -> None:
    page = visit("/live").page
    _ready(page)
    meter = page.get_by_role("meter", name="Sound level")
    until("a level", lambda: float(meter.get_attribute("aria-valuenow") or -60) > -60)
    assert meter.get_attribute("aria-valuetext") in {"quiet", "good", "too loud"}


def test_a_wrong_key_is_said(visit: Visit, server: PagesServer) -> None:
    server.key = "right"
    page = visit("/live").page
    _ready(page)
    page.get_by_label("Key").fill("wrong")
    page.get_by_role("button", name="Go live").click()
    page.get_by_text("This server asks for a key, or yours is wrong.").wait_for()
    assert page.get_by_role("button", name="Go live").is_enabled()


def test_a_camera_that_is_refused_is_explained(visit: Visit) -> None:
    page = visit("/").page
    page.add_init_script(
        "navigator.mediaDevices.getUserMedia ="
        " async () => { throw new DOMException('no', 'NotAllowedError') }"
    )
    page.goto(page.url + "live")
    page.get_by_role("alert").get_by_text("The browser was not allowed").wait_for()
    assert page.get_by_role("button", name="Go live").is_disabled()

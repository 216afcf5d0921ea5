"""Chromium as the tests drive it: Debian's binary, a fresh profile, WebRTC on loopback alone."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
    "--allow-loopback-in-peer-connection",
]
HARMLESS = ("favicon",)


class Seen:
    """A page and everything its console complained of."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.errors: list[str] = []
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.on("console", self._console)

    def _console(self, message: object) -> None:
        kind, text = getattr(message, "type", ""), getattr(message, "text", "")
        if kind == "error" and not any(word in text for word in HARMLESS):
            self.errors.append(text)


_drivers: list[Playwright] = []
"""The driver in use: a thread can have but one, whoever nests browsers."""


@contextmanager
def _driver() -> Iterator[Playwright]:
    if _drivers:
        yield _drivers[0]
        return
    with sync_playwright() as play:
        _drivers.append(play)
        try:
            yield play
        finally:
            _drivers.clear()


@contextmanager
def chromium(*, probing: bool = False) -> Iterator[BrowserContext]:
    """One Chromium with one context; closed, profile and all, on leaving.

    probing: the pages' content security policy lets the probe's audio worklet in.
    """
    with _driver() as play, tempfile.TemporaryDirectory(prefix="chromium-") as profile:
        context = play.chromium.launch_persistent_context(
            profile,
            executable_path=CHROMIUM,
            headless=True,
            args=FLAGS,
            permissions=["camera", "microphone"],
            bypass_csp=probing,
            viewport={"width": 1280, "height": 800},
        )
        try:
            yield context
        finally:
            context.close()


def open_page(context: BrowserContext, url: str) -> Seen:
    page = context.new_page()
    seen = Seen(page)
    page.goto(url)
    return seen


__all__ = ["Browser", "BrowserContext", "Page", "Seen", "chromium", "open_page"]

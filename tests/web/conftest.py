"""One Chromium for the tests of the pages, and a fresh small server for each of them."""

from collections.abc import Callable, Iterator

import pytest

from edge.pages import STATIC
from tests.end_to_end.browser import BrowserContext, Page, Seen, chromium
from tests.web.pages_server import PagesServer, pages_server


@pytest.fixture(scope="module")
def browser() -> Iterator[BrowserContext]:
    with chromium() as context:
        yield context


@pytest.fixture
def server() -> Iterator[PagesServer]:
    if not (STATIC / "index.html").is_file():
        pytest.fail("the pages are not built: run `make web`")
    with pages_server() as one:
        yield one


@pytest.fixture
def visit(browser: BrowserContext, server: PagesServer) -> Iterator[Callable[[str], Seen]]:
    """Opens a page of the server; closed afterwards."""
    pages: list[Page] = []

    def visit(path: str) -> Seen:
        page = browser.new_page()
        pages.append(page)
        seen = Seen(page)
        page.goto(server.url + path)
        return seen

    yield visit
    for page in pages:
        page.close()

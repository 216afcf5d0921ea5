"""The built pages: which file each path gets, their headers, and that no request names a file."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import yarl

from edge import pages, worker
from edge.http_settings import HttpSettings
from tests.edge.conftest import Running, Start, eventually


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def built(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    for name in ("index", "watch", "embed", "live"):
        (static / f"{name}.html").write_text(f"<title>{name}</title>")
    (static / "assets" / "app-1a2b.js").write_text("export {};")
    (static / "assets" / "mark-1a2b.svg").write_text("<svg/>")
    (tmp_path / "secret.txt").write_text("secret")
    (static / "link.txt").symlink_to(tmp_path / "secret.txt")
    monkeypatch.setattr(worker, "Pages", lambda: pages.Pages(static))
    made: Running = await start()
    return made


async def test_each_path_gets_its_page(built: Running, http: aiohttp.ClientSession) -> None:
    for path, name in {
        "/": "index",
        "/live": "live",
        "/watch/demo": "watch",
        "/embed/demo": "embed",
        "/embed/demo?mode=hls": "embed",
    }.items():
        async with http.get(built.url + path) as reply:
            assert reply.status == 200
            assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
            assert await reply.text() == f"<title>{name}</title>"
            policy = reply.headers["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
            ancestors = "*" if name == "embed" else "'none'"
            assert policy.endswith(f"frame-ancestors {ancestors}")
            assert ("X-Frame-Options" in reply.headers) is (name != "embed")
            assert reply.headers["Referrer-Policy"] == "no-referrer"
            assert "camera=(self)" in reply.headers["Permissions-Policy"]
            assert reply.headers["X-Content-Type-Options"] == "nosniff"
            assert reply.headers["Cache-Control"] == "no-cache"
            assert "Server" not in reply.headers
            tag = reply.headers["ETag"]
        async with http.get(built.url + path, headers={"If-None-Match": tag}) as reply:
            assert reply.status == 304


async def test_assets_are_kept_for_good(built: Running, http: aiohttp.ClientSession) -> None:
    async with http.get(f"{built.url}/assets/app-1a2b.js") as reply:
        assert reply.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert reply.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    async with http.head(f"{built.url}/assets/mark-1a2b.svg") as reply:
        assert reply.headers["Content-Type"] == "image/svg+xml"


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/assets/none.js", 404),
        ("/assets/%2e%2e/secret.txt", 400),
        ("/assets/..%2fsecret.txt", 400),
        ("/assets/../../secret.txt", 400),
        ("/link.txt", 404),
        ("/index.html", 404),
        ("/watch/-bad", 400),
        ("/watch/", 404),
        ("/nothing", 404),
    ],
)
async def test_what_is_not_there(
    built: Running, http: aiohttp.ClientSession, path: str, status: int
) -> None:
    async with http.get(yarl.URL(built.url + path, encoded=True)) as reply:
        assert reply.status == status
        assert reply.content_type == "application/problem+json"


async def test_pages_that_are_not_built_say_so(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, http: aiohttp.ClientSession
) -> None:
    monkeypatch.setattr(worker, "Pages", lambda: pages.Pages(tmp_path / "none"))
    running: Running = await start()
    async with http.get(running.url) as reply:
        assert reply.status == 503
        assert "make web" in (await reply.json(content_type=None))["detail"]


async def test_a_client_that_does_not_read_is_cut(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    static = tmp_path / "static"
    (static / "assets").mkdir(parents=True)
    (static / "assets" / "big.js").write_bytes(b"x" * 16_000_000)
    monkeypatch.setattr(worker, "Pages", lambda: pages.Pages(static))
    running: Running = await start(edge=HttpSettings(stalled_seconds=1))
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port, limit=1_000)
    writer.write(b"GET /assets/big.js HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.readuntil(b"\r\n")
    assert running.worker.door.count == 1
    await eventually(lambda: running.worker.door.count == 0)
    writer.transport.abort()

"""Serves the built pages (`web/` → `edge/static`) from memory: four HTML files, hashed assets.

Files are read once at the start; a path that is not among them does not exist, so no request ever
names a file. Assets are named by their content and kept by browsers for good; pages are asked for
again each time (ETag). Only /embed/ may stand in other sites' frames.
"""

import hashlib
import mimetypes
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiohttp import web

from edge.problems import Refusal
from edge.routes import Answer, Route, stream_of

STATIC: Final = Path(__file__).parent / "static"
FILES_MAX: Final = 500
"""Most files of the pages."""
FILE_BYTES_MAX: Final = 16_777_216
"""Longest file of the pages in bytes; longer ones are not served."""

_POLICY: Final = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:;"
    " media-src 'self' blob: mediastream:; connect-src 'self'; worker-src 'self' blob:;"
    " font-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-src 'self';"
    " frame-ancestors {ancestors}"
)
_PERMISSIONS: Final = (
    "camera=(self), microphone=(self), display-capture=(self), autoplay=*, fullscreen=*,"
    " picture-in-picture=*, screen-wake-lock=*, geolocation=(), payment=(), usb=()"
)
_TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
    ".json": "application/json",
    ".map": "application/json",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
    ".ico": "image/x-icon",
    ".wasm": "application/wasm",
}
_PAGES: Final = {
    "/": ("index.html", "What is live"),
    "/live": ("live.html", "Go live"),
    "/watch/{stream}": ("watch.html", "Watch a stream"),
    "/embed/{stream}": ("embed.html", "The bare player, for frames"),
}


@dataclass(frozen=True, slots=True)
class _File:
    body: bytes
    content_type: str
    etag: str


class Pages:
    """The routes of the pages."""

    routes: Final = (
        *(
            Route(
                "GET",
                path,
                "page",
                summary,
                {200: Answer("The page.", media_type="text/html")},
                tag="pages",
            )
            for path, (_, summary) in _PAGES.items()
        ),
        Route(
            "GET",
            "/{file:assets/.+|[a-z0-9._-]+\\.(?:svg|ico|png|txt|webmanifest)}",
            "asset",
            "A page's part",
            {200: Answer("The file."), 404: Answer("There is no such file.")},
            tag="pages",
        ),
    )

    def __init__(self, directory: Path = STATIC) -> None:
        self._files = _read(directory)

    async def page(self, request: web.Request) -> web.Response:
        """One of the four pages."""
        resource = request.match_info.route.resource
        assert resource is not None
        name, _ = _PAGES[resource.canonical]
        if "stream" in request.match_info:
            stream_of(request)
        file = self._files.get(name)
        if file is None:
            raise Refusal(503, "the pages are not built: run `make web`", code="pages.missing")
        embedded = name == "embed.html"
        headers = {
            "Content-Security-Policy": _POLICY.format(ancestors="*" if embedded else "'none'"),
            "Permissions-Policy": _PERMISSIONS,
            "Cache-Control": "no-cache",
            "Cross-Origin-Opener-Policy": "same-origin",
        }
        if not embedded:
            headers["X-Frame-Options"] = "DENY"
        return _answer(request, file, headers)

    async def asset(self, request: web.Request) -> web.Response:
        """A script, style or picture."""
        name = request.match_info["file"]
        file = self._files.get(name)
        if file is None or name.endswith(".html"):
            raise Refusal(404, "there is no such file", code="pages.unknown")
        kept = "public, max-age=31536000, immutable"
        cache = kept if name.startswith("assets/") else "public, max-age=3600"
        return _answer(request, file, {"Cache-Control": cache})


def _answer(request: web.Request, file: _File, headers: dict[str, str]) -> web.Response:
    headers["ETag"] = file.etag
    tags = [
        tag.strip().removeprefix("W/")
        for tag in request.headers.get("If-None-Match", "").split(",")
    ]
    if file.etag in tags or "*" in tags:
        return web.Response(status=304, headers=headers)
    headers["Content-Type"] = file.content_type
    return web.Response(body=file.body, headers=headers)


def _read(directory: Path) -> dict[str, _File]:
    files: dict[str, _File] = {}
    if not directory.is_dir():
        return files
    for path in sorted(directory.rglob("*")):
        if len(files) >= FILES_MAX:
            break
        if path.is_file() and not path.is_symlink() and path.stat().st_size <= FILE_BYTES_MAX:
            body = path.read_bytes()
            guessed = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
            digest = hashlib.sha256(body).hexdigest()[:20]
            files[path.relative_to(directory).as_posix()] = _File(
                body, _TYPES.get(path.suffix, guessed), f'"{digest}"'
            )
    return files

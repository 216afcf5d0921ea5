"""`/openapi.json` and `/docs`: what can be asked here, for programs and for people; and
`/asyncapi.json`: what services tell each other.

The page is plain HTML made once from the same description: it needs no script, no other site and no
network but this server's.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from html import escape
from typing import Any, Final

import orjson
from aiohttp import web

from edge.routes import Answer, Route

_STYLE: Final = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;
color:#1c1e21;background:#fff}
h2{margin-top:2.5rem;border-bottom:1px solid #ccc}
details{border:1px solid #ddd;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}
summary{cursor:pointer}code,pre{font:14px/1.4 ui-monospace,monospace}
pre{overflow:auto;background:#f5f5f5;padding:.6rem;border-radius:4px}
table{border-collapse:collapse}td,th{text-align:left;padding:.15rem .8rem .15rem 0;
vertical-align:top}b.m{display:inline-block;min-width:4.5rem}
@media(prefers-color-scheme:dark){body{color:#e4e6eb;background:#18191a}
pre{background:#242526}details{border-color:#444}}
"""
_STYLE_HASH: Final = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_POLICY: Final = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; frame-ancestors 'none'"
_METHODS: Final = ("get", "post", "put", "patch", "delete")


class Portal:
    """The routes of the description."""

    routes: Final = (
        Route(
            "GET",
            "/openapi.json",
            "description",
            "All services, as OpenAPI 3.1",
            {200: Answer("The description.", media_type="application/json")},
            tag="gateway",
        ),
        Route(
            "GET",
            "/asyncapi.json",
            "events",
            "What services tell each other, as AsyncAPI 3",
            {200: Answer("The description.", media_type="application/json")},
            tag="gateway",
        ),
        Route(
            "GET",
            "/docs",
            "page",
            "The same, to read",
            {200: Answer("The page.", media_type="text/html")},
            tag="gateway",
        ),
    )

    def __init__(
        self, describe: Callable[[], dict[str, Any]], *, tell: Callable[[], dict[str, Any]]
    ) -> None:
        """The OpenAPI and the AsyncAPI document; each asked when somebody first wants it."""
        self._describe = describe
        self._tell = tell
        self._told: tuple[bytes, str] | None = None
        self._made: tuple[bytes, bytes, str] | None = None

    async def description(self, request: web.Request) -> web.Response:
        """The document."""
        document, _, tag = self._both()
        return _answer(request, document, tag, {"Content-Type": "application/json"})

    async def events(self, request: web.Request) -> web.Response:
        """The document of events."""
        if self._told is None:
            document = orjson.dumps(self._tell())
            self._told = (document, _tag(document))
        return _answer(request, *self._told, {"Content-Type": "application/json"})

    async def page(self, request: web.Request) -> web.Response:
        """The page."""
        _, page, tag = self._both()
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": _POLICY,
        }
        return _answer(request, page, tag, headers)

    def _both(self) -> tuple[bytes, bytes, str]:
        if self._made is None:
            described = self._describe()
            document = orjson.dumps(described)
            self._made = (document, "".join(_page(described)).encode(), _tag(document))
        return self._made


def _tag(document: bytes) -> str:
    return f'"{hashlib.sha256(document).hexdigest()[:20]}"'


def _answer(request: web.Request, body: bytes, tag: str, headers: dict[str, str]) -> web.Response:
    headers |= {"ETag": tag, "Cache-Control": "no-cache"}
    known = [
        one.strip().removeprefix("W/")
        for one in request.headers.get("If-None-Match", "").split(",")
    ]
    if tag in known or "*" in known:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, headers=headers)


def _page(document: dict[str, Any]) -> Iterator[str]:
    title = escape(str(document.get("info", {}).get("title", "API")))
    yield "<!doctype html><html lang=en><meta charset=utf-8>"
    yield "<meta name=viewport content='width=device-width'>"
    yield f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
    yield f"<p>{escape(str(document.get('info', {}).get('description', '')))}</p>"
    yield "<p>For programs: <a href=/openapi.json>openapi.json</a> (OpenAPI 3.1),"
    yield " <a href=/asyncapi.json>asyncapi.json</a> (events, AsyncAPI 3).</p>"
    by_tag: dict[str, list[tuple[str, str, dict[str, Any]]]] = {}
    for path, item in document.get("paths", {}).items():
        for method in _METHODS:
            if method in item:
                tag = (item[method].get("tags") or ["other"])[0]
                by_tag.setdefault(tag, []).append((method, path, item[method]))
    for tag, found in sorted(by_tag.items()):
        yield f"<h2>{escape(tag)}</h2>"
        for method, path, operation in found:
            yield from _operation(method, path, operation)
    yield "<h2>Schemas</h2>"
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        yield f"<details id='{escape(name)}'><summary><code>{escape(name)}</code></summary>"
        yield f"<pre>{_json(schema)}</pre></details>"


def _operation(method: str, path: str, operation: dict[str, Any]) -> Iterator[str]:
    summary = escape(str(operation.get("summary", "")))
    yield f"<details><summary><b class=m>{method.upper()}</b> <code>{escape(path)}</code> {summary}"
    yield "</summary>"
    if text := operation.get("description"):
        yield f"<p>{escape(str(text))}</p>"
    parameters = [one for one in operation.get("parameters", ()) if "name" in one]
    if parameters:
        yield "<table><tr><th>parameter<th>in<th>schema"
        for one in parameters:
            yield f"<tr><td><code>{escape(one['name'])}</code><td>{escape(one['in'])}"
            yield f"<td><code>{_json(one.get('schema', {}))}</code>"
        yield "</table>"
    if body := operation.get("requestBody"):
        yield f"<p>Body:</p><pre>{_json(body)}</pre>"
    yield "<table><tr><th>answer<th>"
    for status, answer in operation.get("responses", {}).items():
        yield f"<tr><td>{escape(str(status))}<td>"
        yield escape(str(answer.get("description", answer.get("$ref", ""))))
    yield "</table></details>"


def _json(value: Any) -> str:
    return escape(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode())

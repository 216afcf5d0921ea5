"""The OpenAPI 3.1 description of the HTTP side, made from the same route tables that serve it.

`docs/openapi.json` is this text, kept equal by a test; `python -m edge.openapi` prints it. LL-HLS
paths are described by hand: they are one route here, and many resources to a player.
"""

import re
import sys
from collections.abc import Iterable
from functools import cache
from typing import Any, Final

import msgspec
import orjson
from aiohttp import web

from edge.control import Control, Events, described
from edge.link_api import LinkApi
from edge.operations import Operations
from edge.problems import CONTENT_TYPE
from edge.routes import STREAM_NAME, Answer, Route
from edge.signalling import WHEP, WHIP, routes

_PARAMETERS: Final[dict[str, dict[str, Any]]] = {
    "stream": {"type": "string", "pattern": f"^{STREAM_NAME}$"},
    "session": {"type": "string"},
    "rendition": {"type": "string", "enum": ["v", "a", "c"]},
    "file": {"type": "string"},
}
_TAGS: Final = {
    "whip": "Publishing (RFC 9725).",
    "whep": "Playing within a tenth of a second (draft-ietf-wish-whep).",
    "hls": "Playing within seconds, through caches (RFC 8216, LL-HLS).",
    "control": "Streams and sessions of this node.",
    "operations": "Health, metrics and this description.",
}
_MANIFEST: Final = "application/vnd.apple.mpegurl"
_BLOCKING: Final = {
    "_HLS_msn": "Answer once this media sequence number is there.",
    "_HLS_part": "Answer once this part of it is there.",
    "_HLS_skip": "YES or v2: leave out what is known (delta update).",
}
_HLS: Final = (
    Route(
        "GET",
        "/hls/{stream}/index.m3u8",
        "",
        "Multivariant playlist",
        {
            200: Answer("The playlist.", media_type=_MANIFEST),
            404: Answer("There is no such stream."),
        },
        action="read",
        tag="hls",
    ),
    Route(
        "GET",
        "/hls/{stream}/{rendition}/live.m3u8",
        "",
        "Media playlist: v video, a Opus, c AAC",
        {
            200: Answer("The playlist.", media_type=_MANIFEST),
            400: Answer("Asked too far ahead, or wrongly."),
            404: Answer("There is no such playlist."),
            503: Answer("It did not come within three target durations."),
        },
        action="read",
        query=_BLOCKING,
        tag="hls",
    ),
    Route(
        "GET",
        "/hls/{stream}/{rendition}/{file}",
        "",
        "An init section, segment or part that a playlist names",
        {
            200: Answer("The file.", media_type="video/mp4"),
            206: Answer("The range asked for.", media_type="video/mp4"),
            404: Answer("There is no such file."),
            416: Answer("The range lies outside."),
        },
        action="read",
        tag="hls",
    ),
)


class Problem(msgspec.Struct, frozen=True):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    """Stable, for programs."""


class Description:
    """The route that shows the description."""

    routes: Final = (
        Route(
            "GET",
            "/api/openapi.json",
            "show",
            "This description",
            {200: Answer("OpenAPI 3.1.", media_type="application/json")},
            tag="operations",
        ),
    )

    async def show(self, _request: web.Request) -> web.Response:
        return web.Response(body=document(), content_type="application/json")


@cache
def document() -> bytes:
    """The description as JSON."""
    every = (
        *routes(WHIP),
        *routes(WHEP),
        *_HLS,
        *Control.routes,
        *LinkApi.routes,
        *Events.routes,
        *Operations.routes,
        *Description.routes,
    )
    text = {
        "openapi": "3.1.0",
        "info": {
            "title": "Nexus COS edge",
            "version": "1",
            "contact": {"name": "Who runs this server"},
            "license": {"name": "Proprietary", "identifier": "LicenseRef-Proprietary"},
            "description": (
                "WHIP in, WHEP and LL-HLS out, and control. Errors are application/problem+json."
                " HLS also takes a key in the path, /hls/~{key}/{stream}/…, or as the cookie"
                " nexus_key, or a signed play link, /hls/_{link}/{stream}/… (403: it is not ours"
                " or not for this stream; 410: it has expired)."
            ),
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name, "description": text} for name, text in _TAGS.items()],
        "paths": _paths(every),
        "components": {
            "schemas": described((*_types(every), Problem)),
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "responses": {
                "problem": {
                    "description": "A problem.",
                    "content": {CONTENT_TYPE: {"schema": _reference(Problem)}},
                }
            },
        },
    }
    return orjson.dumps(text, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def _types(every: Iterable[Route]) -> list[Any]:
    found = {answer.body for route in every for answer in route.answers.values() if answer.body}
    return sorted(found, key=lambda kind: str(kind.__name__))


def _paths(every: Iterable[Route]) -> dict[str, dict[str, Any]]:
    paths: dict[str, dict[str, Any]] = {}
    for route in every:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return paths


def _operation(route: Route) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", route.path)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": _PARAMETERS[name]}
        for name in names
    ]
    parameters += [
        {"name": name, "in": "query", "description": text, "schema": {"type": "string"}}
        for name, text in route.query.items()
    ]
    answers = {str(status): _answer(status, answer) for status, answer in route.answers.items()}
    # Requests are counted whatever they ask for.
    for status in ("429",) if route.action is None else ("401", "403", "429"):
        answers.setdefault(status, {"$ref": "#/components/responses/problem"})
    words = re.sub(r"\W+", "_", f"{route.method}_{route.path}".lower()).strip("_")
    operation: dict[str, Any] = {
        "operationId": words,
        "summary": route.summary,
        "description": f"Needs a key that may {route.action}." if route.action else "Needs no key.",
        "tags": [route.tag],
        "responses": dict(sorted(answers.items())),
    }
    if parameters:
        operation["parameters"] = parameters
    if route.request_type:
        content = {route.request_type: {"schema": {"type": "string"}}}
        operation["requestBody"] = {"required": True, "content": content}
    operation["security"] = [{"key": []}, {}] if route.action is not None else []
    return operation


def _answer(status: int, answer: Answer) -> dict[str, Any]:
    shape: dict[str, Any] = {"description": answer.description}
    if answer.body is not None:
        shape["content"] = {"application/json": {"schema": _reference(answer.body)}}
    elif answer.media_type:
        shape["content"] = {answer.media_type: {"schema": {"type": "string"}}}
    elif status >= 400:
        shape["content"] = {CONTENT_TYPE: {"schema": _reference(Problem)}}
    if answer.headers:
        shape["headers"] = {name: {"schema": {"type": "string"}} for name in answer.headers}
    return shape


def _reference(kind: Any) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


if __name__ == "__main__":
    sys.stdout.buffer.write(document())

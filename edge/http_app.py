"""The aiohttp side: binds the route tables to the router, and guards every request in one place.

The guard reads the header fields as strictly as our own parser, refuses ambiguous targets, turns
errors into problems, and puts on every answer the headers that all have. Which route needs which
right is the handlers'.
"""

import time
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from aiohttp import HttpVersion11, web

from edge.admission import Admission
from edge.front import HttpHandler, address_of
from edge.http_head import Fields, fields_of, refuse_ambiguous
from edge.http_metrics import METHODS, answered
from edge.http_settings import HttpSettings
from edge.problems import Refusal, from_status, refusal, response
from edge.request_body import expect
from edge.routes import ADDED, FIELDS, REMOTE, TAKER, Handler, Routed
from ops import tracing
from ops.errors import NexusError

SHUTDOWN_SECONDS: Final = 0.5
"""How long requests under way may take when the worker stops."""

_REMEMBERED_HEADS: Final = 1_024
"""Heads whose fields are remembered, at most 16 KiB each."""
_CORS_PATHS: Final = ("/whip/", "/whep/", "/api/", "/hls/", "/livez", "/readyz")
_CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": (
        "Location, Link, ETag, Retry-After, Accept-Patch, Accept-Post, WWW-Authenticate,"
        " X-Server-Time, Date"
    ),
}
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PATCH, DELETE, OPTIONS",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
    "Access-Control-Max-Age": "86400",
}

_MALFORMED: Final = "http.malformed"
_CLASSES: Final = {
    **{name: name for name in ("whip", "whep", "hls", "api")},
    **dict.fromkeys(("livez", "readyz", "metrics"), "operations"),
    **dict.fromkeys(("v1", "openapi.json", "asyncapi.json", "docs", "regions"), "gateway"),
}
_EVENTS: Final = "/api/events"
"""Where answers are streams that take hours."""

ADMISSION: Final = web.AppKey("nexus.admission", Admission)
GATEWAY: Final[web.AppKey[Handler]] = web.AppKey("nexus.gateway")
_GATEWAY_PATHS: Final = "/v1/{tail:.*}"


def make_app(
    settings: HttpSettings,
    parts: Sequence[Routed],
    admission: Admission,
    *,
    gateway: Handler | None = None,
) -> web.Application:
    """The application of these route tables. Nobody has started it yet.

    gateway: answers what is below /v1, and whatever else no table has.
    """
    app = web.Application(middlewares=[_guard], client_max_size=settings.sdp_bytes_max + 1)
    app[ADMISSION] = admission
    for part in parts:
        declared = {(route.method, route.path) for route in part.routes}
        for route in part.routes:
            handler = getattr(part, route.handler)
            app.router.add_route(route.method, route.path, handler)
            if route.method == "GET" and ("HEAD", route.path) not in declared:
                app.router.add_route("HEAD", route.path, handler)
    app.router.add_route("OPTIONS", "/api/{tail:.*}", _preflight)
    if gateway is not None:
        app[GATEWAY] = gateway
        app.router.add_route("*", _GATEWAY_PATHS, gateway, expect_handler=expect)
    app.on_response_prepare.append(_headers)
    return app


class HttpSide:
    """A started application and the maker of its connections' protocols.

    Owns: aiohttp's runner, from `start` to `stop`.
    """

    def __init__(self, app: web.Application, settings: HttpSettings) -> None:
        self._options: dict[str, Any] = {
            "keepalive_timeout": settings.idle_seconds,
            "access_log": None,
            "max_line_size": 8_190,
            "max_field_size": 8_190,
            "lingering_time": 1.0,
        }
        self._runner = web.AppRunner(
            app,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_SECONDS,
            **self._options,
        )

    async def start(self) -> None:
        """Makes it ready for connections."""
        await self._runner.setup()

    async def stop(self) -> None:
        """Ends every connection of aiohttp's, the requests under way after a short while."""
        server = self._runner.server
        if server is not None:
            server.pre_shutdown()
            await server.shutdown(SHUTDOWN_SECONDS)
        await self._runner.cleanup()

    def protocol(self) -> HttpHandler:
        """The protocol of one connection."""
        server = self._runner.server
        assert server is not None, "not started"
        return HttpHandler(server, loop=server._loop, **self._options)  # noqa: SLF001


@web.middleware
async def _guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    method = request.method if request.method in METHODS else "other"
    resource = request.match_info.route.resource
    path = resource.canonical if resource is not None else "unknown"
    kind = "events" if path == _EVENTS else _class_of(path)
    began = time.monotonic()
    with tracing.span(f"{method} {path}", request.headers):
        answer = await _answer(request, handler)
    lasts = kind == "events" or answer.content_type == "text/event-stream"
    seconds = None if lasts else time.monotonic() - began
    answered(kind, method=method, status=answer.status, seconds=seconds)
    return answer


def _class_of(path: str) -> str:
    """What a route is for, by the first part of its path."""
    return _CLASSES.get(path.removeprefix("/").partition("/")[0], "pages")


async def _answer(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if not request.raw_path.startswith("/"):
            raise Refusal(400, "the request target is not a path", code=_MALFORMED)
        if request.version < HttpVersion11 and "Transfer-Encoding" in request.headers:
            raise Refusal(400, "Transfer-Encoding in an HTTP/1.0 request", code=_MALFORMED)
        refuse_ambiguous(request.raw_path)
        request[FIELDS] = _fields(request.raw_headers)
        _account(request)
        missing = request.match_info.http_exception
        if missing is not None and missing.status == 404 and GATEWAY in request.app:
            handler = request.app[GATEWAY]
        return await handler(request)
    except NexusError as error:
        answer = response(refusal(error))
        if error.code == _MALFORMED:
            # As on our own connections: nothing behind it is read.
            answer.force_close()
        return answer
    except web.RequestPayloadError:
        answer = response(Refusal(400, "the body cannot be read", code=_MALFORMED))
        answer.force_close()
        return answer
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _problem(error)


@lru_cache(maxsize=_REMEMBERED_HEADS)
def _fields(raw: tuple[tuple[bytes, bytes], ...]) -> Fields:
    """The fields of a head; those of one client's requests are mostly the same. Raises Refusal."""
    return fields_of(
        (name.decode("utf-8", "surrogateescape"), value.decode("utf-8", "surrogateescape"))
        for name, value in raw
    )


def _account(request: web.Request) -> None:
    """Says who asks, and counts it. Raises: Refusal (429)."""
    admission, transport = request.app[ADMISSION], request.transport
    peer = address_of(transport) if transport is not None else "local"
    request[REMOTE] = admission.address_of(peer, request[FIELDS])
    request[TAKER] = admission.find(request[REMOTE])
    admission.request(request[TAKER])


def _problem(error: web.HTTPException) -> web.Response:
    """aiohttp's own refusals: no route, no method, body too long."""
    headers = {}
    if isinstance(error, web.HTTPMethodNotAllowed):
        headers["Allow"] = ", ".join(sorted(error.allowed_methods))
    return response(from_status(error.status, headers=headers))


async def _headers(request: web.Request, answer: web.StreamResponse) -> None:
    """What every answer carries; CORS for what other sites' players and encoders use."""
    headers = answer.headers
    headers.setdefault("X-Content-Type-Options", "nosniff")
    headers.setdefault("Referrer-Policy", "no-referrer")
    headers.pop("Server", None)
    for name, value in request.get(ADDED, ()):
        # What another region has answered says all but that already.
        if name == "vary" or name not in headers:
            headers.add(name, value)
    if isinstance(request.protocol, HttpHandler) and request.protocol.spare:
        answer.force_close()
    if request.path.startswith(_CORS_PATHS):
        headers["X-Server-Time"] = f"{time.time() * 1000:.1f}"
        for name, value in _CORS.items():
            headers.setdefault(name, value)
        if request.method == "OPTIONS":
            for name, value in _PREFLIGHT.items():
                headers.setdefault(name, value)


async def _preflight(_request: web.Request) -> web.Response:
    return web.Response(status=204, headers={"Allow": "GET, HEAD, POST, DELETE, OPTIONS"})

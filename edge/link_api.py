"""The route that makes play links (`edge/play_links.py`): for whoever may read or control a stream.

A link lasts as long as is asked for, within `auth.link_seconds_max` and within the right of who
asks. Nothing is stored: links cannot be listed, and one cannot be taken back by itself.
"""

from typing import Final

import msgspec
from aiohttp import web

from edge.access import Access, AuthSettings, Pass
from edge.problems import Refusal
from edge.routes import Answer, Gate, Route, stream_of
from ops.errors import Rejected


class PlayLink(msgspec.Struct, frozen=True):
    """Where to play a stream without a key, and until when."""

    url: str
    """The multivariant playlist: a path, or an address when `auth.link_origin` is set."""
    expires_unix: int


class LinkApi:
    """The route under /api/v1."""

    routes: Final = (
        Route(
            "POST",
            "/api/v1/streams/{stream}/links",
            "make_link",
            "Make a signed play link",
            {
                200: Answer("The link.", PlayLink),
                400: Answer("`seconds` is not a number within the limits."),
                409: Answer("No secret is configured to sign links with."),
            },
            action="read",
            query={"seconds": "How long it lasts, in seconds; auth.link_seconds when left out."},
        ),
    )

    def __init__(self, *, access: Access, gate: Gate, settings: AuthSettings) -> None:
        self._access = access
        self._gate = gate
        self._settings = settings

    async def make_link(self, request: web.Request) -> web.Response:
        stream = stream_of(request)
        passed = await self._admit(request, stream)
        now = int(self._access.now_unix())
        until = now + self._seconds(request)
        if passed.grant.expires_unix > 0:
            until = min(until, int(passed.grant.expires_unix))
        path = self._access.links.make(stream, until_unix=until)
        link = PlayLink(self._settings.link_origin + path, until)
        return web.Response(
            body=msgspec.json.encode(link),
            content_type="application/json",
            headers={"Cache-Control": "no-store"},
        )

    async def _admit(self, request: web.Request, stream: str) -> Pass:
        try:
            return await self._gate.admit(request, "read", stream=stream)
        except Rejected as refused:
            if refused.code != "auth.forbidden":
                raise
            return await self._gate.admit(request, "control", stream=stream)

    def _seconds(self, request: web.Request) -> int:
        text = request.query.get("seconds", str(self._settings.link_seconds))
        most = self._settings.link_seconds_max
        if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
            raise Refusal(400, f"seconds: a number from 1 to {most}", code="http.query")
        return int(text[:9])

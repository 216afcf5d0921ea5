"""What operators ask a worker: is it alive, may it get requests, its metrics, what time it has.

/livez says that the process runs; /readyz that media is there, too. /metrics is every process's, by
`ops/metrics.py`; it needs a key that may control, unless `edge.metrics_public`.
"""

import asyncio
from typing import Final

import orjson
from aiohttp import web

from edge.http_settings import HttpSettings
from edge.media_link import MediaLink
from edge.problems import Refusal
from edge.routes import Answer, Gate, Route
from ops import metrics

_OK: Final = orjson.dumps({"status": "ok"})
_RENDERED_SECONDS: Final = 0.5
"""How long one rendering of the metrics is given to everybody who asks."""


class Operations:
    """The operational routes."""

    routes: Final = (
        Route(
            "GET",
            "/livez",
            "live",
            "Whether the process runs",
            {200: Answer("It does.")},
            tag="operations",
        ),
        Route(
            "GET",
            "/readyz",
            "ready",
            "Whether the worker can serve",
            {200: Answer("It can."), 503: Answer("Media is not there yet.")},
            tag="operations",
        ),
        Route(
            "GET",
            "/metrics",
            "metrics",
            "Prometheus metrics of all processes",
            {200: Answer("The metrics.", media_type="text/plain")},
            action="control",
            tag="operations",
        ),
    )

    def __init__(self, *, link: MediaLink, gate: Gate, settings: HttpSettings) -> None:
        self._link = link
        self._gate = gate
        self._settings = settings
        self._rendered = b""
        self._rendered_at = 0.0

    async def live(self, _request: web.Request) -> web.Response:
        return _status(_OK)

    async def ready(self, _request: web.Request) -> web.Response:
        if not self._link.ready:
            raise Refusal(
                503, "media is not there yet", code="media.restarting", headers={"Retry-After": "1"}
            )
        return _status(_OK)

    async def metrics(self, request: web.Request) -> web.Response:
        if not self._settings.metrics_public:
            await self._gate.admit(request, "control", stream="")
        now = asyncio.get_running_loop().time()
        if now - self._rendered_at > _RENDERED_SECONDS:
            self._rendered, self._rendered_at = metrics.render(), now
        return web.Response(
            body=self._rendered,
            headers={"Content-Type": metrics.CONTENT_TYPE, "Cache-Control": "no-store"},
        )


def _status(body: bytes) -> web.Response:
    return web.Response(
        body=body, content_type="application/json", headers={"Cache-Control": "no-store"}
    )

"""What operators ask a worker: is it alive, may it get requests, its metrics, what time it has.

/livez and /readyz are made of the checks of `edge/health.py`; with `?verbose` they list them, one a
line. /metrics is every process's, by `ops/metrics.py`; it needs a key that may control, unless
`edge.metrics_public`.
"""

import asyncio
from typing import Final

import orjson
from aiohttp import web

from edge.health import Checks, Outcome, listing
from edge.http_settings import HttpSettings
from edge.problems import Refusal
from edge.routes import Answer, Gate, Route
from ops import metrics

_OK: Final = orjson.dumps({"status": "ok"})
_RETRY: Final = {"Retry-After": "1"}
_VERBOSE: Final = {"verbose": "List the checks as text, one a line."}
_RENDERED_SECONDS: Final = 0.5
"""How long one rendering of the metrics is given to everybody who asks."""


class Operations:
    """The operational routes."""

    routes: Final = (
        Route(
            "GET",
            "/livez",
            "live",
            "Whether the node runs",
            {200: Answer("It does."), 503: Answer("It should be started anew.")},
            query=_VERBOSE,
            tag="operations",
        ),
        Route(
            "GET",
            "/readyz",
            "ready",
            "Whether the worker can serve",
            {200: Answer("It can."), 503: Answer("Not now.", headers=("Retry-After",))},
            query=_VERBOSE,
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

    def __init__(
        self, *, liveness: Checks, readiness: Checks, gate: Gate, settings: HttpSettings
    ) -> None:
        self._liveness = liveness
        self._readiness = readiness
        self._gate = gate
        self._settings = settings
        self._rendered = b""
        self._rendered_at = 0.0

    async def live(self, request: web.Request) -> web.Response:
        return _answer(request, "livez", await self._liveness.outcomes())

    async def ready(self, request: web.Request) -> web.Response:
        return _answer(request, "readyz", await self._readiness.outcomes())

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


def _answer(request: web.Request, name: str, outcomes: tuple[Outcome, ...]) -> web.Response:
    failed = [item for item in outcomes if item.reason]
    if "verbose" in request.query:
        headers = {"Cache-Control": "no-store", **(_RETRY if failed else {})}
        status = 503 if failed else 200
        return web.Response(status=status, text=listing(name, outcomes), headers=headers)
    if failed:
        detail = "; ".join(f"{item.check}: {item.reason}" for item in failed)
        raise Refusal(503, detail, code=f"{name}.{failed[0].check}", headers=_RETRY)
    return web.Response(
        body=_OK, content_type="application/json", headers={"Cache-Control": "no-store"}
    )

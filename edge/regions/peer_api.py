"""What other regions ask this one, where the directory of tenants is kept: signed by a peer.

    GET  /regions/v1/changes?after=TURN     what has changed in the directory; 304: nothing
    POST /regions/v1/{find,reserve,confirm,release}

It is not for clients, so no description of the API names it. The rules are those of
`services/platform/placement/logic.py`.
"""

from typing import Final

import msgspec
from aiohttp import web

from edge.problems import Refusal
from edge.regions.directory import LocalDirectory
from edge.regions.peers import PATH, Answer, Batch, Question, verified
from edge.request_body import read_body
from edge.routes import Route
from ops import metrics
from ops.clock import SYSTEM, Clock
from ops.db import Database
from ops.placement import Misdirected
from ops.region_settings import RegionSettings

QUESTION_BYTES_MAX: Final = 4_096

_asked = metrics.counter(
    "nexus_regions_questions", "Questions of other regions to the directory.", ("region", "what")
)


class PeerApi:
    """The routes under /regions/v1. Owns nothing."""

    routes: Final = (
        Route("GET", f"{PATH}/changes", "changes", "What has changed in the directory", {}),
        Route("POST", f"{PATH}/{{verb}}", "ask", "A step of a claim or a move", {}),
    )

    def __init__(
        self, database: Database, settings: RegionSettings, *, region: str, clock: Clock = SYSTEM
    ) -> None:
        self._database = database
        self._settings = settings
        self._region = region
        self._clock = clock

    async def changes(self, request: web.Request) -> web.Response:
        """What has changed in the directory after a turn of it."""
        directory = self._directory(request, b"", "changes")
        text = request.query.get("after", "0")
        if not (text.isascii() and text.isdigit() and len(text) <= 18):
            raise Refusal(400, "after: a number", code="http.query")
        found = await directory.changes(int(text))
        if found is None:
            tag = f'"{text}"'
            if request.headers.get("If-None-Match") == tag:
                return web.Response(status=304, headers={"ETag": tag})
            batch = Batch((), int(text), more=False)
        else:
            batch = Batch(found.placements, found.turn, found.more)
        return _json(msgspec.json.encode(batch), tag=f'"{batch.turn}"')

    async def ask(self, request: web.Request) -> web.Response:
        """A question of one tenant, answered with its placement."""
        body = await read_body(request, QUESTION_BYTES_MAX)
        verb = request.match_info["verb"]
        directory = self._directory(request, body, verb)
        try:
            question = msgspec.json.decode(body, type=Question)
        except msgspec.DecodeError:
            raise Refusal(400, "this is no question", code="request.malformed") from None
        tenant, epoch = question.tenant, question.epoch
        match verb:
            case "find":
                found = await directory.find(tenant)
            case "reserve":
                found = await directory.reserve(tenant)
            case "confirm":
                found = await directory.confirm(tenant, epoch)
            case "release":
                found = await directory.release(tenant, epoch)
            case _:
                raise Refusal(404, "there is no such question", code="not_found")
        return _json(msgspec.json.encode(Answer(found)))

    def _directory(self, request: web.Request, body: bytes, what: str) -> LocalDirectory:
        """The directory as the region asks it that has signed this.

        Raises PeerUnknown, Misdirected: it is kept elsewhere.
        """
        region = verified(
            request.headers.get("Authorization", ""),
            self._settings,
            region=self._region,
            method=request.method,
            path=request.raw_path,
            body=body,
            now=self._clock.unix(),
        )
        kept = self._settings.directory or self._region
        if kept != self._region:
            raise Misdirected(kept)
        _asked.inc(labels=(region, what if what in _KNOWN else "other"))
        return LocalDirectory(
            self._database,
            region=region,
            lease_seconds=self._settings.lease_seconds,
            clock=self._clock,
        )


_KNOWN: Final = frozenset({"changes", "find", "reserve", "confirm", "release"})


def _json(body: bytes, *, tag: str = "") -> web.Response:
    headers = {"Cache-Control": "no-store", **({"ETag": tag} if tag else {})}
    return web.Response(body=body, content_type="application/json", headers=headers)

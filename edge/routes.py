"""What a route of the HTTP side is: one declaration for the router and the OpenAPI page.

A handler's class lists its `Route`s; `edge/http_app.py` binds them, `edge/openapi.py` describes
them.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from aiohttp import web

from edge.access import Access, Action, Caller, Pass, bearer
from edge.admission import Admission, Taker
from edge.http_head import Fields
from edge.problems import Refusal
from media.messages import Grant

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

FIELDS: Final = web.RequestKey("nexus.fields", Fields)
REMOTE: Final = web.RequestKey("nexus.remote", str)
"""The client's address: the peer's, or what a trusted proxy says."""
TAKER: Final = web.RequestKey[Taker | None]("nexus.taker", Taker)
"""On whose account the request goes; None: a free address's."""
ADDED: Final = web.RequestKey[list[tuple[str, str]]]("nexus.added", list)
"""Header fields that the answer carries whatever it is, a refusal as well."""
STREAM_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}"
SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"
PAGE_LIMIT_MAX: Final = 100
_NAME: Final = re.compile(STREAM_NAME, re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """One documented answer of a route."""

    description: str
    body: Any = None
    """A msgspec Struct, or None."""
    media_type: str = ""
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Route:
    """One method on one path."""

    method: str
    path: str
    handler: str
    """Name of the method of the class that lists the route."""
    summary: str
    answers: Mapping[int, Answer]
    action: Action | None = None
    """What a key must allow."""
    request_type: str = ""
    """Media type of the request's body."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Query parameters and what they mean."""
    tag: str = "control"
    operation: str = ""


class Routed(Protocol):
    """A class whose methods answer routes."""

    @property
    def routes(self) -> Iterable[Route]: ...


class Gate:
    """Access and limits as handlers ask for them."""

    def __init__(self, access: Access, admission: Admission) -> None:
        self._access = access
        self._admission = admission

    async def admit(
        self, request: web.Request, action: Action, *, stream: str, protocol: Any = "api"
    ) -> Pass:
        """Who asks, if that is allowed. Raises: Rejected, Unavailable (`auth.…`, `limits.…`)."""
        fields = request[FIELDS]
        caller = Caller(
            fields,
            protocol,
            token=bearer(fields.authorization),
            query=request.query_string,
            remote=request[REMOTE],
        )
        passed = await self._access.ask(caller, action, stream)
        self._admission.request(self._admission.holder(passed.grant))
        return passed

    def try_join(self, request: web.Request) -> None:
        """Before an offer's key is looked at. Raises: Refusal (429)."""
        self._admission.try_join(request[TAKER])

    def join(self, request: web.Request, passed: Pass) -> Grant:
        """Before media gets an offer: the grant for it. Raises: Refusal (429, 503)."""
        self._admission.join(passed.grant)
        return self._admission.sessions_limited(passed.grant, request[TAKER], request[REMOTE])


def stream_of(request: web.Request) -> str:
    """The stream in a route's path. Raises: Refusal (400)."""
    stream = request.match_info["stream"]
    if _NAME.fullmatch(stream) is None:
        raise Refusal(
            400,
            "a stream's name is 1 to 64 letters, digits, _ . or -, and begins with a letter or"
            " digit",
            code="stream.name",
        )
    return stream


def page_of(request: web.Request) -> tuple[str, int]:
    """`after` and `limit` of a list's query. Raises: Refusal (400)."""
    text = request.query.get("limit", str(PAGE_LIMIT_MAX))
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= PAGE_LIMIT_MAX):
        raise Refusal(400, f"limit: a number from 1 to {PAGE_LIMIT_MAX}", code="http.query")
    after = request.query.get("after", "")
    if len(after) > 128:
        raise Refusal(400, "after: at most 128 characters", code="http.query")
    return after, int(text)

"""Errors as HTTP: the one place where a kind of failure becomes a status and a problem document.

RFC 9457 `application/problem+json` for all of them, from the raw protocols (`edge/front.py`,
`edge/hls_server.py`) as from aiohttp handlers. Members: type, title, status, detail, `code`
(stable, for programs) and what else the error carries. Nothing of a bug's cause is shown: that is
logged.
"""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Final

import orjson
from aiohttp import web
from msgspec import to_builtins

from ops.errors import Field, NexusError, Unavailable
from services._kit.actor import Forbidden
from services._kit.errors import (
    Conflict,
    Invalid,
    Malformed,
    NoMatch,
    NotFound,
    Problem,
    SignedOut,
    Stale,
    UnsupportedType,
)

CONTENT_TYPE: Final = "application/problem+json"
REALM: Final = "nexus"

STATUS_OF_CODE: Final[Mapping[str, int]] = {
    "sdp.malformed": 400,
    "sdp.not_acceptable": 406,
    "stream.not_live": 409,
    "stream.already_published": 409,
    "stream.unknown": 404,
    "stream.name": 400,
    "session.unknown": 404,
    "limits.sessions": 429,
    "media.overloaded": 503,
    "media.restarting": 503,
    "media.silent": 504,
    "auth.missing": 401,
    "auth.invalid": 401,
    "auth.expired": 401,
    "auth.forwarded": 401,
    "auth.forbidden": 403,
    "auth.unavailable": 503,
    "link.invalid": 403,
    "link.expired": 410,
    "link.disabled": 409,
    "db.duplicate": 409,
    "db.violation": 422,
    "version.conflict": 409,
    "projection.behind": 425,
    "projection.unwritten": 422,
    "event.too_large": 413,
    "live.tenant_full": 429,
    "placement.misdirected": 421,
    "placement.moved": 409,
}
"""Statuses of codes that are raised elsewhere; other Rejected are 400, other Unavailable 503."""

_STATUS_OF_KIND: Final[tuple[tuple[type[NexusError], int], ...]] = (
    (Malformed, 400),
    (SignedOut, 401),
    (Forbidden, 403),
    (NotFound, 404),
    (Conflict, 409),
    (Stale, 412),
    (UnsupportedType, 415),
    (Invalid, 422),
    (NoMatch, 428),
)
"""Statuses of what calls of services fail of, whatever their code."""

_EMPTY: Final[Mapping[str, str]] = {}


class Refusal(NexusError):  # noqa: N818  what a handler answers, not what has gone wrong
    """An answer that is a problem, raised by edge itself with its status and headers."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str,
        headers: Mapping[str, str] = _EMPTY,
        fields: Mapping[str, Field] | None = None,
        errors: Sequence[Problem] = (),
    ) -> None:
        assert 400 <= status <= 599, status
        super().__init__(message, code=code, fields=fields)
        self.status = status
        self.headers = headers
        self.errors = errors
        """The faults of single fields."""


def refusal(error: NexusError) -> Refusal:
    """What edge answers to an error of any room."""
    if isinstance(error, Refusal):
        return error
    unavailable = isinstance(error, Unavailable)
    status = STATUS_OF_CODE.get(error.code, 503 if unavailable else _status_of_kind(error))
    headers: dict[str, str] = {}
    if isinstance(error, Unavailable) and error.retry_after_seconds:
        headers["Retry-After"] = str(error.retry_after_seconds)
    if status == 401:
        headers["WWW-Authenticate"] = _challenge(error.code)
    return Refusal(
        status,
        error.message,
        code=error.code,
        headers=headers,
        fields=error.fields,
        errors=error.problems if isinstance(error, Invalid | Malformed) else (),
    )


def _status_of_kind(error: NexusError) -> int:
    return next((status for kind, status in _STATUS_OF_KIND if isinstance(error, kind)), 400)


def _challenge(code: str) -> str:
    if code == "auth.missing":
        return f'Bearer realm="{REALM}"'
    return f'Bearer realm="{REALM}", error="invalid_token"'


def document(problem: Refusal) -> bytes:
    """The JSON of a problem."""
    return orjson.dumps(
        {
            **problem.fields,
            "type": "about:blank",
            "title": HTTPStatus(problem.status).phrase,
            "status": problem.status,
            "detail": problem.message,
            "code": problem.code,
            **({"errors": to_builtins(problem.errors)} if problem.errors else {}),
        }
    )


def response(problem: Refusal) -> web.Response:
    """The problem as an answer of aiohttp's."""
    headers = {"Cache-Control": "no-store", **problem.headers}
    return web.Response(
        status=problem.status, body=document(problem), content_type=CONTENT_TYPE, headers=headers
    )


def wire(problem: Refusal, *, close: bool, head_only: bool = False) -> bytes:
    """The problem as a whole HTTP/1.1 response for protocols that write bytes themselves."""
    body = document(problem)
    lines = [
        f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}",
        f"Content-Type: {CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        "Cache-Control: no-store",
        "Access-Control-Allow-Origin: *",
        *(f"{name}: {value}" for name, value in problem.headers.items()),
        *(("Connection: close",) if close else ()),
    ]
    head = "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"
    return head if head_only else head + body


def from_status(status: int, *, headers: Mapping[str, str] = _EMPTY, detail: str = "") -> Refusal:
    """A problem that has no more to say than its status."""
    phrase = HTTPStatus(status).phrase
    code = "http." + phrase.lower().replace(" ", "_").replace("'", "").replace("-", "_")
    return Refusal(status, detail or phrase, code=code, headers=headers)

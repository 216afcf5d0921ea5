"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-03): sessions made, trickled into and ended.

Both are the same handlers, told apart by their `Kind`. A session's resource lies under the endpoint
it was made at, is named by media's unguessable id, and answers to the same subject only; its entity
tag and ICE user fragment are kept by media, so any worker serves it. Candidates in a trickle
fragment are read and not needed: we are ICE-lite. SDP is media's business. ICE restarts are refused
(422) so far.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Final, Literal

from aiohttp import web
from multidict import CIMultiDict

from edge.access import Pass
from edge.cuts import cut
from edge.http_settings import HttpSettings, IceServer
from edge.media_link import MediaLink
from edge.problems import Refusal
from edge.routes import FRAGMENT, SDP, Answer, Gate, Route, stream_of
from edge.trickle import parse
from media.messages import Answered, SessionInfo
from ops.errors import Rejected


@dataclass(frozen=True, slots=True)
class Kind:
    """WHIP or WHEP."""

    name: Literal["whip", "whep"]
    action: Literal["publish", "read"]
    session: Literal["publisher", "viewer"]


WHIP: Final = Kind("whip", "publish", "publisher")
WHEP: Final = Kind("whep", "read", "viewer")

_ENDPOINT_METHODS: Final = "GET, HEAD, OPTIONS, POST"
_SESSION_METHODS: Final = "DELETE, GET, HEAD, OPTIONS, PATCH"


class Signalling:
    """The routes of WHIP or of WHEP."""

    def __init__(self, kind: Kind, *, link: MediaLink, gate: Gate, settings: HttpSettings) -> None:
        self._kind = kind
        self._link = link
        self._gate = gate
        self._settings = settings
        self.routes = routes(kind)

    async def discover(self, request: web.Request) -> web.Response:
        """GET, HEAD and OPTIONS of the endpoint: what it takes, and the ICE servers."""
        stream_of(request)
        headers = self._links()
        headers["Accept-Post"] = SDP
        headers["Allow"] = _ENDPOINT_METHODS
        if request.method == "HEAD" and self._kind is WHEP:
            headers["Content-Type"] = SDP
            return web.Response(status=200, headers=headers)
        return web.Response(status=204, headers=headers)

    async def make(self, request: web.Request) -> web.Response:
        """POST of an offer: 201 with the answer and the session's URL."""
        asked_at = time.monotonic()
        stream = stream_of(request)
        kind = self._kind
        self._gate.try_join(request)
        passed = await self._gate.admit(request, kind.action, stream=stream, protocol=kind.name)
        offer = await self._body(request, SDP)
        grant = self._gate.join(request, passed)
        join = self._link.publish if kind is WHIP else self._link.play
        answered = await join(stream, offer=offer, grant=grant, asked_at=asked_at)
        return self._created(stream, answered)

    async def look(self, request: web.Request) -> web.Response:
        """GET, HEAD and OPTIONS of a session: it has no representation, but it is there."""
        stream_of(request)
        if request.method != "OPTIONS":
            await self._session(request)
        headers = {"Accept-Patch": FRAGMENT, "Allow": _SESSION_METHODS}
        return web.Response(status=204, headers=headers)

    async def trickle(self, request: web.Request) -> web.Response:
        """PATCH of a session: candidates. An ICE restart is refused, the session goes on."""
        info = await self._session(request)
        tags = request.headers.get("If-Match")
        fragment = parse((await self._body(request, FRAGMENT)).encode())
        if tags is None:
            raise Refusal(
                428, "If-Match with the session's entity tag is needed", code="ice.tag_missing"
            )
        if tags.strip() not in ("*", '"*"') and not _matches(tags, info.etag):
            raise Refusal(
                412, "this is not the entity tag of the present ICE session", code="ice.tag_wrong"
            )
        if info.remote_ufrag and fragment.ufrag != info.remote_ufrag:
            raise Refusal(
                422,
                "this is an ICE restart (another ice-ufrag), which is not done here: make a new"
                " session",
                code="ice.restart",
            )
        return web.Response(status=204)

    async def end(self, request: web.Request) -> web.Response:
        """DELETE of a session."""
        info = await self._session(request)
        await self._link.close(info.session, stream=info.stream)
        return web.Response(status=200)

    async def _session(self, request: web.Request) -> SessionInfo:
        """The session in the path. Raises: Rejected, of another subject too (`auth.forbidden`)."""
        stream = stream_of(request)
        passed = await self._gate.admit(
            request, self._kind.action, stream=stream, protocol=self._kind.name
        )
        info = await self._link.session(request.match_info["session"], stream=stream)
        if info.kind != self._kind.session or info.stream != stream:
            raise Rejected("there is no such session", code="session.unknown")
        if not _same(passed, info):
            raise Rejected("this session is somebody else's", code="auth.forbidden")
        return info

    async def _body(self, request: web.Request, media_type: str) -> str:
        """The body's text. Raises: Refusal (400, 408, 413, 415)."""
        _check_type(request, media_type)
        if (request.content_length or 0) > self._settings.sdp_bytes_max:
            raise _too_long(self._settings.sdp_bytes_max)
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                data = await request.read()
        except TimeoutError:
            cut("body_slow")
            raise Refusal(408, "the body took too long", code="http.body_too_slow") from None
        if len(data) > self._settings.sdp_bytes_max:
            raise _too_long(self._settings.sdp_bytes_max)
        if not data.strip():
            raise Refusal(400, f"the body is empty; {media_type} is needed", code="sdp.malformed")
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Refusal(400, "the body is not UTF-8", code="sdp.malformed") from None

    def _created(self, stream: str, answered: Answered) -> web.Response:
        headers = self._links()
        headers["Location"] = f"/{self._kind.name}/{stream}/{answered.session}"
        headers["ETag"] = f'"{answered.etag}"'
        headers["Accept-Patch"] = FRAGMENT
        headers["Content-Type"] = SDP
        headers["Cache-Control"] = "no-store"
        return web.Response(status=201, body=answered.sdp.encode(), headers=headers)

    def _links(self) -> CIMultiDict[str]:
        headers: CIMultiDict[str] = CIMultiDict()
        for server in self._settings.ice_servers:
            headers.add("Link", _link(server))
        return headers


def _same(passed: Pass, info: SessionInfo) -> bool:
    return passed.grant.subject == info.subject or "control" in passed.grant.actions


def _matches(field: str, etag: str) -> bool:
    """Whether If-Match names the tag (strong comparison); a session without one matches none."""
    tags = [tag.strip() for tag in field.split(",")]
    return bool(etag) and f'"{etag}"' in tags


def _check_type(request: web.Request, media_type: str) -> None:
    given, _, parameters = request.headers.get("Content-Type", "").partition(";")
    name, _, value = parameters.strip().partition("=")
    charset = value.strip('" ').lower()
    sound = not parameters or (name.strip().lower() == "charset" and charset in ("utf-8", "utf8"))
    if given.strip().lower() != media_type or not sound:
        raise Refusal(
            415,
            f"Content-Type is not {media_type}",
            code="http.media_type",
            headers={"Accept-Post" if media_type == SDP else "Accept-Patch": media_type},
        )


def _too_long(limit: int) -> Refusal:
    return Refusal(413, f"the body is longer than {limit} bytes", code="http.body_too_long")


def _link(server: IceServer) -> str:
    parts = [f"<{server.url}>", 'rel="ice-server"']
    if server.username:
        parts.append(f'username="{server.username}"')
        parts.append(f'credential="{server.credential}"')
        parts.append('credential-type="password"')
    return "; ".join(parts)


def routes(kind: Kind) -> tuple[Route, ...]:
    """What the protocol answers to."""
    return (*_endpoint_routes(kind), *_session_routes(kind))


def _endpoint_routes(kind: Kind) -> tuple[Route, ...]:
    path = f"/{kind.name}/{{stream}}"
    found = {204: Answer("It is there.", headers=("Accept-Post", "Link"))}
    taken = Answer("Somebody publishes this stream, and the policy is to refuse others.")
    if kind is WHEP:
        found = {200: Answer("It is there.", headers=("Accept-Post", "Link")), **found}
        taken = Answer("Nobody publishes this stream now.", headers=("Retry-After",))
    made = {
        201: Answer(
            "The session is made; the body is the SDP answer.",
            media_type=SDP,
            headers=("Location", "ETag", "Link", "Accept-Patch"),
        ),
        400: Answer("The SDP cannot be read; `detail` names the line."),
        406: Answer("Nothing in the offer can be served; `detail` says why."),
        409: taken,
        413: Answer("The offer is too long."),
        415: Answer("The body is not application/sdp."),
        429: Answer("Too much from one address or key.", headers=("Retry-After",)),
        503: Answer("No room, or media is restarting.", headers=("Retry-After",)),
    }
    discovery = (
        Route(method, path, "discover", f"Discover {kind.name.upper()}", found, tag=kind.name)
        for method in ("GET", "HEAD", "OPTIONS")
    )
    make = Route(
        "POST",
        path,
        "make",
        "Publish a stream" if kind is WHIP else "Play a stream",
        made,
        action=kind.action,
        request_type=SDP,
        tag=kind.name,
    )
    return (*discovery, make)


def _session_routes(kind: Kind) -> tuple[Route, ...]:
    path = f"/{kind.name}/{{stream}}/{{session}}"
    gone = {404: Answer("There is no such session.")}
    trickled = {
        204: Answer("The candidates are taken."),
        400: Answer("The fragment cannot be read."),
        412: Answer("If-Match names another ICE session."),
        415: Answer("The body is not application/trickle-ice-sdpfrag."),
        422: Answer("This is an ICE restart, which is not done."),
        428: Answer("If-Match is missing."),
        **gone,
    }
    looks = (
        Route(
            method,
            path,
            "look",
            f"Whether a {kind.name.upper()} session is there",
            {204: Answer("It is there.")} | ({} if method == "OPTIONS" else gone),
            action=None if method == "OPTIONS" else kind.action,
            tag=kind.name,
        )
        for method in ("GET", "HEAD", "OPTIONS")
    )
    trickle = Route(
        "PATCH",
        path,
        "trickle",
        "Add ICE candidates",
        trickled,
        action=kind.action,
        request_type=FRAGMENT,
        tag=kind.name,
    )
    end = Route(
        "DELETE",
        path,
        "end",
        "End a session",
        {200: Answer("The session has ended."), **gone},
        action=kind.action,
        tag=kind.name,
    )
    return (*looks, trickle, end)

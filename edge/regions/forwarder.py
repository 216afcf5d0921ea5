"""Passes a request on to another region and its answer back, as both come: nothing is kept.

The caller's own credential goes along and is checked again at home. Fields of one connection
(RFC 9110, section 7.6.1), `x-nexus-*` and what others say of whom they forward for stay behind; our
own `X-Forwarded-*`, `Via` and `Nexus-Forward: no` are added, with which the home never passes it on
again. What goes wrong is told by Proxy-Status (RFC 9209):

    no connection                        503, Retry-After: nothing has been sent
    no answer, or the connection broke   503, Retry-After, if it may be repeated: a read, PUT,
                                         DELETE, or with Idempotency-Key; else 502 or 504, since
                                         nobody here knows whether it was done
    the home says that it is not         503, Retry-After: the tenant moves just now

No request is sent twice.
"""

import asyncio
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Final, NamedTuple, Self

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from edge.gateway.fields import to_client, to_upstream
from edge.problems import Refusal
from edge.request_body import go_on
from edge.routes import REMOTE
from ops import metrics
from ops.placement import RETRY_SECONDS, Unplaced
from ops.region_settings import PeerSettings, RegionSettings

FORWARD: Final = "Nexus-Forward"
"""The field by which a caller says `no`: answer 421 rather than pass the request on."""
MISDIRECTED: Final = 421
_KEEP_ALIVE_SECONDS: Final = 5.0
"""Shorter than a region keeps an idle connection, so that none is used that is just closed."""
_REPEATABLE: Final = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_SKIPPED: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")

_passed = metrics.counter(
    "nexus_regions_forwarded",
    "Requests passed on to other regions, by the class of the answer or what went wrong.",
    ("region", "outcome"),
)
_under_way = metrics.gauge("nexus_regions_forwarding", "Requests being passed on just now.")
_broken_off = metrics.counter(
    "nexus_regions_broken_off", "Answers of other regions that broke off or stood still too long."
)
_full = metrics.counter(
    "nexus_regions_forwards_refused", "Requests not passed on: too many were under way."
)


class _Fault(NamedTuple):
    """What has gone wrong with a request to another region."""

    kind: str
    """A type of RFC 9209, section 2.3."""
    sent: bool
    """Whether the other region may have got it."""


class Forwarder:
    """Passes requests on for one worker. `async with` it.

    Owns: an HTTP client session and its connections.
    """

    def __init__(self, settings: RegionSettings, *, region: str) -> None:
        """region: this one."""
        self._settings = settings
        self._region = region
        self._count = 0
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        settings = self._settings
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=settings.forwards_max, keepalive_timeout=_KEEP_ALIVE_SECONDS
            ),
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_seconds, sock_read=settings.idle_seconds
            ),
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        # aiohttp would send idempotent requests again by itself.
        self._session._retry_connection = False  # noqa: SLF001
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def forward(self, request: web.Request, peer: PeerSettings) -> web.StreamResponse:
        """The other region's answer, sent. Raises Refusal (502, 504), Unplaced, Refusal (503)."""
        if self._count >= self._settings.forwards_max:
            _full.inc()
            raise self._unavailable("too many requests are passed on just now", "busy", peer)
        self._count += 1
        _under_way.inc()
        try:
            answer = await self._asked(request, peer)
            try:
                return await self._passed(request, answer, peer)
            finally:
                answer.close()
        finally:
            self._count -= 1
            _under_way.dec()

    async def _asked(self, request: web.Request, peer: PeerSettings) -> aiohttp.ClientResponse:
        """The head of the other region's answer."""
        assert self._session is not None, "not entered"
        try:
            async with asyncio.timeout(self._settings.answer_seconds):
                return await self._session.request(
                    request.method,
                    URL(peer.url + request.raw_path, encoded=True),
                    headers=self._headers(request),
                    data=_body(request) if request.body_exists else None,
                    allow_redirects=False,
                    skip_auto_headers=_SKIPPED,
                )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            raise self._failed(request, _cause(error), peer) from error

    async def _passed(
        self, request: web.Request, answer: aiohttp.ClientResponse, peer: PeerSettings
    ) -> web.StreamResponse:
        """Sends the answer on, as it comes."""
        _passed.inc(labels=(peer.region, f"{answer.status // 100}xx"))
        if answer.status == MISDIRECTED:
            raise Unplaced("this tenant is moving to another region", code="placement.moving")
        headers = CIMultiDict(to_client(answer.headers.items()))
        if (length := answer.headers.get("Content-Length")) is not None:
            headers["Content-Length"] = length
        headers.add("Proxy-Status", f"nexus-{self._region}; next-hop={peer.region}")
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        try:
            async for piece in answer.content.iter_any():
                await response.write(piece)
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError) as error:
            _broken_off.inc()
            # Whoever reads must see that the answer is not whole: no end is written.
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionResetError("another region's answer broke off") from error
        await response.write_eof()
        return response

    def _headers(self, request: web.Request) -> CIMultiDict[str]:
        """What the home gets to see."""
        headers = CIMultiDict(to_upstream(request.headers.items(), keep_authorization=True))
        if request.content_length is not None:
            headers["Content-Length"] = str(request.content_length)
        via = ", ".join(request.headers.getall("Via", []))
        headers["Via"] = f"{via}, 1.1 nexus-{self._region}" if via else f"1.1 nexus-{self._region}"
        headers["X-Forwarded-For"] = request.get(REMOTE) or request.remote or "unknown"
        headers["X-Forwarded-Proto"] = request.scheme
        headers["X-Forwarded-Host"] = request.host
        headers["X-Nexus-Timeout-Ms"] = str(int(self._settings.answer_seconds * 1_000))
        headers[FORWARD] = "no"
        return headers

    def _failed(self, request: web.Request, fault: _Fault, peer: PeerSettings) -> Refusal:
        _passed.inc(labels=(peer.region, fault.kind))
        repeatable = request.method in _REPEATABLE or "Idempotency-Key" in request.headers
        if not fault.sent or repeatable:
            return self._unavailable("this tenant's region cannot be reached", fault.kind, peer)
        return Refusal(
            504 if fault.kind == "http_response_timeout" else 502,
            "this tenant's region did not answer: whether this was done is not known",
            code="placement.unanswered",
            headers={"Proxy-Status": self._status(fault.kind, peer)},
            fields={"region": peer.region},
        )

    def _unavailable(self, message: str, kind: str, peer: PeerSettings) -> Refusal:
        error = "connection_limit_reached" if kind == "busy" else kind
        return Refusal(
            503,
            message,
            code="placement.away",
            headers={
                "Retry-After": str(RETRY_SECONDS),
                "Proxy-Status": self._status(error, peer),
            },
            fields={"region": peer.region},
        )

    def _status(self, error: str, peer: PeerSettings) -> str:
        return f"nexus-{self._region}; error={error}; next-hop={peer.region}"


async def _body(request: web.Request) -> AsyncIterator[bytes]:
    await go_on(request)
    async for piece in request.content.iter_any():
        yield piece


_CAUSES: Final[tuple[tuple[type[BaseException], _Fault], ...]] = (
    (aiohttp.ConnectionTimeoutError, _Fault("connection_timeout", sent=False)),
    (aiohttp.ClientConnectorDNSError, _Fault("dns_error", sent=False)),
    (aiohttp.ClientConnectorCertificateError, _Fault("tls_certificate_error", sent=False)),
    (aiohttp.ClientConnectorSSLError, _Fault("tls_protocol_error", sent=False)),
    (aiohttp.ClientConnectorError, _Fault("connection_refused", sent=False)),
    (TimeoutError, _Fault("http_response_timeout", sent=True)),
    (aiohttp.ClientConnectionError, _Fault("connection_terminated", sent=True)),
    (OSError, _Fault("connection_terminated", sent=True)),
)
"""In the words of RFC 9209, section 2.3; the first that fits."""


def _cause(error: BaseException) -> _Fault:
    """What has gone wrong."""
    for kind, fault in _CAUSES:
        if isinstance(error, kind):
            return fault
    return _Fault("http_protocol_error", sent=True)

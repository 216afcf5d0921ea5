"""Hangs the gateway into the HTTP side: aiohttp's requests in, its answers out.

Whatever no route of the media side answers comes here. A body that says that it is too long is
refused unread, one that does not say so once it is; how slowly it may come is bounded as elsewhere.
"""

import asyncio
from urllib.parse import unquote

from aiohttp import web
from multidict import CIMultiDict

from edge.cuts import cut
from edge.gateway.exchange import Answer, Body, Inbound, Nothing, Stream, check_length
from edge.gateway.gateway import Gateway
from edge.problems import Refusal
from edge.request_body import go_on
from edge.routes import ADDED, REMOTE


class GatewayHttp:
    """The handler of all requests that are the gateway's."""

    def __init__(self, gateway: Gateway, *, body_seconds: float) -> None:
        self._gateway = gateway
        self._body_seconds = body_seconds

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answers a request. Raises Refusal: it cannot be read."""
        answer = await self._gateway.answer(self.inbound(request))
        if answer.sent is not None:
            return answer.sent
        return await send(answer, request)

    def beside(self, request: web.Request) -> Inbound:
        """The same for a handler beside the gateway's, whose answer has CORS fields as well."""
        inbound = self.inbound(request)
        request[ADDED] = self._gateway.cross_origin(inbound)
        return inbound

    def inbound(self, request: web.Request) -> Inbound:
        """The request as the gateway takes it. Raises Refusal (400)."""
        raw_path, _, query = request.raw_path.partition("?")
        return Inbound(
            request.method,
            raw_path,
            _decoded(raw_path) if "%" in raw_path else raw_path,
            query,
            request.headers,
            ReadBody(request, self._body_seconds) if request.body_exists else Nothing(),
            host=request.headers.get("Host", "").lower(),
            scheme="https" if request.secure else "http",
            address=request.get(REMOTE, ""),
            raw=request,
        )


class ReadBody(Body):
    """The body of one of aiohttp's requests."""

    def __init__(self, request: web.Request, seconds: float) -> None:
        self._request = request
        self._content = request.content
        self._length = request.content_length
        self._read_bytes = 0
        self._until = asyncio.get_running_loop().time() + seconds

    @property
    def length(self) -> int | None:
        return self._length

    async def read(self, bytes_max: int) -> bytes:
        pieces = []
        while piece := await self.piece(bytes_max):
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def piece(self, bytes_max: int) -> bytes:
        """What comes next; the first time, a client that waits is told to go on."""
        check_length(self._length, bytes_max)
        await go_on(self._request)
        try:
            async with asyncio.timeout_at(self._until):
                piece: bytes = await self._content.readany()
        except TimeoutError:
            cut("body_slow")
            raise Refusal(408, "the body took too long", code="http.body_too_slow") from None
        except web.RequestPayloadError:
            raise Refusal(400, "the body cannot be read", code="http.malformed") from None
        self._read_bytes += len(piece)
        check_length(self._read_bytes, bytes_max)
        return piece


async def send(answer: Answer, request: web.Request) -> web.StreamResponse:
    """Sends an answer. Raises ConnectionResetError: it broke off, and so does the connection."""
    headers = CIMultiDict(answer.headers)
    if answer.stream is None:
        whole = web.Response(status=answer.status, body=answer.body or None, headers=headers)
        if answer.close:
            whole.force_close()
        return whole
    stream = answer.stream
    try:
        sent = web.StreamResponse(status=answer.status, headers=headers)
        if answer.close:
            sent.force_close()
        await sent.prepare(request)
        if request.method != "HEAD":
            await _pass_on(stream, sent, request)
        await sent.write_eof()
    finally:
        stream.close()
    return sent


async def _pass_on(stream: Stream, sent: web.StreamResponse, request: web.Request) -> None:
    try:
        while piece := await stream.read():
            await sent.write(piece)
    except ConnectionResetError:
        # Whoever reads must see that this is not the end.
        if request.transport is not None:
            request.transport.abort()
        raise


def _decoded(raw_path: str) -> str:
    try:
        return unquote(raw_path, errors="strict")
    except UnicodeDecodeError:
        raise Refusal(400, "the path is not UTF-8", code="http.malformed") from None

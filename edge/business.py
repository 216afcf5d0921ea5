"""Business services over HTTP: an aiohttp request becomes a call of the kit's, its reply an answer.

Services hold no HTTP, so that this is the one place that reads their requests and writes their
answers. Which operation a request is for, who asks and how often, the gateway has decided before.
"""

from collections.abc import Mapping

from aiohttp import web

from edge.problems import Refusal
from services._kit.actor import Actor
from services._kit.call import Reply, Request, Runtime
from services._kit.operation import Operation
from services._kit.wire import WireRequest


async def serve(
    runtime: Runtime,
    operation: Operation,
    request: web.Request,
    *,
    path: Mapping[str, str],
    actor: Actor,
) -> web.Response:
    """Answers a request with an operation. path: the parameters of the operation's path, decoded.

    Raises: NexusError.
    """
    body = await read_body(request, operation.route.body_bytes_max)
    headers = request.headers
    call = Request(
        actor=actor,
        path=path,
        query=request.rel_url.raw_query_string,
        body=body,
        content_type=headers.get("Content-Type", ""),
        if_match=headers.get("If-Match", ""),
        if_none_match=headers.get("If-None-Match", ""),
        idempotency_key=headers.get("Idempotency-Key", ""),
        wire=_wire(request, body) if operation.route.wire else None,
    )
    return answer(await runtime.call(operation, call))


def answer(reply: Reply) -> web.Response:
    """The reply as aiohttp sends it. What services answer is nobody else's unless they say so."""
    if reply.wire is not None:
        sent = web.Response(status=reply.wire.status, body=reply.wire.body)
        for name, value in reply.wire.headers:
            sent.headers.add(name, value)
        return sent
    return web.Response(
        status=reply.status,
        body=reply.body or None,
        headers={"Cache-Control": "private, no-cache", **reply.headers},
    )


async def read_body(request: web.Request, bytes_max: int) -> bytes:
    """The whole body. Raises: Refusal (413) before more than `bytes_max` are held."""
    if not request.body_exists:
        return b""
    length = request.content_length
    if length is not None and length > bytes_max:
        raise _too_large(bytes_max)
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > bytes_max:
            raise _too_large(bytes_max)
        chunks.append(chunk)
    return b"".join(chunks)


def _too_large(bytes_max: int) -> Refusal:
    return Refusal(
        413,
        f"the body is longer than {bytes_max} bytes",
        code="http.body_too_long",
        headers={"Connection": "close"},
        fields={"bytes_max": bytes_max},
    )


def _wire(request: web.Request, body: bytes) -> WireRequest:
    return WireRequest(
        method=request.method,
        path=request.path,
        query=request.rel_url.raw_query_string,
        headers=tuple((name.lower(), value) for name, value in request.headers.items()),
        body=body,
    )

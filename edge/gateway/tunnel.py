"""WebSocket connections (RFC 6455) passed on to an upstream: messages both ways until either ends.

The upstream is asked first, so that a client's handshake succeeds only if the server's has, with
the subprotocol that the server chose. Pings are answered on each side by itself. Messages longer
than `MESSAGE_BYTES_MAX` end the connection, as does a side that takes none for too long.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web
from yarl import URL

from edge.gateway.balancer import Server
from edge.gateway.exchange import Answer
from edge.gateway.fields import PROXY_ERRORS, first, proxy_status
from edge.gateway.proxy import Outbound, cause_of, left_alone
from edge.gateway.upstreams import Known
from edge.problems import Refusal
from ops import metrics

MESSAGE_BYTES_MAX: Final = 1_048_576
SEND_SECONDS: Final = 30.0
"""How long a side may take to accept one message."""
HEARTBEAT_SECONDS: Final = 30.0
_HANDSHAKE: Final = (
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-extensions",
    "sec-websocket-protocol",
)

_open = metrics.gauge("nexus_gateway_tunnels", "WebSocket connections passed on to upstreams.")


def wanted(method: str, *, upgrade: str) -> bool:
    """Whether a request asks for a WebSocket."""
    return method == "GET" and upgrade.lower() == "websocket"


async def pass_on(
    session: aiohttp.ClientSession,
    upstream: Known,
    request: web.Request,
    outbound: Outbound,
    clock: Callable[[], float],
) -> Answer:
    """Joins the client's WebSocket to one of the upstream's, until either ends.

    Raises Refusal: 502, 504 when the upstream does not take it, 503 while it is left alone.
    """
    began = clock()
    ticket = upstream.admit(began)
    if ticket is None:
        raise left_alone(upstream, began)
    server = upstream.balancer.pick(began, key=outbound.hash_key)
    ok: bool | None = None
    seconds = 0.0
    try:
        try:
            async with asyncio.timeout(outbound.deadline - began):
                theirs = await _connected(session, server, outbound)
            ok = True
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            # That there is no WebSocket at this path says nothing of the server.
            answered = isinstance(error, aiohttp.WSServerHandshakeError) and error.status < 500
            ok = None if answered else False
            raise _refused(upstream, error) from error
        finally:
            seconds = clock() - began
            upstream.settle(ticket, ok=ok, seconds=seconds, now=clock())
            upstream.report(clock())
        async with theirs:
            chosen = (theirs.protocol,) if theirs.protocol else ()
            ours = web.WebSocketResponse(
                protocols=chosen, max_msg_size=MESSAGE_BYTES_MAX, heartbeat=HEARTBEAT_SECONDS
            )
            await ours.prepare(request)
            _open.inc()
            try:
                await _join(ours, theirs)
            finally:
                _open.dec()
        return Answer(101, sent=ours)
    finally:
        # As long as it is open it is something that the server has to do.
        upstream.balancer.settle(server, ok=ok, seconds=seconds, now=clock())


async def _connected(
    session: aiohttp.ClientSession, server: Server, outbound: Outbound
) -> aiohttp.ClientWebSocketResponse[bool]:
    offered = first(outbound.headers, "sec-websocket-protocol").split(",")
    return await session.ws_connect(
        URL(server.url.replace("http", "ws", 1) + outbound.target, encoded=True),
        protocols=[one.strip() for one in offered if one.strip()],
        headers=[pair for pair in outbound.headers if pair[0] not in _HANDSHAKE],
        max_msg_size=MESSAGE_BYTES_MAX,
        heartbeat=HEARTBEAT_SECONDS,
    )


def _refused(upstream: Known, error: BaseException) -> Refusal:
    cause = cause_of(error)
    status, code = PROXY_ERRORS[cause]
    return Refusal(
        status,
        "who answers this takes no WebSocket",
        code=code,
        headers={"Proxy-Status": proxy_status(cause)},
        fields={"upstream": upstream.rule.name},
    )


async def _join(ours: Any, theirs: Any) -> None:
    async with asyncio.TaskGroup() as group:
        up = group.create_task(_copy(ours, theirs))
        down = group.create_task(_copy(theirs, ours))
        up.add_done_callback(lambda _: down.cancel())
        down.add_done_callback(lambda _: up.cancel())


async def _copy(source: Any, target: Any) -> None:
    """Passes messages on until the source ends; the target is then closed the same way."""
    code: int = WSCloseCode.GOING_AWAY
    try:
        async for message in source:
            async with asyncio.timeout(SEND_SECONDS):
                if message.type == WSMsgType.TEXT:
                    await target.send_str(message.data)
                elif message.type == WSMsgType.BINARY:
                    await target.send_bytes(message.data)
        code = source.close_code or WSCloseCode.OK
    except (ConnectionError, TimeoutError, aiohttp.ClientError):
        code = WSCloseCode.INTERNAL_ERROR
    if code in {1005, 1006}:
        code = WSCloseCode.GOING_AWAY
    await target.close(code=code)

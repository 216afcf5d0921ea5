"""WebSocket connections (RFC 6455) passed on to an upstream: messages both ways until either ends.

The upstream is asked first, so that a client's handshake succeeds only if the server's has, with
the subprotocol that the server chose. Pings are answered on each side by itself. Messages longer
than `MESSAGE_BYTES_MAX` end the connection, as does a side that takes none for too long.
"""

import asyncio
from typing import Any, Final

import aiohttp
from aiohttp import WSCloseCode, WSMsgType, web
from yarl import URL

from edge.gateway.exchange import Answer
from edge.gateway.fields import Pairs, first, proxy_status
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
    *,
    target: str,
    headers: Pairs,
    now: float,
) -> Answer:
    """Joins the client's WebSocket to one of the upstream's, until either ends.

    Raises Refusal (502) when the upstream does not take it.
    """
    protocols = [
        one.strip() for one in first(headers, "sec-websocket-protocol").split(",") if one.strip()
    ]
    server = upstream.balancer.pick(now)
    url = URL(server.url.replace("http", "ws", 1) + target, encoded=True)
    ok: bool | None = None
    try:
        try:
            theirs = await session.ws_connect(
                url,
                protocols=protocols,
                headers=[pair for pair in headers if pair[0] not in _HANDSHAKE],
                max_msg_size=MESSAGE_BYTES_MAX,
                heartbeat=HEARTBEAT_SECONDS,
            )
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            ok = False
            raise Refusal(
                502,
                "who answers this takes no WebSocket",
                code="gateway.connection_refused",
                headers={"Proxy-Status": proxy_status("connection_refused")},
                fields={"upstream": upstream.rule.name},
            ) from error
        ok = True
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
        upstream.balancer.settle(server, ok=ok, seconds=0.0, now=now)


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

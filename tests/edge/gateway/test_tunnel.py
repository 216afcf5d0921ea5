"""WebSockets passed on to an upstream."""

import asyncio

import aiohttp
import pytest
from aiohttp import WSMsgType

from tests.edge.conftest import eventually
from tests.edge.gateway.conftest import Made
from tests.fakes.fault_upstream import FaultUpstream
from tests.fakes.small_gateway import SmallGateway, route, to


@pytest.fixture
async def chat(gateway: SmallGateway, upstream: FaultUpstream) -> SmallGateway:
    gateway.configure(upstreams=[to(upstream)], routes=[route(access="signed_in")])
    upstream.always = upstream.socket
    return gateway


async def test_messages_pass_both_ways(chat: SmallGateway, upstream: FaultUpstream) -> None:
    async with chat.client.ws_connect("/shop/chat?room=1", headers=chat.bearer()) as socket:
        await socket.send_str("hello")
        assert await socket.receive_json() == {"by": "up", "said": "hello"}
        await socket.send_bytes(b"abc")
        assert await socket.receive_bytes() == b"cba"
        await socket.send_str("bye")
        message = await socket.receive()
        assert (message.type, message.data) == (WSMsgType.CLOSE, 4_001)
    (seen,) = upstream.seen
    assert seen.path == "/shop/chat?room=1"
    assert seen.headers["x-nexus-subject"] == "ada"
    assert "authorization" not in seen.headers


async def test_the_server_chooses_the_subprotocol(chat: SmallGateway) -> None:
    async with chat.client.ws_connect(
        "/shop/chat", headers=chat.bearer(), protocols=("chat.v1", "chat.v9")
    ) as socket:
        assert socket.protocol == "chat.v1"


async def test_who_may_not_gets_no_socket(chat: SmallGateway, upstream: FaultUpstream) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await chat.client.ws_connect("/shop/chat")
    assert caught.value.status == 401
    assert not upstream.seen


async def test_a_server_that_refuses_is_told(chat: SmallGateway, upstream: FaultUpstream) -> None:
    upstream.always = upstream.status(403)
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await chat.client.ws_connect("/shop/chat", headers=chat.bearer())
    assert caught.value.status == 502


async def test_a_path_without_a_socket_is_not_the_servers_fault(
    gateway: SmallGateway, upstream: FaultUpstream, second: FaultUpstream
) -> None:
    gateway.configure(upstreams=[to([upstream, second])], routes=[route()])
    upstream.always = second.always = upstream.status(404)
    for _ in range(20):
        with pytest.raises(aiohttp.WSServerHandshakeError):
            await gateway.client.ws_connect("/shop/chat")
    (known,) = gateway.gateway.upstreams.all()
    assert [server.failures for server in known.balancer.servers] == [0, 0]
    assert not any(server.out_until for server in known.balancer.servers)


async def test_a_server_that_hangs_takes_no_longer_than_the_route_allows(
    gateway: SmallGateway, upstream: FaultUpstream
) -> None:
    about = {"breaker": {"requests_min": 2, "open_seconds": 60}, "outlier": None}
    gateway.configure(upstreams=[to(upstream, **about)], routes=[route(timeout_ms=100)])
    upstream.always = upstream.hang
    statuses = []
    for _ in range(3):
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await gateway.client.ws_connect("/shop/chat")
        statuses.append(caught.value.status)
    assert statuses == [504, 504, 503], "then its breaker is open"


async def test_sockets_are_balanced_by_hash_too(
    gateway: SmallGateway, upstream: FaultUpstream, second: FaultUpstream
) -> None:
    about = {"balance": "hash", "hash_on": "user"}
    gateway.configure(
        upstreams=[to([upstream, second], **about)], routes=[route(access="signed_in")]
    )
    upstream.always, second.always = upstream.socket, second.socket
    first: dict[str, str] = {}
    for number in (*range(24), *range(24)):
        user = f"user{number}"
        headers = gateway.bearer(subject=user)
        async with gateway.client.ws_connect("/shop/chat", headers=headers) as socket:
            await socket.send_str("hello")
            by = (await socket.receive_json())["by"]
        assert first.setdefault(user, by) == by
    assert set(first.values()) == {"up", "second"}


async def test_when_either_side_goes_the_other_is_told(chat: SmallGateway) -> None:
    sockets = [await chat.client.ws_connect("/shop/c", headers=chat.bearer()) for _ in range(20)]
    (server,) = chat.gateway.upstreams.all()[0].balancer.servers
    assert server.under_way == 20
    for socket in sockets[:10]:
        await socket.close()
    await eventually(lambda: server.under_way == 10)
    for socket in sockets[10:]:
        # Gone without a word.
        assert socket._response.connection is not None
        transport = socket._response.connection.transport
        assert transport is not None
        transport.abort()
    await eventually(lambda: server.under_way == 0)


async def test_open_sockets_do_not_hold_up_the_end(made: Made, upstream: FaultUpstream) -> None:
    gateway = await made()
    gateway.configure(upstreams=[to(upstream)], routes=[route()])
    upstream.always = upstream.socket
    socket = await gateway.client.ws_connect("/shop/chat")
    async with asyncio.timeout(5):
        await gateway.__aexit__(None, None, None)
    assert socket.closed or socket._closing or socket.close_code is None

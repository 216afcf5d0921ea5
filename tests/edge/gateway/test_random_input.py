"""Whatever is configured and asked, the gateway answers: no configuration that was accepted fails
to be executed, and no request ends in a bug.
"""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from edge.gateway.exchange import Inbound, Whole
from edge.gateway.plan import compiled
from edge.gateway.settings import GatewaySettings
from services.platform.backend_api.logic.reading import ConfigError, from_plain
from tests.fakes.small_gateway import SmallGateway
from tests.fakes.stall import OPERATIONS

SERVERS = [{"name": "u", "targets": [{"url": "http://127.0.0.1:1"}]}]
paths = st.sampled_from(
    ["/a", "/a/{x}", "/a/{y}", "/a/{x}:go", "/{r...}", "/a/{r...}", "/v1/stall/items/{z}", "/a/b/"]
)
routes = st.fixed_dictionaries(
    {
        "path": paths,
        "to": st.just([{"upstream": "u"}]),
        "access": st.sampled_from(["public", "signed_in"]),
    },
    optional={
        "hosts": st.lists(st.sampled_from(["a.test", "*.test", "A.TEST"]), max_size=2),
        "methods": st.lists(st.sampled_from(["GET", "POST", "HEAD"]), min_size=1, max_size=3),
        "version": st.sampled_from(["", "1", "2"]),
        "headers": st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.just("1")),
        "limits": st.just(["few"]),
        "cache": st.just({"seconds": 5}),
        "cors": st.just("web"),
        "request": st.sampled_from([{"path": "/n"}, {"json": {"remove": ["/a"]}}]),
    },
)
configs = st.lists(routes, max_size=6).map(
    lambda found: {
        "upstreams": SERVERS,
        "limits": [{"name": "few", "requests": 5}],
        "cors": [{"name": "web", "origins": ["https://a.test"]}],
        "overrides": [{"operations": "*", "cors": "web", "limits": ["few"]}],
        "routes": [{"name": f"r{at}", **one} for at, one in enumerate(found)],
    }
)


@settings(max_examples=200)
@given(configs)
def test_what_was_accepted_can_be_executed(plain: Any) -> None:
    try:
        config = from_plain(plain)
    except ConfigError:
        return
    compiled(config, OPERATIONS, GatewaySettings())


FIELDS = (
    "Authorization",
    "X-Api-Key",
    "Accept-Encoding",
    "Cache-Control",
    "If-None-Match",
    "If-Match",
    "Idempotency-Key",
    "Origin",
    "Access-Control-Request-Method",
    "Prefer",
    "traceparent",
    "Content-Type",
    "Api-Version",
    "Via",
    "Upgrade",
    "Range",
    "Pragma",
)
words = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=30) | st.sampled_from(
    ["*", '"1"', "max-age=x", "gzip;q=", "wait=0", "bytes=0-1", "a,b;c=d", "application/json", "2"]
)


@pytest.mark.parametrize("signed_in", [False, True])
async def test_whatever_is_asked_is_answered(tmp_path: Path, signed_in: bool) -> None:
    loop = asyncio.get_running_loop()
    async with SmallGateway(tmp_path) as small:
        small.configure(overrides=[{"operations": "*", "cache": {"seconds": 1}}])
        bearer = small.bearer() if signed_in else {}

        @settings(max_examples=250, suppress_health_check=list(HealthCheck))
        @given(
            method=st.sampled_from(["GET", "HEAD", "POST", "OPTIONS", "DELETE", "PURGE"]),
            path=st.sampled_from(
                [
                    "/v1/stall/items/7",
                    "/v1/stall/items/7:price",
                    "/v1/stall/items",
                    "/v1/stall/open",
                ]
            )
            | st.text(max_size=20).map(lambda text: f"/v1/{text}"),
            query=st.text(max_size=10),
            fields=st.dictionaries(st.sampled_from(FIELDS), words, max_size=5),
            body=st.none() | st.binary(max_size=40),
        )
        def ask(method: str, path: str, query: str, fields: Any, body: bytes | None) -> None:
            headers = CIMultiDict({**fields, **bearer})
            inbound = Inbound(method, path, path, query, headers, host="x", address="192.0.2.1")
            if body is not None:
                inbound.body = Whole(body)
            answering = small.gateway.answer(inbound)
            answer = asyncio.run_coroutine_threadsafe(answering, loop).result(10)
            assert 200 <= answer.status < 500, (answer.status, answer.body)

        small.stall.more = {"body": None}
        await asyncio.to_thread(ask)

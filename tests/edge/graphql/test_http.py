"""GraphQL over HTTP: media types, methods, statuses, sizes; what no client should get past."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.graphql.http_request import JSON_TYPE, RESPONSE_TYPE, Ask, from_body, from_query
from edge.graphql.refused import Refused
from edge.graphql.settings import GraphqlSettings
from tests.edge.graphql.backend import MemoryBackend
from tests.edge.graphql.sample import GOOD, guest_id
from tests.edge.graphql.server import serving

EXAMPLES = 5_000 if os.environ.get("NEXUS_PROVE") else 300
QUERY = f'{{ guestListGuest(id: "{guest_id(0)}") {{ name }} }}'
GUEST = {"data": {"guestListGuest": {"name": "guest 0"}}}
REMOVE = f'mutation {{ guestListRemove(id: "{guest_id(0)}") }}'


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
async def url(backend: MemoryBackend) -> AsyncIterator[str]:
    async with serving(backend) as address:
        yield address


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


Said = tuple[int, str, Any]


async def said(answer: Any) -> Said:
    """Status, media type and JSON of an answer."""
    async with answer as response:
        assert response.charset in (None, "utf-8")
        return response.status, response.content_type, json.loads(await response.read() or "null")


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [
        (None, JSON_TYPE),
        ("*/*", JSON_TYPE),
        ("application/*", JSON_TYPE),
        (JSON_TYPE, JSON_TYPE),
        (RESPONSE_TYPE, RESPONSE_TYPE),
        (f"{RESPONSE_TYPE}, {JSON_TYPE};q=0.9", RESPONSE_TYPE),
        (f"{JSON_TYPE};q=0.5, {RESPONSE_TYPE};q=0.4", JSON_TYPE),
        (f"{RESPONSE_TYPE};charset=utf-8,{JSON_TYPE};q=0.9,*/*;q=0.1", RESPONSE_TYPE),
        (f"{RESPONSE_TYPE};q=0, */*", JSON_TYPE),
        ("text/html, */*;q=0.1", JSON_TYPE),
    ],
)
async def test_the_answer_has_the_type_that_is_liked_best(
    url: str, http: aiohttp.ClientSession, accept: str | None, media_type: str
) -> None:
    headers = {"Accept": accept} if accept else {"Accept": ""}
    answer = await said(http.post(url, json={"query": QUERY}, headers=headers))
    assert answer == (200, media_type, GUEST)
    assert await said(http.get(url, params={"query": QUERY}, headers=headers)) == answer


async def test_an_answer_is_nobody_elses(url: str, http: aiohttp.ClientSession) -> None:
    async with http.post(url, json={"query": QUERY}) as response:
        assert response.headers["Cache-Control"] == "private, no-store"
        assert response.headers["Vary"] == "Accept"
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"


async def test_types_that_are_not_served(
    url: str, http: aiohttp.ClientSession, backend: MemoryBackend
) -> None:
    status, _, body = await said(
        http.post(url, json={"query": QUERY}, headers={"Accept": "text/html"})
    )
    assert status == 406
    assert body["errors"][0]["extensions"]["code"] == "http.not_acceptable"
    assert backend.invoked == []


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/graphql",
        "application/json; charset=iso-8859-1",
        "text/plain; application/json",
        "",
    ],
)
async def test_a_form_of_another_site_is_refused(
    url: str, http: aiohttp.ClientSession, backend: MemoryBackend, content_type: str
) -> None:
    body = json.dumps({"query": REMOVE}).encode()
    headers = {"Content-Type": content_type}
    skip = () if content_type else ("Content-Type",)
    status, _, answer = await said(
        http.post(url, data=body, headers=headers if content_type else None, skip_auto_headers=skip)
    )
    assert status == 415
    assert "data" not in answer
    assert backend.invoked == []


@pytest.mark.parametrize("accept", [JSON_TYPE, RESPONSE_TYPE])
async def test_get_is_for_queries(
    url: str, http: aiohttp.ClientSession, backend: MemoryBackend, accept: str
) -> None:
    headers = {"Accept": accept}
    async with http.get(url, params={"query": REMOVE}, headers=headers) as response:
        assert response.status == 405
        assert response.headers["Allow"] == "POST"
    async with http.head(url, params={"query": REMOVE}, headers=headers) as response:
        assert response.status == 405
    for method in ("PUT", "DELETE", "PATCH"):
        async with http.request(method, url, json={"query": REMOVE}) as response:
            assert response.status == 405
    assert backend.invoked == []


async def test_get_takes_variables_and_extensions(url: str, http: aiohttp.ClientSession) -> None:
    query = "query A($id: ID!) { guestListGuest(id: $id) { name } } query B { hostsCount }"
    params = {
        "query": query,
        "operationName": "A",
        "variables": json.dumps({"id": guest_id(0)}),
        "extensions": json.dumps({"some": "value"}),
    }
    assert await said(http.get(url, params=params)) == (200, JSON_TYPE, GUEST)
    other = {"query": query, "operationName": "B", "variables": ""}
    assert (await said(http.get(url, params=other)))[2] == {"data": {"hostsCount": 2}}
    for wrong in ({"variables": "[1]"}, {"variables": "{"}, {"extensions": "1"}):
        status, _, body = await said(
            http.get(url, params=params | wrong, headers={"Accept": RESPONSE_TYPE})
        )
        assert (status, list(body)) == (400, ["errors"])


async def test_a_parameter_given_twice_is_refused(url: str, http: aiohttp.ClientSession) -> None:
    status, _, body = await said(http.get(f"{url}?query=%7Ba%7D&query=%7Bb%7D"))
    assert status == 400
    assert body["errors"][0]["extensions"]["code"] == "request.malformed"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "graphql.request"),
        (b'{"query', "graphql.request"),
        (b'"text"', "graphql.request"),
        (b'[{"query": "{ hostsCount }"}]', "graphql.request"),
        (b'{"query": "{ hostsCount }", "query": "{ hostsCount }"}', "graphql.request"),
        (b'{"query": "\\ud800"}', "graphql.request"),
        (b'{"query": "{ hostsCount }", "variables": {"a": NaN}}', "graphql.request"),
        (b'{"query": "\xff"}', "graphql.request"),
        (b"[" * 100_000, "graphql.request"),
        (b'{"variables": ' + b'{"a":' * 1_000 + b"1" + b"}" * 1_000 + b"}", "graphql.request"),
        (b'{"query": ""}', "graphql.request"),
        (b'{"query": "{"}', "graphql.syntax"),
        (b'{"query": "{ nope }"}', "graphql.invalid"),
        (b'{"query": "{ hostsCount }", "operationName": "X"}', "graphql.operation"),
        (b'{"query": "query($a: Int!) { __typename @skip(if: true) }"}', "graphql.invalid"),
        (b'{"query": "query($id: ID!) { guestListGuest(id: $id) { id } }"}', "graphql.variables"),
    ],
)
async def test_what_is_not_executed_is_4xx_or_200_by_its_type(
    url: str, http: aiohttp.ClientSession, body: bytes, code: str
) -> None:
    lenient = 400 if code == "graphql.request" else 200
    for accept, expected in ((RESPONSE_TYPE, 400), (JSON_TYPE, lenient)):
        headers = {"Accept": accept, "Content-Type": JSON_TYPE}
        status, media_type, answer = await said(http.post(url, data=body, headers=headers))
        assert (status, media_type) == (expected, accept)
        assert list(answer) == ["errors"]
        assert {error["extensions"]["code"] for error in answer["errors"]} == {code}


async def test_a_query_that_costs_too_much_is_400_in_any_type(http: aiohttp.ClientSession) -> None:
    async with serving(MemoryBackend(), GraphqlSettings(cost_max=1)) as url:
        for accept in (RESPONSE_TYPE, JSON_TYPE):
            status, _, answer = await said(
                http.post(
                    url,
                    json={"query": "{ a: hostsCount b: hostsCount }"},
                    headers={"Accept": accept},
                )
            )
            assert status == 400
            assert answer["errors"][0]["extensions"] == {
                "code": "query_cost",
                "cost": 2,
                "cost_max": 1,
                "traceId": "0af7651916cd43dd8448eb211c80319c",
            }


async def test_errors_of_fields_are_200(url: str, http: aiohttp.ClientSession) -> None:
    query = f'{{ guestListGuest(id: "{guest_id(99)}") {{ name }} }}'
    for accept in (RESPONSE_TYPE, JSON_TYPE):
        status, _, body = await said(
            http.post(url, json={"query": query}, headers={"Accept": accept})
        )
        assert status == 200
        assert body["data"] == {"guestListGuest": None}
        assert body["errors"][0]["extensions"]["code"] == "not_found"


async def test_a_wrong_credential_is_401(
    url: str, http: aiohttp.ClientSession, backend: MemoryBackend
) -> None:
    headers = {"Authorization": "Bearer wrong"}
    async with http.post(url, json={"query": QUERY}, headers=headers) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"].startswith("Bearer")
        assert response.content_type == "application/problem+json"
    assert backend.invoked == []


async def test_a_large_request_is_served(
    url: str, http: aiohttp.ClientSession, backend: MemoryBackend
) -> None:
    """It is read in threads; its answer is that of a small one."""
    query = "mutation ($input: TypesEverythingInput!) { typesEcho(input: $input) { body } }"
    many = [f"number {number}" for number in range(3_000)]
    variables = {"input": {**GOOD, "made": many}}
    status, _, body = await said(http.post(url, json={"query": query, "variables": variables}))
    assert status == 200
    assert "errors" not in body
    ((_, arrived),) = backend.store.log
    assert arrived.made == many


async def test_a_body_that_is_too_long_is_413(http: aiohttp.ClientSession) -> None:
    async with serving(MemoryBackend(), GraphqlSettings(body_bytes_max=2_000)) as url:
        long = {"query": QUERY + "#" * 2_000}
        async with http.post(url, json=long) as response:
            assert response.status == 413

        async def chunks() -> AsyncIterator[bytes]:
            for _ in range(3):
                yield b" " * 1_000

        headers = {"Content-Type": JSON_TYPE}
        async with http.post(url, data=chunks(), headers=headers) as response:
            assert response.status == 413


async def test_a_body_that_does_not_come_is_408() -> None:
    async with serving(MemoryBackend(), body_seconds=0.1) as url:
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        path = url.partition(host)[2].partition("/")[2]
        writer.write(
            f"POST /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {JSON_TYPE}\r\n"
            "Content-Length: 100\r\n\r\n{".encode()
        )
        async with asyncio.timeout(5):
            head = await reader.readuntil(b"\r\n")
        writer.close()
        assert b"408" in head


async def test_persisted_queries(url: str, http: aiohttp.ClientSession) -> None:
    extensions = {
        "persistedQuery": {"version": 1, "sha256Hash": hashlib.sha256(QUERY.encode()).hexdigest()}
    }
    short = {"extensions": json.dumps(extensions)}
    async with http.get(url, params=short) as response:
        assert response.status == 200
        assert response.headers["Cache-Control"].startswith("private, no-cache")
        answer = await response.json()
        assert answer["errors"][0]["extensions"]["code"] == "PERSISTED_QUERY_NOT_FOUND"
    full = {"query": QUERY, "extensions": extensions}
    assert await said(http.post(url, json=full)) == (200, JSON_TYPE, GUEST)
    assert await said(http.get(url, params=short)) == (200, JSON_TYPE, GUEST)
    wrong = {"query": QUERY + " ", "extensions": extensions}
    status, _, body = await said(http.post(url, json=wrong, headers={"Accept": RESPONSE_TYPE}))
    assert (status, body["errors"][0]["extensions"]["code"]) == (400, "persisted_query.hash")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
NAMES = ("query", "operationName", "variables", "extensions", "persistedQuery", "sha256Hash", "x")


@settings(max_examples=EXAMPLES)
@given(
    body=st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(NAMES), JSON_VALUES).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_body_is_read_or_refused(body: bytes) -> None:
    check(lambda: from_body(JSON_TYPE, body))


@settings(max_examples=EXAMPLES)
@given(values=st.dictionaries(st.sampled_from(NAMES), st.text(max_size=60)))
def test_any_query_string_is_read_or_refused(values: dict[str, str]) -> None:
    check(lambda: from_query(values))


def check(read: Callable[[], Ask]) -> None:
    """It is read, or refused with a reason."""
    try:
        found: Ask | Refused = read()
    except Refused as refused:
        found = refused
    assert isinstance(found, Ask) or (found.status == 400 and found.message)

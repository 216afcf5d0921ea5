"""A request to the wrong region: answered from the right one, or not at all."""

import asyncio
import gzip
import json
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from ops.ids import IdMaker
from ops.region_settings import PeerSettings
from tests.fakes.postgres import PostgresServer
from tests.fakes.regions import KEY, Region, World, free_socket, until, url_of, world

EU_BORN = IdMaker("eu1").new("ten")
US_BORN = IdMaker("us1").new("ten")


async def test_the_wrong_region_answers_from_the_right_one(two: World) -> None:
    eu, us = two["eu1"], two["us1"]
    made = await us.add("at home in eu", tenant=EU_BORN)
    assert made.status == 201, made
    assert made.json["id"].startswith("note_eu1_")
    assert made.headers["Proxy-Status"] == "nexus-us1; next-hop=eu1"
    assert made.headers["ETag"] == '"1"'
    assert (eu.kept(EU_BORN), us.kept(EU_BORN)) == (["at home in eu"], [])
    assert await us.titles(EU_BORN) == await eu.titles(EU_BORN) == ["at home in eu"]
    path = f"/v1/notes/notes/{made.json['id']}"
    changed = await us.ask(
        "PUT", path, tenant=EU_BORN, body={"title": "again"}, if_match=made.headers["ETag"]
    )
    assert (changed.status, changed.headers["ETag"]) == (200, '"2"')
    gone = await us.ask("DELETE", path, tenant=EU_BORN)
    assert gone.status == 204
    assert eu.kept(EU_BORN) == []


async def test_graphql_is_passed_on(two: World) -> None:
    text = 'mutation { notesAdd(input: {title: "by graph"}) { id title } }'
    path = "/v1/backend-api/graphql"
    told = await two["us1"].ask("POST", path, tenant=EU_BORN, body={"query": text})
    assert told.status == 200, told
    assert told.json["data"]["notesAdd"]["title"] == "by graph", told
    assert (two["eu1"].kept(EU_BORN), two["us1"].kept(EU_BORN)) == (["by graph"], [])


async def test_a_composition_is_passed_on_whole(two: World) -> None:
    calls = [
        {"id": "one", "method": "POST", "path": "/v1/notes/notes", "body": {"title": "one"}},
        {"id": "all", "method": "GET", "path": "/v1/notes/notes", "after": ["one"]},
    ]
    path = "/v1/backend-api/compose"
    told = await two["us1"].ask("POST", path, tenant=EU_BORN, body={"calls": calls})
    assert told.status == 200, told
    assert told.json["complete"], told
    assert told.headers["Proxy-Status"]
    assert (two["eu1"].kept(EU_BORN), two["us1"].kept(EU_BORN)) == (["one"], [])


async def test_faults_of_the_right_region_come_back_as_they_are(two: World) -> None:
    made = await two["us1"].ask(
        "POST", "/v1/notes/notes", tenant=EU_BORN, body={"title": "a", "no_such": 1}
    )
    assert made.status == 422
    assert made.headers["Content-Type"].startswith("application/problem+json")
    assert made.json["errors"][0]["pointer"] == "/no_such"


async def test_conditions_heads_and_codings_cross(two: World) -> None:
    made = await two["us1"].add("x" * 190, tenant=EU_BORN)
    path = f"/v1/notes/notes/{made.json['id']}"
    same = await two["us1"].ask("GET", path, tenant=EU_BORN, if_none_match=made.headers["ETag"])
    assert (same.status, same.body, same.headers["ETag"]) == (304, b"", '"1"')
    head = await two["us1"].ask("HEAD", path, tenant=EU_BORN)
    whole = await two["us1"].ask("GET", path, tenant=EU_BORN)
    assert (head.status, head.body, whole.status) == (200, b"", 200)
    for number in range(20):
        await two["eu1"].add(f"{number:0>190}", tenant=EU_BORN)
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(
            two["us1"].url + "/v1/notes/notes",
            headers={
                "Authorization": f"Bearer {two['us1'].token(EU_BORN)}",
                "Accept-Encoding": "gzip",
            },
        ) as answer,
    ):
        assert answer.headers["Content-Encoding"] == "gzip"
        told = json.loads(gzip.decompress(await answer.read()))
    assert len(told["data"]) == 21


async def test_a_key_is_good_at_both_doors(two: World) -> None:
    first = await two["us1"].add("once", tenant=EU_BORN, idempotency_key="k")
    second = await two["eu1"].add("once", tenant=EU_BORN, idempotency_key="k")
    assert first.json == second.json
    assert second.headers["Idempotent-Replayed"] == "true"
    assert two["eu1"].kept(EU_BORN) == ["once"]


async def test_a_caller_may_ask_not_to_be_passed_on(two: World) -> None:
    told = await two["us1"].add("no", tenant=EU_BORN, nexus_forward="no")
    assert told.status == 421
    assert told.json["code"] == "placement.misdirected"
    assert (told.json["region"], told.json["url"]) == ("eu1", two["eu1"].url)
    assert two["eu1"].kept(EU_BORN) == two["us1"].kept(EU_BORN) == []
    here = await two["eu1"].add("yes", tenant=EU_BORN, nexus_forward="no")
    assert here.status == 201


async def test_another_protocol_is_not_passed_on(two: World) -> None:
    told = await two["us1"].ask(
        "GET", "/v1/notes/notes", tenant=EU_BORN, upgrade="websocket", connection="upgrade"
    )
    assert told.status == 421


async def test_a_region_that_is_down_is_503_and_nothing_is_written(two: World) -> None:
    eu, us = two["eu1"], two["us1"]
    await us.stop()
    for told in (
        await eu.add("lost?", tenant=US_BORN),
        await eu.ask("GET", "/v1/notes/notes", tenant=US_BORN),
    ):
        assert told.status == 503, told
        assert int(told.headers["Retry-After"]) >= 1
        assert "error=connection_refused" in told.headers["Proxy-Status"]
        assert told.json["region"] == "us1"
    assert eu.kept(US_BORN) == us.kept(US_BORN) == []
    await us.start()
    told = await eu.add("found", tenant=US_BORN)
    assert told.status == 201
    assert (eu.kept(US_BORN), us.kept(US_BORN)) == ([], ["found"])


async def test_a_sealed_tenant_does_not_pass_through(two: World) -> None:
    body = {"home": "eu1", "residency": "sealed"}
    put = await two["eu1"].ask(
        "PUT", "/v1/placement/placements/vault", tenant="system", body=body, if_match='"0"'
    )
    assert put.status == 200, put
    told = await two["us1"].add("secret", tenant="vault")
    assert (told.status, told.json["region"]) == (421, "eu1")
    body = {"home": "eu1", "residency": "sealed", "regions": ["us1"]}
    put = await two["eu1"].ask(
        "PUT", "/v1/placement/placements/vault", tenant="system", body=body, if_match='"1"'
    )
    assert put.status == 200, put
    await until(lambda: two["us1"].epoch("vault") == 2)
    await two["us1"].homes.look()
    assert (await two["us1"].add("secret", tenant="vault")).status == 201


async def test_regions_that_are_wrong_of_each_other_do_not_send_in_circles(
    postgres_server: PostgresServer,
) -> None:
    async with world(postgres_server, start=False) as made:
        for region in made.regions.values():
            region.keeps_fresh = False
            await region.start()
        # Each one's table says that the other is home, and no copy mends it.
        for region, other in (("eu1", "us1"), ("us1", "eu1")):
            made[region].postgres.run(
                "INSERT INTO placement.placement (name, home, epoch, state, residency, turn)"
                f" VALUES ('ping', '{other}', 1, 'settled', 'bound', 1)"
            )
            made[region].postgres.run("INSERT INTO placement.progress VALUES ('eu1', 1)")
        for region in made.regions.values():
            told = await region.add("pong", tenant="ping")
            assert (told.status, told.json["code"]) == (503, "placement.moving")
            assert told.headers["Retry-After"]
            assert region.kept("ping") == []


@pytest.fixture
async def door(postgres_server: PostgresServer) -> "Door":
    return Door(postgres_server)


class Door:
    """us1, whose only peer is what a test makes of it."""

    def __init__(self, server: PostgresServer) -> None:
        self.server = server

    async def with_peer(self, url: str, ask: object, **settings: float) -> None:
        """Runs `ask(region)` where eu1 is at that address."""
        assert callable(ask)
        async with world(self.server, names=("us1",), start=False) as made:
            region = made["us1"]
            peer = PeerSettings(region="eu1", url=url, key=KEY)
            changed: dict[str, Any] = {"peers": (peer,), **settings}
            region.settings = replace(region.settings, **changed)
            await region.start()
            await ask(region)


async def test_what_crosses_and_what_does_not(door: Door) -> None:
    seen: list[aiohttp.typedefs.LooseHeaders] = []

    async def home(request: web.Request) -> web.Response:
        seen.append(dict(request.headers))
        seen.append({"path": request.raw_path, "body": await request.text()})
        return web.Response(
            status=418,
            text="short and stout",
            headers={"X-Nexus-Inside": "1", "X-Kept": "2", "Connection": "X-Hop", "X-Hop": "3"},
        )

    async def ask(region: Region) -> None:
        told = await region.ask(
            "GET",
            "/v1/notes/notes?limit=3&begins_with=%2Fa",
            tenant=EU_BORN,
            connection="keep-alive, x-mine",
            x_mine="hop",
            x_nexus_user="root",
            x_forwarded_for="6.6.6.6",
            forwarded="for=6.6.6.6",
            cf_connecting_ip="6.6.6.6",
            true_client_ip="6.6.6.6",
            te="trailers",
            via="1.1 before",
            traceparent="00-1-2-01",
        )
        assert (told.status, told.body) == (418, b"short and stout")
        assert told.headers["X-Kept"] == "2"
        assert not {"X-Nexus-Inside", "X-Hop"} & told.headers.keys()
        headers, rest = seen
        assert isinstance(headers, dict)
        assert headers["Authorization"] == f"Bearer {region.token(EU_BORN)}"
        assert headers["Traceparent" if "Traceparent" in headers else "traceparent"] == "00-1-2-01"
        assert headers["Nexus-Forward"] == "no"
        assert headers["Via"] == "1.1 before, 1.1 nexus-us1"
        assert headers["X-Forwarded-For"] == "127.0.0.1"
        lower = {name.lower() for name in headers}
        assert not lower & {"x-mine", "x-nexus-user", "forwarded", "te"}
        assert "6.6.6.6" not in headers.values()
        assert rest == {"path": "/v1/notes/notes?limit=3&begins_with=%2Fa", "body": ""}

    async with serving(home) as url:
        await door.with_peer(url, ask)


async def test_bodies_stream_both_ways(door: Door) -> None:
    size, half = 24 * 1_048_576, asyncio.Event()

    async def home(request: web.Request) -> web.StreamResponse:
        count = 0
        async for piece in request.content.iter_any():
            count += len(piece)
        answer = web.StreamResponse()
        await answer.prepare(request)
        await answer.write(str(count).encode() + b"\n")
        # Nothing more until the client has the first piece.
        await asyncio.wait_for(half.wait(), 5)
        await answer.write(b"end")
        return answer

    async def ask(region: Region) -> None:
        headers = {
            "Authorization": f"Bearer {region.token(EU_BORN)}",
            "Content-Length": str(size),
        }

        async def body() -> object:
            for _ in range(24):
                yield bytes(1_048_576)

        async with (
            aiohttp.ClientSession() as session,
            session.post(region.url + "/v1/notes/echo", headers=headers, data=body()) as answer,
        ):
            assert await answer.content.readline() == f"{size}\n".encode()
            half.set()
            assert await answer.content.read() == b"end"

    async with serving(home) as url:
        await door.with_peer(url, ask)


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {}, 502),
        ("POST", {"idempotency_key": "k"}, 503),
        ("GET", {}, 503),
        ("PUT", {"if_match": '"1"'}, 503),
    ],
)
async def test_a_connection_that_breaks(
    door: Door, method: str, headers: dict[str, str], status: int
) -> None:
    async def broken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async def ask(region: Region) -> None:
        path = "/v1/notes/notes" + ("/x" if method == "PUT" else "")
        body = None if method == "GET" else {"title": "a"}
        told = await region.ask(method, path, tenant=EU_BORN, body=body, **headers)
        assert told.status == status, told
        assert "error=connection_terminated" in told.headers["Proxy-Status"]
        assert ("Retry-After" in told.headers) == (status == 503)
        assert region.kept(EU_BORN) == []

    async with await asyncio.start_server(broken, "127.0.0.1", 0) as server:
        await door.with_peer(url_of(server.sockets[0]), ask)


@pytest.mark.parametrize(("method", "status"), [("POST", 504), ("GET", 503)])
async def test_a_region_that_says_nothing(door: Door, method: str, status: int) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async def ask(region: Region) -> None:
        body = {"title": "a"} if method == "POST" else None
        told = await region.ask(method, "/v1/notes/notes", tenant=EU_BORN, body=body)
        assert told.status == status
        assert "error=http_response_timeout" in told.headers["Proxy-Status"]

    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        await door.with_peer(url_of(server.sockets[0]), ask, answer_seconds=0.2)


async def test_a_body_that_waits_to_be_wanted_is_asked_for(door: Door) -> None:
    async def home(request: web.Request) -> web.Response:
        return web.Response(text=await request.text())

    async def ask(region: Region) -> None:
        host, port = region.url.removeprefix("http://").split(":")
        async with asyncio.timeout(5):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(
                b"POST /v1/notes/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n"
                b"Expect: 100-continue\r\nAuthorization: Bearer "
                + region.token(EU_BORN).encode()
                + b"\r\n\r\n"
            )
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"body")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(4) == b"body"
            writer.close()

    async with serving(home) as url:
        await door.with_peer(url, ask)


async def test_an_answer_that_stands_still_is_given_up(door: Door) -> None:
    async def still(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await reader.read()
        writer.close()

    async def ask(region: Region) -> None:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
            async with asyncio.timeout(5):
                await region.ask("GET", "/v1/notes/notes", tenant=EU_BORN)

    async with await asyncio.start_server(still, "127.0.0.1", 0) as server:
        await door.with_peer(url_of(server.sockets[0]), ask, idle_seconds=0.2)


async def test_an_answer_that_breaks_off_is_not_made_whole(door: Door) -> None:
    async def half(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await writer.drain()
        writer.close()

    async def ask(region: Region) -> None:
        with pytest.raises((aiohttp.ClientPayloadError, aiohttp.ClientConnectionError)):
            await region.ask("GET", "/v1/notes/notes", tenant=EU_BORN)

    async with await asyncio.start_server(half, "127.0.0.1", 0) as server:
        await door.with_peer(url_of(server.sockets[0]), ask)


async def test_only_so_many_are_passed_on_at_once(door: Door) -> None:
    go = asyncio.Event()

    async def home(_request: web.Request) -> web.Response:
        await go.wait()
        return web.Response(text=json.dumps({}))

    async def ask(region: Region) -> None:
        async with asyncio.TaskGroup() as group:
            waiting = [
                group.create_task(region.ask("GET", "/v1/notes/notes", tenant=EU_BORN))
                for _ in range(3)
            ]
            await until(lambda: any(task.done() for task in waiting))
            (refused,) = (task.result() for task in waiting if task.done())
            assert (refused.status, refused.json["code"]) == (503, "placement.away")
            assert refused.headers["Retry-After"]
            go.set()
        assert sorted(task.result().status for task in waiting) == [200, 200, 503]

    async with serving(home) as url:
        await door.with_peer(url, ask, forwards_max=2)


async def test_a_home_that_nobody_knows_is_421(two: World) -> None:
    told = await two["us1"].add("far", tenant=IdMaker("ap1").new("ten"))
    assert (told.status, told.json["region"]) == (421, "ap1")


class serving:  # noqa: N801  used as a function
    """A server with one handler for everything; its address."""

    def __init__(self, handler: object) -> None:
        app = web.Application(client_max_size=2**30)
        app.router.add_route("*", "/{tail:.*}", handler)  # type: ignore[arg-type]
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)

    async def __aenter__(self) -> str:
        sock = free_socket()
        await self._runner.setup()
        await web.SockSite(self._runner, sock).start()
        return url_of(sock)

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

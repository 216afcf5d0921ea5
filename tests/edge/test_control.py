"""The control API: lists and their pages, kicking, key frames, events, and who may ask for what."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import msgspec
import pytest

from edge.access import AuthSettings, KeySettings
from edge.http_settings import HttpSettings
from media.messages import AskKeyFrame, Close, SessionInfo
from tests.edge.conftest import Running, Start, eventually
from tests.fakes.media_process import stream_state

KEYS = AuthSettings(
    keys=(
        KeySettings("shows", secret="secret-shows", actions=("read",), streams=("show-*",)),
        KeySettings("chief", secret="secret-chief", actions=("control", "read")),
        KeySettings("local", secret="secret-local", actions=("control",), streams=("show-*",)),
    )
)


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def session(name: str, stream: str = "demo", **changes: Any) -> SessionInfo:
    info = SessionInfo(
        session=name,
        stream=stream,
        kind="viewer",
        subject="anna",
        state="connected",
        remote="192.0.2.1:5000",
        since_unix=1.0,
        packets=10,
        bytes=1_000,
        lost=0,
        etag="secret tag",
        remote_ufrag="secret ufrag",
    )
    return msgspec.structs.replace(info, **changes)


async def told(reply: aiohttp.ClientResponse, status: int = 200) -> Any:
    assert reply.status == status, await reply.text()
    return await reply.json(content_type=None)


async def test_streams_are_listed_by_page(running: Running, http: aiohttp.ClientSession) -> None:
    for number in range(5):
        running.media.live(f"s{number}", publisher="secret session")
    await eventually(lambda: len(running.worker.link.streams) == 5)
    base = f"{running.url}/api/v1/streams"
    first = await told(await http.get(base, params={"limit": "2"}))
    assert [item["stream"] for item in first["streams"]] == ["s0", "s1"]
    assert first["next"] == "s1"
    last = await told(await http.get(base, params={"limit": "3", "after": "s1"}))
    assert [item["stream"] for item in last["streams"]] == ["s2", "s3", "s4"]
    assert last["next"] is None
    one = await told(await http.get(f"{base}/s3"))
    assert one["video"] == "H264"
    assert "secret session" not in json.dumps([first, last, one])
    assert (await told(await http.get(f"{base}/none"), 404))["code"] == "stream.unknown"
    for query in ({"limit": "0"}, {"limit": "101"}, {"limit": "x"}, {"after": "x" * 200}):
        await told(await http.get(base, params=query), 400)


async def test_sessions_are_listed_filtered_and_kicked(
    running: Running, http: aiohttp.ClientSession
) -> None:
    for number in range(150):
        name = f"s{number:03d}"
        kind = "publisher" if number % 50 == 0 else "viewer"
        stream = "demo" if number < 120 else "other"
        running.media.sessions[name] = session(name, stream, kind=kind)
    base = f"{running.url}/api/v1/sessions"
    page = await told(await http.get(base))
    assert len(page["sessions"]) == 100
    page = await told(await http.get(base, params={"after": page["next"]}))
    assert [item["session"] for item in page["sessions"]] == [f"s{n}" for n in range(100, 150)]
    assert page["next"] is None
    page = await told(await http.get(base, params={"kind": "publisher"}))
    assert [item["session"] for item in page["sessions"]] == ["s000", "s050", "s100"]
    page = await told(await http.get(base, params={"stream": "other", "limit": "7"}))
    assert [item["session"] for item in page["sessions"]] == [f"s{n}" for n in range(120, 127)]
    await told(await http.get(base, params={"kind": "nobody"}), 400)
    one = await told(await http.get(f"{base}/s007"))
    assert one["remote"] == "192.0.2.1:5000"
    assert "secret" not in json.dumps([page, one])
    assert (await http.delete(f"{base}/s007")).status == 204
    assert running.media.asked(Close)[0] == Close(
        running.media.asked(Close)[0].id, "s007", "demo", "kicked"
    )
    await told(await http.get(f"{base}/s007"), 404)
    await told(await http.delete(f"{base}/s007"), 404)


async def test_the_publisher_is_kicked_and_asked_for_a_key_frame(
    running: Running, http: aiohttp.ClientSession
) -> None:
    running.media.sessions["pub"] = session("pub", kind="publisher")
    running.media.live("demo", publisher="pub")
    running.media.live("idle", state="waiting")
    await eventually(lambda: len(running.worker.link.streams) == 2)
    base = f"{running.url}/api/v1/streams"
    assert (await http.post(f"{base}/demo/keyframe")).status == 202
    assert running.media.asked(AskKeyFrame)[0].stream == "demo"
    assert (await http.delete(f"{base}/demo")).status == 204
    assert running.media.asked(Close)[0].session == "pub"
    assert (await http.delete(f"{base}/idle")).status == 404
    assert (await http.delete(f"{base}/none")).status == 404
    assert (await http.post(f"{base}/none/keyframe")).status == 404


async def test_rights(start: Start, http: aiohttp.ClientSession) -> None:
    running: Running = await start(auth=KEYS)
    for stream in ("show-1", "news"):
        running.media.live(stream)
        running.media.sessions[stream] = session(stream, stream)
    await eventually(lambda: len(running.worker.link.streams) == 2)
    api = f"{running.url}/api/v1"
    cases = [
        ("GET", "/streams", "", 401),
        ("GET", "/streams", "wrong-secret", 401),
        ("GET", "/streams", "secret-shows", 200),
        ("GET", "/streams/show-1", "secret-shows", 200),
        ("GET", "/streams/news", "secret-shows", 403),
        ("GET", "/sessions", "secret-shows", 403),
        ("DELETE", "/streams/show-1", "secret-shows", 403),
        ("POST", "/streams/show-1/keyframe", "secret-shows", 403),
        ("GET", "/sessions", "secret-chief", 200),
        ("GET", "/sessions/news", "secret-local", 404),
        ("DELETE", "/sessions/news", "secret-local", 404),
        ("DELETE", "/streams/news", "secret-local", 403),
        ("DELETE", "/sessions/show-1", "secret-local", 204),
    ]
    headers = {"Authorization": "Bearer secret-shows"}
    listed = await told(await http.get(f"{api}/streams", headers=headers))
    assert [item["stream"] for item in listed["streams"]] == ["show-1"]
    headers = {"Authorization": "Bearer secret-local"}
    listed = await told(await http.get(f"{api}/sessions", headers=headers))
    assert [item["session"] for item in listed["sessions"]] == ["show-1"]
    for method, path, token, status in cases:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with http.request(method, api + path, headers=headers) as reply:
            assert reply.status == status, (method, path, token, await reply.text())


async def events(reply: aiohttp.ClientResponse, count: int) -> list[tuple[str, Any]]:
    found = []
    async with asyncio.timeout(10):
        while len(found) < count:
            block = (await reply.content.readuntil(b"\n\n")).decode().strip().split("\n")
            if block[0].startswith(":"):
                found.append((":", None))
            else:
                found.append((block[0].removeprefix("event: "), json.loads(block[1][6:])))
    return found


async def test_events_tell_the_list_and_then_changes(
    start: Start, http: aiohttp.ClientSession
) -> None:
    running: Running = await start(auth=KEYS, edge=HttpSettings(events_max=1))
    running.media.live("show-1")
    running.media.live("news")
    await eventually(lambda: len(running.worker.link.streams) == 2)
    headers = {"Authorization": "Bearer secret-shows"}
    url = f"{running.url}/api/events"
    async with http.get(url) as reply:
        assert reply.status == 401
    async with http.get(url, headers=headers) as reply:
        assert reply.content_type == "text/event-stream"
        ((name, data),) = await events(reply, 1)
        assert name == "streams"
        assert [item["stream"] for item in data["streams"]] == ["show-1"]
        running.media.live("news", viewers_webrtc=3)
        running.media.live("show-1", viewers_webrtc=4)
        ((name, data),) = await events(reply, 1)
        assert (name, data["stream"], data["viewers_webrtc"]) == ("stream", "show-1", 4)
        running.media.say(stream_state("show-1", state="gone"))
        ((name, data),) = await events(reply, 1)
        assert (name, data["state"]) == ("stream", "gone")
        async with http.get(url, headers=headers) as second:
            assert second.status == 503
            assert second.headers["Retry-After"] == "5"
    await eventually(lambda: len(running.worker.events) == 0)
    async with http.get(url, headers=headers) as reply:
        assert reply.status == 200


async def test_events_show_that_they_are_alive(start: Start, http: aiohttp.ClientSession) -> None:
    running: Running = await start(edge=HttpSettings(events_heartbeat_seconds=1))
    async with http.get(f"{running.url}/api/events") as reply:
        assert [name for name, _ in await events(reply, 2)] == ["streams", ":"]

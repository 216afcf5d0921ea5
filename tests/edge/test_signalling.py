"""WHIP and WHEP over HTTP: every status that RFC 9725 and draft-ietf-wish-whep-03 name."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from edge.access import AuthSettings, KeySettings
from edge.http_settings import HttpSettings, IceServer
from media.messages import Close, Play, Publish, Refused
from tests.edge.conftest import Running, Start, eventually

SDP = {"Content-Type": "application/sdp"}
FRAGMENT = {"Content-Type": "application/trickle-ice-sdpfrag"}
OFFER = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-ufrag:EsAw\r\n"
CANDIDATES = (
    "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 0\r\n"
    "a=mid:0\r\na=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=end-of-candidates\r\n"
)
KEYS = AuthSettings(
    keys=(
        KeySettings("one", secret="secret-one", actions=("publish", "read")),
        KeySettings("two", secret="secret-two", actions=("publish", "read")),
        KeySettings("reader", secret="secret-reader", actions=("read",)),
        KeySettings("chief", secret="secret-chief", actions=("publish", "read", "control")),
    )
)
TURN = IceServer("turn:turn.example.org:3478?transport=udp", username="u", credential="c")
STUN = IceServer("stun:stun.example.org:3478")


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def key(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer secret-{name}"}


async def problem(reply: aiohttp.ClientResponse) -> dict[str, object]:
    assert reply.content_type == "application/problem+json"
    body: dict[str, object] = await reply.json()
    assert body["status"] == reply.status
    assert body["detail"]
    return body


@pytest.fixture(params=["whip", "whep"])
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def test_a_session_from_offer_to_delete(
    start: Start, http: aiohttp.ClientSession, protocol: str
) -> None:
    running: Running = await start(edge=HttpSettings(ice_servers=(STUN, TURN)))
    endpoint = f"{running.url}/{protocol}/demo"
    async with http.post(endpoint, data=OFFER, headers=SDP) as reply:
        assert reply.status == 201
        assert reply.content_type == "application/sdp"
        assert (await reply.text()).startswith("v=0")
        location = reply.headers["Location"]
        assert location.startswith(f"/{protocol}/demo/")
        assert reply.headers["ETag"] == '"tag1"'
        assert reply.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"
        assert reply.headers.getall("Link") == [
            '<stun:stun.example.org:3478>; rel="ice-server"',
            (
                '<turn:turn.example.org:3478?transport=udp>; rel="ice-server"; username="u";'
                ' credential="c"; credential-type="password"'
            ),
        ]
        exposed = reply.headers["Access-Control-Expose-Headers"]
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        for name in ("Location", "Link", "ETag", "Retry-After", "Accept-Patch"):
            assert name in exposed
    asked = running.media.asked(Publish if protocol == "whip" else Play)
    assert asked[0].offer == OFFER
    assert asked[0].grant.subject == "local"
    url = running.url + location
    tagged = {**FRAGMENT, "If-Match": '"tag1"'}
    async with http.patch(url, data=CANDIDATES, headers=tagged) as reply:
        assert reply.status == 204
        assert "ETag" not in reply.headers
    async with http.get(url) as reply:
        assert reply.status == 204
    async with http.delete(url) as reply:
        assert reply.status == 200
    assert running.media.asked(Close)[0].stream == "demo"
    for send in (http.delete(url), http.get(url), http.patch(url, data=CANDIDATES, headers=tagged)):
        async with send as reply:
            assert reply.status == 404


async def test_discovery_and_preflight(
    running: Running, http: aiohttp.ClientSession, protocol: str
) -> None:
    endpoint = f"{running.url}/{protocol}/demo"
    preflight = {
        "Origin": "http://localhost:5173",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
    }
    async with http.options(endpoint, headers=preflight) as reply:
        assert reply.status == 204
        assert reply.headers["Accept-Post"] == "application/sdp"
        assert reply.headers["Access-Control-Allow-Origin"] == "*"
        allowed = reply.headers["Access-Control-Allow-Headers"]
        for name in ("Authorization", "Content-Type", "If-Match"):
            assert name in allowed
        for method in ("POST", "PATCH", "DELETE"):
            assert method in reply.headers["Access-Control-Allow-Methods"]
    async with http.head(endpoint) as reply:
        assert reply.status == (200 if protocol == "whep" else 204)
        assert reply.headers["Accept-Post"] == "application/sdp"
        if protocol == "whep":
            assert reply.headers["Content-Type"] == "application/sdp"
    async with http.get(endpoint) as reply:
        assert reply.status == 204
    async with http.options(endpoint + "/session") as reply:
        assert reply.status == 204
        assert reply.headers["Accept-Patch"] == "application/trickle-ice-sdpfrag"


async def test_other_methods_are_405(
    running: Running, http: aiohttp.ClientSession, protocol: str
) -> None:
    endpoint = f"{running.url}/{protocol}/demo"
    for method, url in (("PUT", endpoint), ("DELETE", endpoint), ("POST", endpoint + "/x")):
        async with http.request(method, url) as reply:
            assert reply.status == 405
            assert method not in reply.headers["Allow"].split(", ")
            await problem(reply)


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, OFFER, 415, "http.media_type"),
        ({"Content-Type": "text/plain"}, OFFER, 415, "http.media_type"),
        ({"Content-Type": "application/sdp; version=1"}, OFFER, 415, "http.media_type"),
        ({"Content-Type": "application/sdpx"}, OFFER, 415, "http.media_type"),
        ({"Content-Type": "application/sdp;charset=utf-16"}, OFFER, 415, "http.media_type"),
        (SDP, "", 400, "sdp.malformed"),
        (SDP, " \r\n", 400, "sdp.malformed"),
        (SDP, b"v=\xff\xff", 400, "sdp.malformed"),
        (SDP, "x" * 65_537, 413, "http.body_too_long"),
    ],
)
async def test_offers_that_are_none(
    *,
    running: Running,
    http: aiohttp.ClientSession,
    protocol: str,
    headers: dict[str, str],
    body: str | bytes,
    status: int,
    code: str,
) -> None:
    async with http.post(
        f"{running.url}/{protocol}/demo",
        data=body,
        headers=headers,
        skip_auto_headers=["Content-Type"],
    ) as reply:
        assert reply.status == status
        assert (await problem(reply))["code"] == code
    assert not running.media.sessions


async def test_a_body_of_unknown_length_is_bounded(
    running: Running, http: aiohttp.ClientSession, protocol: str
) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield b"x" * 1_000

    async with http.post(f"{running.url}/{protocol}/demo", data=endless(), headers=SDP) as reply:
        assert reply.status == 413
        await problem(reply)


async def test_a_slow_body_is_408(start: Start, protocol: str) -> None:
    running: Running = await start(edge=HttpSettings(body_seconds=0.2))
    said = await running.raw(
        f"POST /{protocol}/demo HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/sdp\r\n"
        "Content-Length: 100\r\n\r\nv=0".encode(),
        until=b"}",
    )
    assert said.startswith(b"HTTP/1.1 408 ")


async def test_a_charset_is_allowed(
    running: Running, http: aiohttp.ClientSession, protocol: str
) -> None:
    headers = {"Content-Type": 'Application/SDP; charset="UTF-8"'}
    async with http.post(f"{running.url}/{protocol}/demo", data=OFFER, headers=headers) as reply:
        assert reply.status == 201


@pytest.mark.parametrize(
    ("refused", "status", "retry"),
    [
        (Refused(0, "sdp.malformed", "line 17: a=fingerprint: what"), 400, None),
        (Refused(0, "sdp.not_acceptable", "the stream is VP9, the offer has H264"), 406, None),
        (Refused(0, "stream.not_live", "nobody publishes", 2), 409, "2"),
        (Refused(0, "stream.already_published", "somebody publishes"), 409, None),
        (Refused(0, "media.overloaded", "no room", 2), 503, "2"),
        (Refused(0, "something.new", "no"), 400, None),
    ],
)
async def test_what_media_refuses(
    *,
    running: Running,
    http: aiohttp.ClientSession,
    protocol: str,
    refused: Refused,
    status: int,
    retry: str | None,
) -> None:
    running.media.refusals["demo"] = refused
    async with http.post(f"{running.url}/{protocol}/demo", data=OFFER, headers=SDP) as reply:
        assert reply.status == status
        said = await problem(reply)
        assert (said["code"], said["detail"]) == (refused.code, refused.detail)
        assert reply.headers.get("Retry-After") == retry


@pytest.mark.parametrize("name", ["-demo", "x" * 65, "a b", "a%2fb", "ä"])
async def test_names_that_no_stream_has(
    running: Running, http: aiohttp.ClientSession, protocol: str, name: str
) -> None:
    async with http.post(f"{running.url}/{protocol}/{name}", data=OFFER, headers=SDP) as reply:
        assert reply.status == 400
        await problem(reply)


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        (FRAGMENT, CANDIDATES, 428, "ice.tag_missing"),
        ({**FRAGMENT, "If-Match": '"other"'}, CANDIDATES, 412, "ice.tag_wrong"),
        ({**FRAGMENT, "If-Match": 'W/"tag1"'}, CANDIDATES, 412, "ice.tag_wrong"),
        ({**FRAGMENT, "If-Match": "tag1"}, CANDIDATES, 412, "ice.tag_wrong"),
        ({**FRAGMENT, "If-Match": '"other", "tag1"'}, CANDIDATES, 204, None),
        ({**FRAGMENT, "If-Match": "*"}, CANDIDATES, 204, None),
        (
            {**FRAGMENT, "If-Match": "*"},
            CANDIDATES.replace("EsAw", "ysXw"),
            422,
            "ice.restart",
        ),
        ({**FRAGMENT, "If-Match": '"tag1"'}, "a=mid:0\r\n", 400, "sdp.malformed"),
        ({**FRAGMENT, "If-Match": '"tag1"'}, "", 400, "sdp.malformed"),
        ({**SDP, "If-Match": '"tag1"'}, CANDIDATES, 415, "http.media_type"),
    ],
)
async def test_trickle(
    *,
    running: Running,
    http: aiohttp.ClientSession,
    protocol: str,
    headers: dict[str, str],
    body: str,
    status: int,
    code: str | None,
) -> None:
    async with http.post(f"{running.url}/{protocol}/demo", data=OFFER, headers=SDP) as reply:
        url = running.url + reply.headers["Location"]
    async with http.patch(url, data=body, headers=headers) as reply:
        assert reply.status == status
        if code is not None:
            assert (await problem(reply))["code"] == code
    assert len(running.media.sessions) == 1, "a refused restart does not end the session"


async def test_keys(start: Start, http: aiohttp.ClientSession, protocol: str) -> None:
    running: Running = await start(auth=KEYS)
    endpoint = f"{running.url}/{protocol}/demo"
    for headers, error in (({}, False), ({"Authorization": "Bearer wrong-secret"}, True)):
        async with http.post(endpoint, data=OFFER, headers={**SDP, **headers}) as reply:
            assert reply.status == 401
            challenge = reply.headers["WWW-Authenticate"]
            assert challenge.startswith("Bearer ")
            assert ('error="invalid_token"' in challenge) is error
            await problem(reply)
    async with http.post(endpoint, data=OFFER, headers={**SDP, **key("reader")}) as reply:
        assert reply.status == (201 if protocol == "whep" else 403)
    async with http.post(endpoint, data=OFFER, headers={**SDP, **key("one")}) as reply:
        assert reply.status == 201
        url = running.url + reply.headers["Location"]
    for headers, status in (({}, 401), (key("two"), 403), (key("one"), 200)):
        async with http.delete(url, headers=headers) as reply:
            assert reply.status == status
    async with http.post(endpoint, data=OFFER, headers={**SDP, **key("two")}) as reply:
        url = running.url + reply.headers["Location"]
    async with http.delete(url, headers=key("chief")) as reply:
        assert reply.status == 200


async def test_a_session_is_reached_by_its_own_path_only(
    running: Running, http: aiohttp.ClientSession
) -> None:
    async with http.post(f"{running.url}/whip/demo", data=OFFER, headers=SDP) as reply:
        session = reply.headers["Location"].rpartition("/")[2]
    for path in (f"/whep/demo/{session}", f"/whip/other/{session}", f"/whip/demo/{session[:-1]}"):
        async with http.delete(running.url + path) as reply:
            assert reply.status == 404
    assert session in running.media.sessions


async def test_the_open_mode_refuses_strangers(
    running: Running, http: aiohttp.ClientSession, protocol: str
) -> None:
    endpoint = f"{running.url}/{protocol}/demo"
    cases = [
        ({"Origin": "https://elsewhere.example.org"}, 403),
        ({"Host": "rebound.example.org"}, 403),
        ({"X-Forwarded-For": "192.0.2.7"}, 401),
        ({"Origin": "http://localhost:5173"}, 201),
    ]
    for headers, status in cases:
        async with http.post(endpoint, data=OFFER, headers={**SDP, **headers}) as reply:
            assert reply.status == status
            if status != 201:
                assert "no keys" in str((await problem(reply))["detail"])


async def test_a_publisher_that_gives_up_leaves_no_session(
    running: Running, http: aiohttp.ClientSession
) -> None:
    running.media.mute = True
    with pytest.raises(TimeoutError):
        async with http.post(
            f"{running.url}/whip/demo",
            data=OFFER,
            headers=SDP,
            timeout=aiohttp.ClientTimeout(total=0.2),
        ):
            pass
    await eventually(lambda: running.worker.link.pending == 0)
    running.media.mute = False
    running.media._make(running.media.asked(Publish)[0])
    await eventually(lambda: not running.media.sessions)

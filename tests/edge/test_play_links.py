"""Signed play links: what they open, for how long, and what is refused."""

import asyncio
import base64
import hashlib
import json
from dataclasses import replace

import aiohttp
import pytest

from edge.access import Access, AuthSettings, Caller, KeySettings
from edge.http_head import fields_of
from edge.play_links import LinkSecret, PlayLinks
from ops.errors import Rejected
from tests.edge.conftest import Running, Start, eventually

NEW, OLD, FOREIGN = "n" * 32, "o" * 40, "f" * 32
SECRETS = (LinkSecret("k2", NEW), LinkSecret("k1", OLD))
NOW = 1_800_000_000
AUTH = AuthSettings(
    keys=(
        KeySettings("viewers", secret="viewers-secret", actions=("read",), streams=("show-*",)),
        KeySettings("desk", secret="desk-secret", actions=("control",)),
        KeySettings("studio", secret="studio-secret", actions=("publish",)),
        KeySettings("cache", secret="cache-secret", actions=("read",), shared_cache=True),
    ),
    link_secrets=SECRETS,
)


def links(now: float = NOW) -> PlayLinks:
    return PlayLinks(SECRETS, clock=lambda: now)


def middle(path: str) -> str:
    """The link in a path."""
    return path.split("/")[2].removeprefix("_")


def code(link: str, stream: str = "show", now: float = NOW) -> str:
    try:
        links(now).check(link, stream=stream)
    except Rejected as refused:
        return refused.code
    return "opens"


def test_a_link_opens_its_stream_until_its_end() -> None:
    path = links().make("show", until_unix=NOW + 60)
    assert path.startswith(f"/hls/_k2-{NOW + 60}-")
    assert path.endswith("/show/index.m3u8")
    link = middle(path)
    assert links().check(link, stream="show") == NOW + 60
    assert code(link, now=NOW + 60.9) == "opens"
    assert code(link, now=NOW + 61) == "link.expired"
    assert code(link, "other") == "link.invalid"


def test_the_signature_is_what_nginx_computes() -> None:
    """As `secure_link_md5 "$secret $until $stream $secret"`."""
    text = f"{NEW} {NOW + 60} show {NEW}".encode()
    expected = base64.urlsafe_b64encode(hashlib.md5(text).digest()).decode().rstrip("=")
    assert middle(links().make("show", until_unix=NOW + 60)) == f"k2-{NOW + 60}-{expected}"


def test_what_was_tampered_with_is_refused() -> None:
    link = middle(links().make("show", until_unix=NOW + 60))
    name, moment, signature = link.split("-", 2)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    for at in range(len(signature)):
        for letter in letters:
            if letter != signature[at]:
                changed = signature[:at] + letter + signature[at + 1 :]
                assert code(f"{name}-{moment}-{changed}") == "link.invalid", (at, letter)
    for other in (
        f"{name}-{int(moment) + 1}-{signature}",
        f"{name}-0{moment}-{signature}",
        f"k1-{moment}-{signature}",
        f"k3-{moment}-{signature}",
        f"{name}-{moment}-{signature}A",
        f"{name}-{moment}-{signature}==",
        f"{name}-{moment}-",
        f"{name}-{moment}",
        name,
        "",
    ):
        assert code(other) == "link.invalid", other


def test_both_secrets_hold_while_they_are_changed() -> None:
    before = PlayLinks(SECRETS[1:], clock=lambda: NOW).make("show", until_unix=NOW + 60)
    after = links().make("show", until_unix=NOW + 60)
    assert middle(before).startswith("k1-")
    assert code(middle(before)) == code(middle(after)) == "opens"
    later = PlayLinks(SECRETS[:1], clock=lambda: NOW)
    assert later.check(middle(after), stream="show")
    with pytest.raises(Rejected, match="k1"):
        later.check(middle(before), stream="show")
    stranger = PlayLinks((LinkSecret("k2", FOREIGN),), clock=lambda: NOW)
    assert code(middle(stranger.make("show", until_unix=NOW + 60))) == "link.invalid"


def test_without_a_secret_there_are_no_links() -> None:
    with pytest.raises(Rejected) as refused:
        PlayLinks((), clock=lambda: NOW).make("show", until_unix=NOW)
    assert refused.value.code == "link.disabled"


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "K", "secret": NEW},
        {"name": "a-b", "secret": NEW},
        {"name": "", "secret": NEW},
        {"name": "k", "secret": "short"},
        {"name": "k", "secret": NEW + " "},
        {"name": "k", "secret": NEW + "$"},
    ],
)
def test_secrets_that_nginx_could_not_hold_are_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"name:|secret:"):
        LinkSecret(**wrong)


def test_settings_that_contradict_themselves() -> None:
    for wrong in (
        {"link_secrets": (SECRETS[0], SECRETS[0])},
        {"link_seconds": 10, "link_seconds_max": 5},
        {"link_origin": "cdn.example.org"},
        {"link_origin": "https://cdn.example.org/path"},
    ):
        with pytest.raises(ValueError, match="link_"):
            AuthSettings(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="shared_cache"):
        KeySettings("cache", secret="cache-secret", shared_cache=True)


def test_answers_are_for_all_only_where_all_may_have_them() -> None:
    """A cache in front must not hand on what a key, a cookie or a link has opened."""
    fields = fields_of([("host", "a")])
    link = middle(links().make("show-1", until_unix=NOW + 60))

    def shared(settings: AuthSettings, token: str = "", link: str = "") -> bool:
        access = Access(settings, listens=("0.0.0.0:80",), clock=lambda: NOW)
        passed = access.decide(Caller(fields, "hls", token=token, link=link), "read", "show-1")
        assert passed is not None
        return passed.shared

    assert not shared(AUTH, "viewers-secret")
    assert not shared(AUTH, link=link)
    assert shared(AUTH, "cache-secret")
    public = replace(AUTH, read_public=True)
    assert shared(public)
    assert shared(public, "viewers-secret")
    assert not shared(public, link=link)


async def ask(
    running: Running, path: str, *, key: str = "", method: str = "GET"
) -> tuple[int, dict[str, str], bytes]:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    async with (
        aiohttp.ClientSession() as http,
        http.request(method, running.url + path, headers=headers) as reply,
    ):
        return reply.status, dict(reply.headers), await reply.read()


async def test_a_link_is_made_and_plays(start: Start) -> None:
    running: Running = await start(auth=AUTH)
    running.shelf.put("show-1", "index.m3u8", b"#EXTM3U\n")
    running.shelf.put("show-1", "v/live.m3u8", b"#EXTM3U\n#v\n")
    path = "/api/v1/streams/show-1/links?seconds=60"
    status, headers, body = await ask(running, path, key="viewers-secret", method="POST")
    assert (status, headers["Cache-Control"]) == (200, "no-store")
    made = json.loads(body)
    now = running.worker._clock.unix()
    assert 50 <= made["expires_unix"] - now <= 60
    status, headers, body = await ask(running, made["url"])
    assert (status, body, headers["Cache-Control"]) == (200, b"#EXTM3U\n", "private, max-age=1")
    live = made["url"].replace("index.m3u8", "v/live.m3u8")
    assert (await ask(running, live))[2] == b"#EXTM3U\n#v\n"
    # It wins over a key that would open more, so a page's cookie changes nothing.
    other = live.replace("/show-1/", "/show-2/")
    status, _, body = await ask(running, other, key="cache-secret")
    assert (status, json.loads(body)["code"]) == (403, "link.invalid")


async def test_who_may_make_links(start: Start) -> None:
    running: Running = await start(auth=replace(AUTH, link_origin="https://cdn.example.org"))
    path = "/api/v1/streams/{}/links"
    cases = {
        ("show-1", "viewers-secret"): 200,
        ("other", "viewers-secret"): 403,
        ("other", "desk-secret"): 200,
        ("show-1", "studio-secret"): 403,
        ("show-1", "nobody's"): 401,
        ("show-1", ""): 401,
    }
    for (stream, key), expected in cases.items():
        status, _, body = await ask(running, path.format(stream), key=key, method="POST")
        assert status == expected, (stream, key, body)
        if status == 200:
            assert json.loads(body)["url"].startswith("https://cdn.example.org/hls/_k2-")
    for seconds in ("0", "-1", "x", "86401", "9" * 40):
        asked = path.format("show-1") + f"?seconds={seconds}"
        assert (await ask(running, asked, key="viewers-secret", method="POST"))[0] == 400


async def test_without_secrets_the_route_says_so(running: Running) -> None:
    status, _, body = await ask(running, "/api/v1/streams/demo/links", method="POST")
    assert (status, json.loads(body)["code"]) == (409, "link.disabled")


async def test_refusals_name_the_reason(start: Start) -> None:
    running: Running = await start(auth=AUTH)
    running.shelf.put("show-1", "index.m3u8", b"#EXTM3U\n")
    good = links().make("show-1", until_unix=NOW + 60)
    old = links().make("show-1", until_unix=1_000_000_000)
    for path, status, reason in (
        (good, 200, ""),
        (old, 410, "link.expired"),
        (good.replace("/show-1/", "/show-2/"), 403, "link.invalid"),
        (good.replace("_k2-", "_k9-"), 403, "link.invalid"),
        (good.replace("_k2-18", "_k2-19"), 403, "link.invalid"),
        (good.replace("_k2-", "_"), 403, "link.invalid"),
        ("/hls/_/show-1/index.m3u8", 404, "hls.unknown"),
        ("/hls/_x/show-1/index.m3u8", 403, "link.invalid"),
        (good.replace("/_", "/~_"), 401, "auth.invalid"),
    ):
        said, headers, body = await ask(running, path)
        assert said == status, path
        if reason:
            assert json.loads(body)["code"] == reason
            assert headers["Cache-Control"] == "no-store"
            assert headers["Content-Type"] == "application/problem+json"


async def test_a_link_ends_on_a_connection_that_goes_on(start: Start) -> None:
    running: Running = await start(auth=AUTH)
    running.shelf.put("show-1", "index.m3u8", b"#EXTM3U\n")
    now = int(running.worker._clock.unix())
    made = PlayLinks(SECRETS, clock=lambda: now).make("show-1", until_unix=now + 1)
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port)
    said: list[bytes] = []

    async def again() -> None:
        writer.write(f"GET {made} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        said.append(head[9:12])

    await again()
    assert said == [b"200"]
    async with asyncio.timeout(10):
        while said[-1] == b"200":
            await again()
    assert said[-1] == b"410"
    writer.close()
    await eventually(lambda: running.worker.door.count == 0)

"""Who may do what: the open mode and its guards, keys, public playing, and where keys are taken
from."""

import hashlib
from collections.abc import Mapping

import pytest

from edge.access import (
    Access,
    Action,
    AuthSettings,
    Caller,
    KeySettings,
    Pass,
    check_start,
    is_loopback,
)
from edge.http_head import fields_of
from edge.http_settings import HttpSettings
from edge.settings import Settings
from edge.tls import TlsSettings
from ops.errors import Rejected
from ops.settings import SettingsError
from tests.edge.conftest import Running, Start

LOCAL = ("127.0.0.1:8080", "[::1]:8080")
KEYS = AuthSettings(
    keys=(
        KeySettings("studio", secret="studio-secret", actions=("publish",), streams=("show-*",)),
        KeySettings("viewers", secret="viewers-secret", actions=("read",)),
        KeySettings(
            "chief",
            secret_sha256=hashlib.sha256(b"chief-secret").hexdigest(),
            actions=("publish", "read", "control"),
        ),
    )
)


def caller(token: str = "", **fields: str) -> Caller:
    pairs = [(name.replace("_", "-"), value) for name, value in {"host": "a", **fields}.items()]
    return Caller(fields_of(pairs), "whip", token=token)


def verdict(access: Access, action: Action, stream: str, asking: Caller) -> str:
    """The subject that is let in, or the code of the refusal."""
    try:
        passed = access.decide(asking, action, stream)
    except Rejected as refused:
        return refused.code
    assert passed is not None
    return passed.grant.subject


def access_of(settings: AuthSettings, *listens: str) -> Access:
    return Access(settings, listens=listens or LOCAL, clock=lambda: 0.0)


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("x.localhost", True),
        ("127.0.0.1", True),
        ("127.8.9.10", True),
        ("[::1]", True),
        ("::1", True),
        ("localhost.example.org", False),
        ("127.0.0.1.example.org", False),
        ("0.0.0.0", False),
        ("10.0.0.1", False),
        ("[::]", False),
        ("", False),
        ("127.1", False),
    ],
)
def test_what_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"host": "localhost:8080"}, "local"),
        ({"host": "127.0.0.1:8080"}, "local"),
        ({"host": "[::1]:8080"}, "local"),
        ({"host": "nexus.localhost"}, "local"),
        ({"host": "rebound.example.org:8080"}, "auth.forbidden"),
        ({"host": "192.168.1.5:8080"}, "auth.forbidden"),
        ({"host": ""}, "auth.forbidden"),
        ({"host": "localhost", "origin": "http://localhost:5173"}, "local"),
        ({"host": "localhost", "origin": "http://127.0.0.1:8080"}, "local"),
        ({"host": "localhost", "origin": "https://elsewhere.example.org"}, "auth.forbidden"),
        ({"host": "localhost", "origin": "null"}, "auth.forbidden"),
        ({"host": "localhost", "x_forwarded_for": "1.2.3.4"}, "auth.forwarded"),
        ({"host": "localhost", "forwarded": "for=1.2.3.4"}, "auth.forwarded"),
        ({"host": "localhost", "via": "1.1 cache"}, "auth.forwarded"),
        ({"host": "localhost", "x_real_ip": "127.0.0.1"}, "auth.forwarded"),
        ({"host": "localhost", "cf_connecting_ip": "1.2.3.4"}, "auth.forwarded"),
        ({"host": "localhost", "true_client_ip": "1.2.3.4"}, "auth.forwarded"),
    ],
)
def test_the_open_mode_serves_its_own_machine_alone(
    fields: Mapping[str, str], expected: str
) -> None:
    access = access_of(AuthSettings())
    for action in ("publish", "read", "control"):
        assert verdict(access, action, "demo", caller(**fields)) == expected


def test_there_is_no_open_mode_on_other_addresses() -> None:
    access = access_of(AuthSettings(), "127.0.0.1:8080", "0.0.0.0:8443")
    assert not access.open
    assert verdict(access, "read", "demo", caller(host="localhost")) == "auth.missing"


@pytest.mark.parametrize(
    ("token", "action", "stream", "expected"),
    [
        ("", "publish", "show-1", "auth.missing"),
        ("wrong-secret", "publish", "show-1", "auth.invalid"),
        ("studio-secret", "publish", "show-1", "studio"),
        ("studio-secret", "publish", "other", "auth.forbidden"),
        ("studio-secret", "read", "show-1", "auth.forbidden"),
        ("studio-secret", "control", "show-1", "auth.forbidden"),
        ("viewers-secret", "read", "anything", "viewers"),
        ("viewers-secret", "publish", "show-1", "auth.forbidden"),
        ("chief-secret", "control", "", "chief"),
        ("chief-secret", "publish", "x", "chief"),
        (hashlib.sha256(b"chief-secret").hexdigest(), "publish", "x", "auth.invalid"),
    ],
)
def test_keys(token: str, action: Action, stream: str, expected: str) -> None:
    for listens in (LOCAL, ("0.0.0.0:80",)):
        access = access_of(KEYS, *listens)
        for _ in range(2):
            assert verdict(access, action, stream, caller(token, host="localhost")) == expected


def test_a_key_names_the_streams_it_covers() -> None:
    passed = access_of(KEYS).decide(caller("studio-secret"), "publish", "show-1")
    assert isinstance(passed, Pass)
    assert passed.covers("show-9")
    assert not passed.covers("news")


def test_public_playing() -> None:
    access = access_of(AuthSettings(keys=KEYS.keys, read_public=True), "0.0.0.0:80")
    assert verdict(access, "read", "demo", caller()) == "public"
    assert verdict(access, "read", "demo", caller("viewers-secret")) == "viewers"
    assert verdict(access, "publish", "demo", caller()) == "auth.missing"
    assert verdict(access, "control", "demo", caller()) == "auth.missing"


def test_nobody_listens_elsewhere_without_authentication() -> None:
    public = HttpSettings(listen=("127.0.0.1:8080", "0.0.0.0:8080"))
    with pytest.raises(SettingsError, match=r"0\.0\.0\.0:8080"):
        check_start(Settings(edge=public))
    with pytest.raises(SettingsError, match=r"8443"):
        check_start(Settings(tls=TlsSettings(listen=("[::]:8443",), self_signed=True)))
    with pytest.raises(SettingsError):
        check_start(Settings(edge=public, auth=AuthSettings(read_public=True)))
    check_start(Settings(edge=public, auth=KEYS))
    check_start(Settings(edge=public, auth=AuthSettings(hook_url="http://127.0.0.1:1/")))
    check_start(Settings(edge=HttpSettings(listen=LOCAL)))


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "", "secret": "long-enough"},
        {"name": "a"},
        {"name": "a", "secret": "short"},
        {"name": "a", "secret": "with space in it"},
        {"name": "a", "secret": "long-enough", "secret_sha256": "0" * 64},
        {"name": "a", "secret_sha256": "xyz"},
        {"name": "a", "secret": "long-enough", "actions": ()},
    ],
)
def test_keys_that_make_no_sense_stop_the_start(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        KeySettings(**wrong)


def hls(path: str, *fields: str) -> bytes:
    lines = [f"GET /hls/{path} HTTP/1.1", "Host: localhost", *fields, "Connection: close"]
    return "\r\n".join([*lines, "", ""]).encode()


@pytest.mark.parametrize("before", [b"", b"HEAD /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_hls_takes_its_key_from_header_path_or_cookie(start: Start, before: bytes) -> None:
    running: Running = await start(auth=KEYS)
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    cases = [
        (hls("demo/v/live.m3u8"), 401),
        (hls("demo/v/live.m3u8", "Authorization: Bearer viewers-secret"), 200),
        (hls("demo/v/live.m3u8", "Authorization: bearer viewers-secret"), 200),
        (hls("demo/v/live.m3u8", "Authorization: Basic dmlld2Vycw=="), 401),
        (hls("demo/v/live.m3u8", "Authorization: Bearer studio-secret"), 403),
        (hls("~viewers-secret/demo/v/live.m3u8"), 200),
        (hls("%7Eviewers%2Dsecret/demo/v/live.m3u8"), 200),
        (hls("~wrong-secret/demo/v/live.m3u8"), 401),
        (hls("demo/v/live.m3u8", "Cookie: a=b; nexus_key=viewers-secret; c=d"), 200),
        (hls("demo/v/live.m3u8", "Cookie: nexus_key=wrong-secret"), 401),
        (hls("demo/v/live.m3u8?key=viewers-secret"), 401),
    ]
    for data, expected in cases:
        said = (await running.raw(before + data))[20 if before else 0 :]
        said = said[said.index(b"HTTP/1.1 ") :]
        assert int(said[9:12]) == expected, (data, said)
        if expected == 401:
            assert b"\r\nWWW-Authenticate: Bearer" in said


async def test_a_cookie_opens_nothing_but_hls(start: Start) -> None:
    running: Running = await start(auth=KEYS)
    said = await running.raw(
        b"GET /api/v1/streams HTTP/1.1\r\nHost: localhost\r\n"
        b"Cookie: nexus_key=chief-secret\r\nConnection: close\r\n\r\n"
    )
    assert said.startswith(b"HTTP/1.1 401 ")


async def test_the_decision_of_a_connection_is_not_carried_to_other_streams_or_keys(
    start: Start,
) -> None:
    keys = AuthSettings(
        keys=(KeySettings("one", secret="only-for-one", actions=("read",), streams=("one",)),)
    )
    running: Running = await start(auth=keys)
    for stream in ("one", "two"):
        running.shelf.put(stream, "v/live.m3u8", b"#EXTM3U\n")
    bearer = "Authorization: Bearer only-for-one"
    said = await running.raw(
        hls("one/v/live.m3u8", bearer).replace(b"Connection: close\r\n", b"")
        + hls("two/v/live.m3u8", bearer).replace(b"Connection: close\r\n", b"")
        + hls("one/v/live.m3u8").replace(b"Connection: close\r\n", b"")
        + hls("one/v/live.m3u8", bearer)
    )
    statuses = [piece[:3] for piece in said.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"403", b"401", b"200"]

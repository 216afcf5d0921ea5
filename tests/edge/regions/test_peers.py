"""Messages between regions: signed by a key that does not travel, or refused."""

import aiohttp
import pytest

from edge.regions.peers import CLOCK_SECONDS, PATH, PeerUnknown, signed, verified
from ops.region_settings import PeerSettings, RegionSettings
from tests.fakes.regions import KEY, World

NOW = 1_800_000_000
SETTINGS = RegionSettings(peers=(PeerSettings(region="us1", url="http://us1", key=KEY),))


def message(**changed: object) -> dict[str, object]:
    """What us1 says to eu1, but for what is changed on the way."""
    said = {"source": "us1", "target": "eu1", "method": "POST", "path": "/a?b", "body": b"{}"}
    key, at = changed.pop("key", KEY), changed.pop("at", NOW)
    text = signed(str(key), at=int(str(at)), **{**said, **changed})  # type: ignore[arg-type]
    return {"authorization": text, "method": "POST", "path": "/a?b", "body": b"{}"}


def read(region: str = "eu1", **told: object) -> str:
    return verified(settings=SETTINGS, region=region, now=NOW, **told)  # type: ignore[arg-type]


def test_who_has_the_key_is_known() -> None:
    assert read(**message()) == "us1"
    assert read(**message(at=NOW - CLOCK_SECONDS)) == "us1"


@pytest.mark.parametrize(
    "changed",
    [
        {"key": KEY + "x"},
        {"at": NOW - CLOCK_SECONDS - 1},
        {"at": NOW + CLOCK_SECONDS + 1},
        {"method": "GET"},
        {"path": "/a?c"},
        {"body": b"[]"},
        {"target": "ap1"},
        {"source": "ap1"},
    ],
)
def test_anything_else_is_refused(changed: dict[str, object]) -> None:
    with pytest.raises(PeerUnknown):
        read(**message(**changed))


@pytest.mark.parametrize("text", ["", "Bearer x", 'Nexus-Peer region="us1"', "Nexus-Peer \x00"])
def test_what_is_no_signature_is_refused(text: str) -> None:
    with pytest.raises(PeerUnknown):
        read(authorization=text, method="GET", path="/", body=b"")


async def test_strangers_learn_nothing(two: World) -> None:
    url = two["eu1"].url + PATH
    async with aiohttp.ClientSession() as session:
        for method, path in (("GET", "/changes?after=0"), ("POST", "/reserve")):
            async with session.request(method, url + path, data=b"{}") as answer:
                assert answer.status == 401
                assert (await answer.json(content_type=None))["code"] == "auth.invalid"


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/changes?after=0", b"", 200),
        ("GET", "/changes?after=-1", b"", 400),
        ("GET", "/changes?after=" + "9" * 30, b"", 400),
        ("POST", "/find", b'{"tenant": "acme"}', 200),
        ("POST", "/find", b'{"tenant": 1}', 400),
        ("POST", "/find", b"{", 400),
        ("POST", "/find", b'{"tenant": ""}', 400),
        ("POST", "/find", b'{"tenant": "' + b"a" * 257 + b'"}', 400),
        ("POST", "/find", b"x" * 5_000, 413),
        ("POST", "/nothing", b'{"tenant": "acme"}', 404),
        ("POST", "/confirm", b'{"tenant": "acme", "epoch": 9}', 409),
        ("POST", "/release", b'{"tenant": "acme", "epoch": 9}', 409),
    ],
)
async def test_what_peers_may_ask(
    two: World, method: str, path: str, body: bytes, status: int
) -> None:
    text = _by_us(two, method, path, body)
    async with (
        aiohttp.ClientSession() as session,
        session.request(
            method, two["eu1"].url + PATH + path, data=body, headers={"Authorization": text}
        ) as answer,
    ):
        assert answer.status == status, await answer.text()


async def test_only_the_directorys_region_answers(two: World) -> None:
    path = f"{PATH}/changes?after=0"
    at = int(two["us1"].clock.unix())
    text = signed(KEY, source="eu1", target="us1", method="GET", path=path, body=b"", at=at)
    async with (
        aiohttp.ClientSession(headers={"Authorization": text}) as session,
        session.get(two["us1"].url + path) as answer,
    ):
        assert answer.status == 421


async def test_nothing_new_is_304(two: World) -> None:
    path = "/changes?after=0"
    headers = {"Authorization": _by_us(two, "GET", path, b""), "If-None-Match": '"0"'}
    async with (
        aiohttp.ClientSession(headers=headers) as session,
        session.get(two["eu1"].url + PATH + path) as answer,
    ):
        assert (answer.status, answer.headers["ETag"]) == (304, '"0"')


def _by_us(two: World, method: str, path: str, body: bytes) -> str:
    at = int(two["us1"].clock.unix())
    return signed(
        KEY, source="us1", target="eu1", method=method, path=PATH + path, body=body, at=at
    )

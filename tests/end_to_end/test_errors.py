"""Bad input at the public port gets an honest status and a reason, where keys are wanted."""

import http.client
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from media._native import Swarm
from tests.end_to_end.family import Family, fetch, wait_until
from tests.end_to_end.publishers import ffmpeg_whip

KEY = "a-key-for-the-tests-0123456789"
KEYS = json.dumps(
    [
        {"name": "studio", "secret": KEY, "actions": ["publish"], "streams": ["show-*"]},
        {"name": "desk", "secret": KEY + "-desk", "actions": ["read", "control"], "streams": ["*"]},
    ]
)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Family]:
    with Family(tmp_path_factory.mktemp("guarded"), NEXUS_AUTH_KEYS=KEYS) as family:
        yield family


def _post(
    family: Family, path: str, body: bytes, *, key: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", family.port, timeout=5)
    sent = {"Content-Type": "application/sdp", **headers}
    if key:
        sent["Authorization"] = f"Bearer {key}"
    connection.request("POST", path, body, sent)
    answer = connection.getresponse()
    result = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return result


def _offer() -> bytes:
    swarm = Swarm()
    try:
        return swarm.offer_viewer()[1].replace("a=recvonly", "a=sendonly").encode()
    finally:
        swarm.stop()


def test_a_wrong_key(guarded: Family) -> None:
    for key in ("", "wrong"):
        status, headers, body = _post(guarded, "/whip/show-1", _offer(), key=key)
        assert status == 401
        assert headers["www-authenticate"].startswith("Bearer")
        assert headers["content-type"] == "application/problem+json"
        assert json.loads(body)["status"] == 401


def test_a_key_for_another_stream_or_action(guarded: Family) -> None:
    assert _post(guarded, "/whip/other", _offer(), key=KEY)[0] == 403
    assert _post(guarded, "/whep/show-1", _offer(), key=KEY)[0] == 403


def test_an_unknown_stream(guarded: Family) -> None:
    """WHEP draft 03: nobody publishes, 409 with Retry-After."""
    status, headers, _ = _post(guarded, "/whep/nobody", _offer(), key=KEY + "-desk")
    assert status == 409
    assert int(headers["retry-after"]) >= 1


def test_malformed_sdp_says_where(guarded: Family) -> None:
    for bad in (b"", b"hello", b"v=0\r\n", _offer().replace(b"a=ice-ufrag", b"a=no-ufrag")):
        status, _, body = _post(guarded, "/whip/show-1", bad, key=KEY)
        assert status == 400, bad[:40]
        assert len(json.loads(body)["detail"]) > 10


def test_a_foreign_sender_with_its_key(guarded: Family, tmp_path: Path) -> None:
    with ffmpeg_whip(f"{guarded.url}/whip/show-ffmpeg", tmp_path / "f.log", key=KEY):

        def live() -> bool:
            body = fetch(f"{guarded.url}/api/v1/streams", key=KEY + "-desk")[1]
            return any(
                s["stream"] == "show-ffmpeg" and s["state"] == "live"
                for s in json.loads(body)["streams"]
            )

        wait_until("ffmpeg with a key is live", live, 15)


def test_it_refuses_to_listen_elsewhere_without_keys(tmp_path: Path) -> None:
    family = Family(tmp_path, NEXUS_EDGE_LISTEN="0.0.0.0:0")
    with pytest.raises(AssertionError, match="nexus up ended"):
        family.start()
    assert "key" in family.log()

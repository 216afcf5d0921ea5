"""What the CDN tests share: an origin with keys, link secrets and the demo stream on it, a remote
edge (nginx and Varnish) and nginx on the origin's host in front of it.

They need a network namespace with only loopback, as the end-to-end tests do.
"""

import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.play_links import LinkSecret, PlayLinks
from tests.cdn.servers import Nginx, RemoteEdge
from tests.end_to_end.browser import BrowserContext, chromium
from tests.end_to_end.family import Family, fetch, wait_until

PROVE = os.environ.get("NEXUS_PROVE") == "1"
SECRET = "s3cret-of-the-links-" + "x" * 20
CHIEF, CACHE, VIEWER = "chief-secret", "cache-secret", "viewer-secret"
SECRETS_CONF = f'k1 "{SECRET}";\n'
SETTINGS = {
    "NEXUS_AUTH_KEYS": json.dumps(
        [
            {"name": "chief", "secret": CHIEF, "actions": ["publish", "read", "control"]},
            {"name": "viewer", "secret": VIEWER, "actions": ["read"]},
            {"name": "cache", "secret": CACHE, "actions": ["read"], "shared_cache": True},
        ]
    ),
    "NEXUS_AUTH_LINK_SECRETS": json.dumps([{"name": "k1", "secret": SECRET}]),
    "NEXUS_EDGE_METRICS_PUBLIC": "true",
    "NEXUS_EDGE_TRUSTED_PROXIES": "127.0.0.1/32",
    "NEXUS_DEMO_KEY": CHIEF,
    "NEXUS_HLS_LINGER_SECONDS": "20",
}


class Origin(Family):
    """A family with the demo stream that only keys and links open."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, demo=True, **SETTINGS)

    def live(self, stream: str) -> bool:
        try:
            status, body = fetch(f"{self.url}/api/v1/streams/{stream}", key=CHIEF)
        except OSError:
            return False
        return status == 200 and json.loads(body)["state"] == "live" and json.loads(body)["hls"]

    def answers(self) -> int:
        """HLS requests that this origin has answered, as far as its workers have told."""
        _, body = fetch(f"{self.url}/metrics")
        lines = body.decode().splitlines()
        told = (line for line in lines if line.startswith("nexus_hls_requests_total"))
        return int(sum(float(line.split()[-1]) for line in told))

    def settled_answers(self) -> int:
        """The same once it has not changed for two seconds: workers tell it once a second."""
        seen: list[tuple[float, int]] = [(time.monotonic(), self.answers())]

        def still() -> bool:
            now, count = time.monotonic(), self.answers()
            if count != seen[-1][1]:
                seen.append((now, count))
            return now - seen[-1][0] > 2.0

        wait_until("nobody asks any more", still, 20.0)
        return seen[-1][1]


def pytest_collection_modifyitems() -> None:
    if not {name for _, name in socket.if_nameindex()} <= {"lo"}:
        pytest.exit("CDN tests run in a network namespace of their own: use `make test`", 2)


@pytest.fixture(scope="session")
def prove() -> bool:
    """Whether this is the long form."""
    return PROVE


@pytest.fixture(scope="session")
def slack() -> float:
    """What a limit in time is multiplied by, as in the end-to-end tests."""
    return 1.0 if PROVE else 2.5


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    """An origin that nothing is done to."""
    with Origin(tmp_path_factory.mktemp("origin")) as running:
        wait_until("the demo is live", lambda: running.live("demo"), 30)
        yield running


@pytest.fixture(scope="session")
def remote(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RemoteEdge]:
    """A remote edge of that origin."""
    folder = tmp_path_factory.mktemp("remote")
    with RemoteEdge(folder, origin_port=origin.port, key=CACHE, secrets=SECRETS_CONF) as edge:
        yield edge


@pytest.fixture(scope="session")
def in_front(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx on that origin's host."""
    folder = tmp_path_factory.mktemp("in-front")
    with origin_nginx(folder, origin.port) as nginx:
        yield nginx


def origin_nginx(folder: Path, port: int) -> Nginx:
    return Nginx(
        folder,
        "origin",
        replaced={"127.0.0.1:8080": f"127.0.0.1:{port}", "/dev/shm/nexus-nginx": f"{folder}/cache"},
        secrets=SECRETS_CONF,
        key=CACHE,
    )


@pytest.fixture
def browser() -> Iterator[BrowserContext]:
    """A Chromium that the probe may work in."""
    with chromium(probing=True) as context:
        yield context


def link(stream: str = "demo", *, seconds: int = 3_600) -> str:
    """The folder of a signed play link, such as /hls/_k1-…-…/demo."""
    links = PlayLinks((LinkSecret("k1", SECRET),), clock=time.time)
    path = links.make(stream, until_unix=int(time.time()) + seconds)
    return path.removesuffix("/index.m3u8")
